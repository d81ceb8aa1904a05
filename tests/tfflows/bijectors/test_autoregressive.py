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
    # One more than there are entries, to see that nothing changes any more.
    assert np.max(inverse_iterations(few, tf.ones([2, 4]))) <= 5
    counts = inverse_iterations(many, tf.random.stateless_normal([5, 40], [0, 1]))
    assert counts.shape == (1, 5)
    assert 2 < np.max(counts) < 25  # Of up to 40.


def test_a_network_of_another_shape():
    flow = bijectors.Autoregressive(made(4, 3), [4], transforms.Affine())
    with pytest.raises(ValueError, match=r"must return parameters of shape \['\.\.\.', 4, 2\]"):
        flow.forward(tf.ones([2, 4]))


def test_entries_that_overflow_on_the_way_do_not_reach_those_before():
    """From zeros, the second entry is -999.5 at first, and the third then `2 exp(999.5)`."""
    before = tf.constant([[0.0, 1, 0], [0, 0, 1], [0, 0, 0]])  # Of which 0 times infinity is NaN.

    def network(x):
        _, first, second = tf.unstack(x @ before, axis=-1)
        zero = tf.zeros_like(first)
        shift, log_scale = [zero, 1000 * (1 - first), zero], [zero, zero, second]
        return tf.stack([tf.stack(shift, -1), tf.stack(log_scale, -1)], axis=-1)

    flow = bijectors.Autoregressive(network, [3], transforms.Affine("exp"))
    x = flow.inverse(tf.constant([[1.0, 0.5, 2.0]]))
    np.testing.assert_allclose(x, [[1, 0.5, 2 * np.exp(-0.5)]], rtol=1e-6)


def test_splines_of_many_entries_come_back_exactly():
    flow = bijectors.Autoregressive(
        made(30, 11, dtype="float64"), [30], transforms.RationalQuadratic(4), dtype=tf.float64
    )
    x = tf.random.stateless_uniform([4, 30], [0, 1], -4, 4, tf.float64)
    np.testing.assert_allclose(flow.inverse(flow.forward(x)), x, atol=1e-10)


def tokens(inversion="auto", shape=(6, 2), dtype="float32", **kwargs):
    network = networks.CausalTransformer(shape, 2, width=8, depth=1, seed=1, dtype=dtype)
    networks.build_network(network, shape)
    for number, variable in enumerate(network.trainable_variables):
        noise = tf.random.stateless_normal(variable.shape, [3, number], dtype=variable.dtype)
        variable.assign_add(0.2 * noise)
    transform = transforms.Affine("tanh", shift_first=True)
    flow_dtype = "float64" if dtype == "float64" else "float32"
    return bijectors.Autoregressive(
        network, shape, transform, inversion=inversion, dtype=flow_dtype, **kwargs
    )


@pytest.mark.parametrize("dtype", ["float32", "float64", "mixed_bfloat16"])
def test_tokens_come_back_both_ways(dtype):
    x = tf.random.stateless_normal([2, 3, 6, 2], [0, 1], dtype=tokens(dtype=dtype).dtype)
    for inversion in ("parallel", "sequential"):
        flow = tokens(inversion, dtype=dtype)
        y = flow.forward(x)
        found, counts = flow.inverse(y + 0), inverse_iterations(flow, y)
        # To rounding though a network in bfloat16 is: it is the same function there and back.
        np.testing.assert_allclose(found, x, atol=1e-12 if dtype == "float64" else 1e-5)
        assert counts.shape == (1, 2, 3)
        assert inversion == "parallel" or dtype == "mixed_bfloat16" or np.max(counts) <= 2


def test_gradients_of_both_inverses_are_the_same():
    y = tf.random.stateless_normal([3, 6, 2], [0, 1], dtype=tf.float64)
    found = []
    for inversion in ("parallel", "sequential"):
        flow = tokens(inversion, dtype="float64")
        with tf.GradientTape() as tape:
            tape.watch(y)
            x, log_det = evaluation.inverse_and_log_det(flow, y)
            loss = tf.reduce_sum(tf.sin(x)) + tf.reduce_sum(log_det)
        found.append([x, log_det, *tape.gradient(loss, [y, *flow.trainable_variables])])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)


def test_what_counts_iterations_takes_what_the_inverse_takes():
    flow, y = tokens(), tf.zeros([2, 6, 2])
    with pytest.raises(ValueError, match=r"expected `y` with events of shape \[6, 2\]"):
        flow.inverse_iterations(y[:, :5])
    with pytest.raises(TypeError, match="expected `y` of dtype float32"):
        flow.inverse_iterations(tf.cast(y, tf.float64))
    for shape in (None, [None, 2], [6, 0]):
        with pytest.raises(ValueError, match="`event_shape` must be .* Received: event_shape="):
            bijectors.Autoregressive(flow.network, shape, transforms.Affine())


def test_an_inverse_that_is_none_is_nan():
    """A network that is not autoregressive; an event that is too large; one that is NaN."""
    backwards = bijectors.Autoregressive(
        lambda x: 3 * tf.stack([tf.reverse(x, [-1])] * 2, -1), [3], transforms.Affine()
    )
    assert np.isnan(backwards.inverse(tf.ones([2, 3]))).all()
    large = bijectors.Autoregressive(
        lambda x: tf.zeros([*x.shape, 2]) + 200.0, [2], transforms.Affine(lambda h: -h)
    )
    y = tf.constant([[1.0, 2.0], [np.nan, 1.0]])
    assert np.isnan(large.inverse(y)).all()
    assert np.isnan(large.inverse_log_det_jacobian(y, 1)).all()  # Of constants, as they are.
    for inversion in ("parallel", "sequential"):
        flow = tokens(inversion)
        y = tf.constant(np.random.default_rng(0).normal(size=[2, 6, 2]), tf.float32)
        x = flow.inverse(tf.where(tf.range(2)[:, None, None] == 0, np.nan, y))
        np.testing.assert_array_equal(np.isnan(x).all(axis=(1, 2)), [True, False])
        np.testing.assert_allclose(flow.forward(x)[1], y[1], atol=1e-5)


def test_one_token_after_the_other_by_itself_in_graphs_for_a_cpu():
    flow = tokens()
    y = flow.forward(tf.random.stateless_normal([2, 6, 2], [0, 1]))
    assert 3 <= np.max(flow.inverse_iterations(y)) <= 7
    for on, least, most in ((False, 1, 2), (True, 3, 7)):
        with evaluation.for_accelerator(on):
            counts = tf.function(flow.inverse_iterations, autograph=False)(y)
            assert least <= np.max(counts) <= most


def test_inversions_that_are_not_to_be_had():
    half = bijectors.Autoregressive(
        lambda x: tf.zeros([*x.shape, 2], x.dtype), [4], transforms.Affine(), dtype=tf.float16
    )
    with pytest.raises(ValueError, match="`dtype` of events must be float32 or .*dtype=float16"):
        half.inverse(half.forward(tf.zeros([2, 4], tf.float16)) + 1)
    with pytest.raises(ValueError, match='`inversion` must be .* or "sequential". Received: inv'):
        tokens("both")
    with pytest.raises(ValueError, match="`inversion` must be .* has no method `decode`. Received"):
        bijectors.Autoregressive(made(4), [4], transforms.Affine(), inversion="sequential")
