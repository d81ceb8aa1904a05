"""ConvSylvester: round trips, gradients of the inverse, memory."""

import numpy as np
import pytest
import tensorflow as tf

from tfflows import bijectors, evaluation, networks


def conv_sylvester(dtype, scale=0.3):
    network = networks.MaskedConvNet(3, width=12, seed=1, dtype=dtype)
    networks.build_network(network, [4, 5, 3])
    flow = bijectors.ConvSylvester.trainable([4, 5, 3], network, seed=1, dtype=tf.as_dtype(dtype))
    rng = np.random.default_rng(4)
    for variable in flow.trainable_variables:
        variable.assign_add(tf.cast(scale * rng.normal(size=variable.shape), variable.dtype))
    return flow


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [("float32", 1e-5), pytest.param("float64", 1e-10, marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("scale", [pytest.param(0.3, marks=pytest.mark.slow), 10.0])
@pytest.mark.parametrize("jit", [pytest.param(False, marks=pytest.mark.slow), True])
def test_round_trip_of_conv_sylvester_in_a_compiled_graph(dtype, tolerance, scale, jit):
    flow = conv_sylvester(dtype, scale)
    x = tf.constant(np.random.default_rng(5).normal(size=[6, 4, 5, 3]), dtype)
    y, log_det = tf.function(evaluation.forward_and_log_det, jit_compile=jit)(flow, x)
    again, minus = tf.function(evaluation.inverse_and_log_det, jit_compile=jit)(flow, y)
    np.testing.assert_allclose(again, x, rtol=0, atol=tolerance)
    np.testing.assert_allclose(minus, -log_det, rtol=0, atol=10 * tolerance)


@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_gradients_of_the_inverse_of_conv_sylvester(jit):
    rng = np.random.default_rng(8)
    flow = conv_sylvester("float64")
    variables = flow.trainable_variables
    y = tf.Variable(rng.normal(size=[2, 4, 5, 3]))
    weights = rng.normal(size=[2, 4, 5, 3])

    @tf.function(jit_compile=jit)
    def loss_and_gradients():
        with tf.GradientTape() as tape:
            x, log_det = evaluation.inverse_and_log_det(flow, tf.identity(y))
            loss = tf.reduce_sum(weights * x) + tf.reduce_sum(log_det**2)
        return loss, tape.gradient(loss, [y, *variables])

    places = [y, *variables]
    directions = [rng.normal(size=place.shape) for place in places]
    gradients = loss_and_gradients()[1]
    slope = sum(np.sum(g * d) for g, d in zip(gradients, directions, strict=True))
    start, losses = [place.numpy() for place in places], []
    for step in (1e-6, -1e-6):  # Small, so as not to cross the kink of a ReLU.
        for place, value, direction in zip(places, start, directions, strict=True):
            place.assign(value + step * direction)
        losses.append(float(loss_and_gradients()[0]))
    np.testing.assert_allclose(slope, (losses[0] - losses[1]) / 2e-6, rtol=1e-6)


@pytest.mark.parametrize("mode", ["recompute", "invert"])
def test_conv_sylvester_inside_a_block_that_is_recomputed(mode):
    flow = conv_sylvester("float64")
    block = bijectors.Sequential([bijectors.Block([flow]), bijectors.Flip([-1])])
    x = tf.constant(np.random.default_rng(5).normal(size=[2, 4, 5, 3]))

    def gradients(method, mode):
        with tf.GradientTape() as tape, evaluation.memory(mode):
            out, log_det = method(block, x)
            loss = tf.reduce_sum(out**2) + tf.reduce_sum(log_det)
        return tape.gradient(loss, flow.trainable_variables)

    for method in (evaluation.forward_and_log_det, evaluation.inverse_and_log_det):
        for plain, again in zip(gradients(method, "store"), gradients(method, mode), strict=True):
            np.testing.assert_allclose(again, plain, rtol=1e-8, atol=1e-12)
