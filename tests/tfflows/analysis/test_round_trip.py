"""Errors of round trips, and iterations of inverses."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.tfflows.residual_flows import inputs
from tests.tfflows.small_flows import coupling, images
from tfflows import analysis, bijectors

tfb = tfp.bijectors


def test_round_trip_error_is_not_answered_from_memory():
    class Broken(bijectors.FlowBijector):
        def __init__(self):
            super().__init__(forward_min_event_ndims=1, parameters={})

        def _forward_and_log_det(self, x):
            return x + 1.0, tf.zeros([])

        def _inverse_and_log_det(self, y):
            return y, tf.zeros([])

    np.testing.assert_allclose(analysis.round_trip_error(Broken(), tf.zeros([3, 2])), tf.ones([3]))
    assert np.max(analysis.round_trip_error(coupling(), images())) < 1e-5


@pytest.mark.parametrize("jit", [False, True])
def test_round_trip_error_of_an_inverse_that_is_nan_is_nan(jit):
    x = tf.constant([[1.0, 2.0], [1.0, -1.0]])
    flow = tfb.Inline(
        forward_fn=lambda x: x,
        inverse_fn=tf.math.log,
        forward_min_event_ndims=1,
        is_constant_jacobian=True,
    )
    error = tf.function(lambda x: analysis.round_trip_error(flow, x), jit_compile=jit)(x)
    np.testing.assert_array_equal(np.isnan(error), [False, True])
    assert error[0] > 1.0


def test_iterations_are_counted_by_layer_and_event():
    """`x + a x = y` from `x = y`: each iteration multiplies the error by `a`."""
    layers = [
        bijectors.ResidualFlow(lambda x, a=a: a * x, [2], dtype=tf.float64) for a in (0.5, 0.0, 0.9)
    ]
    flow = bijectors.Sequential([layers[0], tfb.Scale(tf.constant(2.0, tf.float64)), *layers[1:]])
    counts = analysis.inverse_iterations(flow, inputs([2], 3, tf.float64)).numpy()
    assert counts.shape == (3, 3)
    assert np.all(counts[1] <= 2)
    # To 1e-10 or so: log(1e-10) / log(0.5) = 33, log(1e-10) / log(0.9) = 219.
    assert np.all((counts[0] > 25) & (counts[0] < 60))
    assert np.all((counts[2] > 150) & (counts[2] < 400))
    none = analysis.inverse_iterations(tfb.Scale(tf.constant(2.0)), tf.ones([4, 2]))
    assert none.shape == (0, 4)
