"""Warm-ups: their shape, and that a saved optimiser comes back with them."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
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


def test_a_recipe_of_transformers_is_adamw_with_a_cosine():
    recipe = zoo.Recipe("digits", 8, 100, beta_2=0.95, decay="cosine", warmup_steps=0)
    recipe = dataclasses.replace(recipe, weight_decay=0.5, learning_rate=0.1)
    optimizer = schedules.make_optimizer(
        dataclasses.replace(recipe, final_learning_rate=0.02), steps_per_pass=10
    )
    rates = [float(optimizer._learning_rate(step)) for step in (0, 50, 100, 200)]
    np.testing.assert_allclose(rates, [0.1, 0.06, 0.02, 0.02], rtol=1e-5)
    weight = tf.Variable([2.0])  # As those of bijectors are, not of Keras.
    optimizer.build([weight])
    optimizer.apply([tf.zeros([1])], [weight])
    np.testing.assert_allclose(weight, [2.0 * (1 - 0.1 * 0.5)], rtol=1e-5)
    assert schedules.make_optimizer(zoo.Recipe("digits", 8, 100), 10).weight_decay is None
