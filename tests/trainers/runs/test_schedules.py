"""Warm-ups: their shape, and that a saved optimiser comes back with them."""

import keras
import numpy as np
import pytest

from trainers.runs import schedules


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_warmup_rises_with_its_power(power):
    constant = keras.optimizers.schedules.ExponentialDecay(0.5, 1, 1.0)
    schedule = schedules.Warmup(constant, 4, power=power)
    rates = [float(schedule(step)) for step in range(6)]
    expected = [0.5 * min(1, (step + 1) / 4) ** power for step in range(6)]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)
    config = keras.optimizers.schedules.serialize(schedule)
    again = keras.optimizers.schedules.deserialize(config)
    assert [float(again(step)) for step in range(6)] == rates
