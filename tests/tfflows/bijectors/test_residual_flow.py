"""ResidualFlow: its estimators against the exact log-det, its seeds, its inverse."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.tfflows.residual_flows import flow, inputs
from tfflows import FlowModel, bijectors, distributions, evaluation
from tfflows.evaluation import estimating, forward_and_log_det

tfb = tfp.bijectors
tfd = tfp.distributions


class Steep(tf.Module):
    """`0.65 U tanh(V x)` with rotations at first: its Jacobian is near 0.65 at small inputs."""

    def __init__(self):
        super().__init__()
        rng = np.random.default_rng(4)
        self.u, self.v = (tf.Variable(np.linalg.qr(rng.normal(size=[3, 3]))[0]) for _ in range(2))

    def __call__(self, x):
        return 0.65 * tf.linalg.matvec(self.u, tf.tanh(tf.linalg.matvec(self.v, x)))


def steep(log_det, **kwargs):
    return bijectors.ResidualFlow(Steep(), [3], log_det=log_det, dtype=tf.float64, **kwargs)


def log_det_and_gradients(layer, x):
    """Returns the log-det of one event and its gradients with respect to input and variables."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        _, log_det = forward_and_log_det(layer, x)
        total = tf.reduce_sum(log_det)
    return [total, *tape.gradient(total, [x, *layer.trainable_variables], None, "zero")]


def estimates(layer, x, count):
    """Returns `count` estimates of the log-det and of all its derivatives, `[count, n]`."""

    def one(seed):
        with estimating(tf.stack([17, seed])):
            values = log_det_and_gradients(layer, x)
        return tf.concat([tf.reshape(v, [-1]) for v in values], axis=0)

    return tf.function(lambda: tf.map_fn(one, tf.range(count), fn_output_signature=tf.float64))()


def assert_mean(samples, expected):
    """The mean of the samples is within five standard errors of what is expected, each."""
    samples = samples.numpy()
    error = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
    assert np.all(np.abs(samples.mean(axis=0) - expected) <= 5 * error + 1e-12)
    # And the test would see an error of a tenth.
    assert 10 * error[0] < np.abs(expected[0])


@pytest.mark.parametrize("kwargs", [{}, {"num_terms": 1, "stop_probability": 0.3}], ids=str)
def test_value_and_gradient_of_the_estimator_are_unbiased(kwargs):
    layer, x = steep("unbiased", **kwargs), inputs()
    exact = log_det_and_gradients(steep("exact"), x)
    expected = np.concatenate([np.reshape(v, [-1]) for v in exact])
    assert expected.shape == (1 + 3 + 18,)
    assert np.all(expected != 0)
    assert_mean(estimates(layer, x, 4000), expected)


def test_the_series_leaves_out_what_it_says():
    """With one term, the mean is the trace: far from the log-det, as the test can tell."""
    layer, x = steep("series", num_terms=1), inputs()
    with tf.GradientTape() as tape:
        tape.watch(x)
        g = layer.network(x)
    jacobian = tape.batch_jacobian(g, x)[0].numpy()
    samples = estimates(layer, x, 4000)[:, :1]
    assert_mean(samples, [np.trace(jacobian)])
    exact = np.linalg.slogdet(np.eye(3) + jacobian)[1]
    with pytest.raises(AssertionError):
        assert_mean(samples, [exact])
    many = steep("series", num_terms=60)
    noise = estimates(many, x, 1)[0, 0]  # One sample of v^T log(I + J) v.
    with estimating(1, num_terms=60):
        same = estimates(layer, x, 1)[0, 0]
    np.testing.assert_allclose(same, noise, rtol=1e-12)


def test_exact_log_det_of_images():
    shape = (3, 2, 2)
    layer, x = flow(shape), inputs(shape, 2)
    assert layer.log_det == "exact"
    with tf.GradientTape() as tape:
        tape.watch(x)
        y, log_det = forward_and_log_det(layer, x)
    jacobian = tf.reshape(tape.batch_jacobian(y, x), [2, 12, 12])
    np.testing.assert_allclose(log_det, np.linalg.slogdet(jacobian)[1], rtol=1e-12)


def test_the_default_depends_on_the_size():
    assert flow((32,)).log_det == "exact"
    assert flow((33,)).log_det == "unbiased"


@pytest.mark.parametrize("jit", [False, True])
def test_noise_follows_from_the_seeds(jit):
    shape = (33,)
    x = inputs(shape, 4, tf.float32)
    layers = [flow(shape, dtype=tf.float32, seed=seed) for seed in (0, 1)]

    @tf.function(jit_compile=jit)
    def evaluate(seed):
        kernel = layers[0].trainable_variables[0]
        with tf.GradientTape() as tape, estimating(seed):
            first, second = (forward_and_log_det(layer, x)[1] for layer in layers)
        return first, second, tape.gradient(first, kernel)

    (a, b, slope), again, (a_next, _, slope_next) = (
        evaluate(tf.constant([5, s])) for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(a, again[0])
    np.testing.assert_array_equal(slope, again[2])
    for other in (b, a_next):
        assert np.all(a.numpy() != other.numpy())
    assert np.unique(a).size == 4
    assert np.any(slope != slope_next)


def test_noise_is_fresh_where_no_seed_is_set():
    layer, x = flow((33,)), inputs((33,))
    draw = tf.function(lambda: forward_and_log_det(layer, x)[1])
    assert draw() != draw()
    assert forward_and_log_det(layer, x)[1] != forward_and_log_det(layer, x)[1]
    with estimating(1), estimating(num_terms=4):
        inner = forward_and_log_det(layer, x)[1]
    with estimating(1, num_terms=4):
        np.testing.assert_array_equal(forward_and_log_det(layer, x)[1], inner)
    with estimating(1):
        assert forward_and_log_det(layer, x)[1] != inner


def test_more_terms_lower_the_variance():
    layer, x = steep("unbiased", num_terms=1, stop_probability=0.9), inputs()
    rough = estimates(layer, x, 1000)[:, 0]
    with estimating(num_terms=20):
        fine = estimates(layer, x, 1000)[:, 0]
    assert np.var(fine) < 0.8 * np.var(rough)


def test_log_prob_of_images_takes_its_noise_from_the_seed():
    shape = (4, 4, 3)
    base = distributions.standard_normal(shape)
    density = tfd.TransformedDistribution(base, tfb.Invert(flow(shape, dtype=tf.float32)))
    model = distributions.Dequantized(density, num_levels=4)
    x = tf.ones([2, *shape], tf.uint8)
    first, again, other = (model.log_prob(tf.identity(x), seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.all(first.numpy() != other.numpy())
    bound = model.importance_log_prob(x, 3, seed=[0, 1])
    assert np.all(np.isfinite(bound))


@pytest.mark.parametrize("memory", [pytest.param("store", marks=pytest.mark.slow), "recompute"])
def test_steps_of_training_repeat_and_differ(memory):
    shape = (33,)

    def losses(seed):
        layer = flow(shape, dtype=tf.float32, stretch=0.3)
        base = distributions.standard_normal(shape)
        density = tfd.TransformedDistribution(base, tfb.Invert(layer))
        model = FlowModel(density, units="nats", seed=seed, memory=memory)
        model.compile("sgd")
        model.optimizer.learning_rate = 0.0  # What differs from step to step is the noise.
        x = inputs(shape, 4, tf.float32)
        return [model.train_on_batch(x)[0] for _ in range(2)] + [model]

    *first, model = losses(1)
    *again, _ = losses(1)
    *other, _ = losses(2)
    assert first == again
    assert first[0] != first[1]
    assert other[0] != first[0]
    if memory == "recompute":  # The second evaluation draws the noise of the first.
        x = inputs(shape, 4, tf.float32)
        gradients = []
        for mode in ("store", "recompute", "invert"):
            with tf.GradientTape() as tape, evaluation.memory(mode), estimating(3):
                loss = tf.reduce_sum(model.distribution.log_prob(tf.identity(x)))
            gradients.append(tape.gradient(loss, model.trainable_variables))
        for a, *others in zip(*gradients, strict=True):
            for b in others:
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_inverse_of_a_steep_flow():
    """A linear network of norm 0.98, for which the iteration is at its slowest."""
    matrix = np.diag([0.98, -0.98, 0.5])
    layer = bijectors.ResidualFlow(lambda x: tf.linalg.matvec(matrix, x), [3], dtype=tf.float64)
    x = inputs(count=4)
    y = tf.identity(layer.forward(x))
    np.testing.assert_allclose(y, x @ (np.eye(3) + matrix), rtol=1e-12)
    np.testing.assert_allclose(
        layer.forward_log_det_jacobian(x), np.full(4, np.log(1.98 * 0.02 * 1.5))
    )
    strict = layer.copy(max_iterations=3000)
    np.testing.assert_allclose(tf.function(strict.inverse)(y), x, atol=1e-10)
    assert np.all(np.isnan(layer.copy(max_iterations=5).inverse(y)))


def test_gradient_of_the_inverse():
    layer, y = flow(), inputs(count=2)
    x = layer.inverse(y)
    with tf.GradientTape() as tape:
        tape.watch(y)
        x = layer.inverse(tf.identity(y))
    found = tape.batch_jacobian(x, y)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y_again = layer.forward(tf.identity(x))
    np.testing.assert_allclose(
        found, np.linalg.inv(tape.batch_jacobian(y_again, x)), rtol=1e-8, atol=1e-10
    )


@pytest.mark.parametrize("jit", [False, True])
def test_exact_log_det_in_a_vectorised_map(jit):
    layer, x = flow(dtype=tf.float64), inputs(count=4)

    @tf.function(jit_compile=jit)
    def mapped(x):
        return tf.vectorized_map(
            layer.forward_log_det_jacobian, x, fallback_to_while_loop=False, warn=False
        )

    np.testing.assert_allclose(mapped(x), layer.forward_log_det_jacobian(x), atol=1e-12)


def test_errors_name_the_parameter():
    def identity(x):
        return x

    for kwargs, message in (
        ({"log_det": "none"}, r"`log_det` must be .*log_det='none'"),
        ({"num_terms": 0}, r"`num_terms` must be at least 1. Received: num_terms=0"),
        ({"stop_probability": 1.0}, r"`stop_probability` must .*stop_probability=1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            bijectors.ResidualFlow(identity, [3], **kwargs)
    wide = bijectors.ResidualFlow(lambda x: tf.concat([x, x], -1), [3])
    with pytest.raises(ValueError, match=r"`network` of `ResidualFlow` must return .*\(1, 6\)"):
        wide.forward(tf.zeros([1, 3]))
