"""Autoregressive: what TFP's masked autoregressive flow computes, and its inverse, any size."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfflows import bijectors, condition, evaluation, networks
from tfflows.analysis import inverse_iterations
from tfflows.bijectors import transforms

tfb = tfp.bijectors


def made(size, num_params=2, context=None, scale=0.05, dtype="float32"):
    network = networks.MaskedMLP(
        size, num_params, width=16, seed=1, context_size=context, dtype=dtype
    )
    network = networks.build_network(network, [size], context and [context])
    for number, variable in enumerate(network.trainable_variables):
        noise = tf.random.stateless_normal(variable.shape, [3, number], dtype=variable.dtype)
        variable.assign_add(scale * noise)
    return network


def test_computes_what_the_flow_of_tfp_does():
    network = made(5)
    flow = bijectors.Autoregressive(network, [5], transforms.Affine("exp"))
    x = tf.random.stateless_normal([7, 5], [0, 1])

    def shift_and_log_scale(x):  # Of the other direction.
        shift, log_scale = tf.unstack(network(x), axis=-1)
        return -shift * tf.exp(-log_scale), -log_scale

    reference = tfb.Invert(tfb.MaskedAutoregressiveFlow(shift_and_log_scale))
    y = flow.forward(x)
    np.testing.assert_allclose(y, reference.forward(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        flow.forward_log_det_jacobian(x), reference.forward_log_det_jacobian(x), rtol=1e-5
    )
    np.testing.assert_allclose(flow.inverse(tf.identity(y)), x, atol=1e-5)


@pytest.mark.parametrize("size", [3, 30])
@pytest.mark.parametrize("jit", [False, True])
def test_gradients_of_the_inverse_are_those_of_the_implicit_function(size, jit):
    """Both ways: entry by entry, and all entries at once."""
    flow = bijectors.Autoregressive(
        made(size, dtype="float64", scale=0.02), [size], transforms.Affine(), dtype=tf.float64
    )
    y = tf.random.stateless_normal([size], [0, 1], dtype=tf.float64)

    @tf.function(jit_compile=jit, autograph=False)
    def gradient(y):
        with tf.GradientTape() as tape:
            tape.watch(y)
            x = flow.inverse(y)
            loss = tf.reduce_sum(tf.sin(x))
        return tape.gradient(loss, [y, *flow.trainable_variables]), x

    (of_y, *_), x = gradient(y)
    with tf.GradientTape() as tape:
        tape.watch(x)
        z = flow.forward(x)
    jacobian = tape.jacobian(z, x)
    np.testing.assert_allclose(z, y, atol=1e-12)
    expected = np.linalg.solve(np.transpose(jacobian), np.cos(x))
    np.testing.assert_allclose(of_y, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [(), (2,), (2, 3), (0,)])
def test_any_batch_shape(shape):
    flow = bijectors.Autoregressive(made(4, 11), [4], transforms.RationalQuadratic(4))
    x = tf.random.stateless_normal([*shape, 4], [0, 1])
    y, log_det = evaluation.forward_and_log_det(flow, x)
    assert (y.shape, log_det.shape) == ((*shape, 4), shape)
    np.testing.assert_allclose(flow.inverse(tf.identity(y)), x, atol=1e-5)


def test_a_context_reaches_every_entry():
    flow = bijectors.Autoregressive(made(4, context=2), [4], transforms.Affine(), conditional=True)
    x = tf.ones([3, 4])
    ys = [condition(flow, value * tf.ones([3, 2])).forward(x) for value in (0.0, 1.0)]
    assert np.all(np.abs(ys[0] - ys[1]) > 1e-4)


def test_counts_evaluations_of_the_inverse():
    few, many = (
        bijectors.Autoregressive(made(size), [size], transforms.Affine()) for size in (4, 40)
    )
    assert np.max(inverse_iterations(few, tf.ones([2, 4]))) <= 4
    counts = inverse_iterations(many, tf.random.stateless_normal([5, 40], [0, 1]))
    assert counts.shape == (1, 5)
    assert 2 < np.max(counts) < 25  # Of up to 40.


def test_a_network_of_another_shape():
    flow = bijectors.Autoregressive(made(4, 3), [4], transforms.Affine())
    with pytest.raises(ValueError, match=r"must return parameters of shape \['\.\.\.', 4, 2\]"):
        flow.forward(tf.ones([2, 4]))


def test_entries_that_overflow_on_the_way_do_not_reach_those_before():
    """From zeros, the second entry is `exp(300)` times the first until the first is its own."""

    def network(x):
        log_scale = tf.stack([tf.zeros_like(x[..., 0]), 200 * x[..., 0]], axis=-1)
        return tf.stack([tf.ones_like(x), log_scale], axis=-1)

    flow = bijectors.Autoregressive(network, [2], transforms.Affine("exp"))
    x = flow.inverse(tf.constant([[-0.9, 1.0], [2.0, 1.0]]))
    np.testing.assert_allclose(x[:, 0], [-1.9, 1.0], rtol=1e-6)
    assert np.isfinite(x).all()


def test_splines_of_many_entries_come_back_exactly():
    flow = bijectors.Autoregressive(
        made(30, 11, dtype="float64"), [30], transforms.RationalQuadratic(4), dtype=tf.float64
    )
    x = tf.random.stateless_uniform([4, 30], [0, 1], -4, 4, tf.float64)
    np.testing.assert_allclose(flow.inverse(flow.forward(x)), x, atol=1e-10)
