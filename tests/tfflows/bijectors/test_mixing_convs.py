"""Emerging, periodic and Woodbury layers alike: gradients, precision, errors."""

import numpy as np
import pytest
import tensorflow as tf

from tests.tfflows.bijectors.mixing_convs import DTYPE, emerging, moved, periodic, woodbury
from tfflows import bijectors
from tfflows.evaluation import inverse_and_log_det


def test_even_kernel_sizes_are_refused():
    with pytest.raises(ValueError, match=r"`kernel_size` must be odd. Received: kernel_size=2"):
        bijectors.EmergingConv.trainable([None, None, 3], kernel_size=2)
    with pytest.raises(ValueError, match=r"`kernel` must have odd spatial sizes. Received: kernel"):
        bijectors.PeriodicConv.trainable([None, None, 3], kernel_size=2)


FLOWS = {
    "emerging_square": emerging,
    "emerging_raster": lambda: emerging(mask="raster"),
    "periodic": periodic,
    "woodbury": lambda: woodbury(rank=2, channel_rank=1),
}


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("name", FLOWS)
def test_gradients_through_the_inverse_are_those_of_finite_differences(name, jit):
    flow = FLOWS[name]()
    y = tf.Variable(tf.random.stateless_normal([2, 3, 4, 2], [1, 2], dtype=DTYPE))
    variables = [y, *flow.trainable_variables]

    @tf.function(jit_compile=jit)
    def value_and_gradients():
        with tf.GradientTape() as tape:
            x, log_det = inverse_and_log_det(flow, y)
            loss = tf.reduce_sum(tf.sin(x)) + log_det
        return loss, tape.gradient(loss, variables)

    _, gradients = value_and_gradients()
    rng = np.random.default_rng(3)
    for variable, gradient in zip(variables, gradients, strict=True):
        for _ in range(3):
            direction = rng.normal(size=variable.shape)
            values = []
            for step in (1e-5, -2e-5):
                variable.assign_add(step * direction)
                values.append(value_and_gradients()[0])
            variable.assign_add(1e-5 * direction)
            expected = (values[0] - values[1]) / 2e-5
            actual = tf.reduce_sum(gradient * direction)
            np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", FLOWS)
def test_float32_round_trip(name):
    shape = [16, 16, 12]
    make = {
        "emerging_square": lambda: bijectors.EmergingConv.trainable([None, None, 12], seed=1),
        "emerging_raster": lambda: bijectors.EmergingConv.trainable(
            [None, None, 12], mask="raster", seed=1
        ),
        "periodic": lambda: bijectors.PeriodicConv.trainable([None, None, 12], seed=1),
        "woodbury": lambda: bijectors.WoodburyConv.trainable(shape, channel_rank=4, seed=1),
    }[name]
    flow = moved(make(), 0.02)
    x = tf.random.stateless_normal([4, *shape], [1, 2])
    error = np.max(np.abs(flow.inverse(tf.identity(flow.forward(x))) - x))
    assert error < 2e-5
