"""`Dequantized(stddev=...)`: a bound for integers, a sample of them, and noise taken out."""

import numpy as np
import pytest
import scipy.special
import tensorflow as tf
import tensorflow_probability as tfp

from tfflows.distributions import Dequantized, gaussian_noise, standard_normal

tfd = tfp.distributions
LEVELS = 4


def make(stddev, mean=2.0, scale=0.8, levels=LEVELS):
    """One pixel, normal: all integrals are known."""
    density = tfd.Independent(tfd.Normal([np.float64(mean)], [np.float64(scale)]), 1)
    return Dequantized(density, num_levels=levels, stddev=stddev)


def exact(model, levels=LEVELS):
    """`P(x)` of all integers by numerical integration."""
    y = np.linspace(-30, 30, 60001)
    p = model.distribution.prob(y[:, np.newaxis]).numpy()
    distance = (y[:, np.newaxis] - np.arange(levels) - 0.5) / model.stddev
    given = scipy.special.softmax(-0.5 * distance**2, axis=-1)
    return np.trapezoid(p[:, np.newaxis] * given, y, axis=0)


@pytest.mark.parametrize("stddev", [0.3, 1.0])
def test_importance_samples_reach_the_probability_which_sums_to_one(stddev):
    model = make(stddev)
    x = np.arange(LEVELS)[:, np.newaxis]
    truth = exact(model)
    np.testing.assert_allclose(truth.sum(), 1, atol=1e-6)
    repeated = np.tile(x, [1000, 1, 1])
    found = np.exp(model.importance_log_prob(repeated, 100, seed=1)).mean(0)
    np.testing.assert_allclose(found, truth, atol=0.01)
    bound = model.log_prob(repeated, seed=2).numpy().mean(0)
    assert np.all(bound < np.log(truth) + 1e-3)


def test_samples_have_the_probabilities():
    model = make(0.7)
    counts = np.bincount(np.ravel(model.sample(20000, seed=3)), minlength=LEVELS)
    np.testing.assert_allclose(counts / 20000, exact(model), atol=0.015)


def test_without_noise_is_the_posterior_mean():
    model = make(0.8, mean=2.0, scale=np.hypot(0.8, 1.2))  # Of x + 1/2 ~ N(2, 1.2^2).
    y = np.array([[0.0], [2.0], [5.0]])
    share = 1.2**2 / (1.2**2 + 0.8**2)
    np.testing.assert_allclose(model.denoise(y), 2 + share * (y - 2), rtol=1e-12)


def test_noise_is_taken_out_of_a_sample_in_the_graph_that_draws_it():
    flow = tfp.bijectors.Shift(tf.constant([3.0]))
    density = tfd.TransformedDistribution(standard_normal([1]), flow)
    model = Dequantized(density, num_levels=LEVELS, stddev=0.5)

    @tf.function
    def draw():
        y = density.sample(5, seed=[0, 1])
        return y, model.denoise(y)

    y, clean = draw()
    np.testing.assert_allclose(clean, y - 0.25 * (y - 3), rtol=1e-5)


@pytest.mark.parametrize("batch", [(), (3,), (2, 0), (2, 3)])
def test_batch_shapes(batch):
    model = Dequantized(standard_normal([2, 2, 1]), num_levels=17, stddev=0.4)
    x = tf.zeros([*batch, 2, 2, 1], tf.int32)
    noisy, log_s = model.dequantize(x, seed=1)
    assert noisy.shape == x.shape and log_s.shape == batch
    assert model.log_prob(x, seed=1).shape == batch
    assert model.denoise(noisy).shape == x.shape
    assert model.sample(batch, seed=1).shape == x.shape
    assert model.copy(name="other").stddev == 0.4


def test_methods_are_equal_under_xla():
    model = Dequantized(standard_normal([2, 2, 1]), num_levels=256, stddev=6.4)
    y = tf.random.stateless_uniform([4, 2, 2, 1], [0, 1], -20, 276)

    def values(y):
        return gaussian_noise.log_normalizer(y, 6.4, 256), model.denoise(y)

    for eager, compiled in zip(values(y), tf.function(values, jit_compile=True)(y), strict=True):
        np.testing.assert_allclose(eager, compiled, rtol=1e-5, atol=1e-5)


def test_samples_under_xla_have_the_probabilities():
    model = make(0.7)
    samples = tf.function(lambda: model.sample(20000, seed=[0, 3]), jit_compile=True)()
    counts = np.bincount(np.ravel(samples), minlength=LEVELS)
    np.testing.assert_allclose(counts / 20000, exact(model), atol=0.015)


def test_far_from_the_levels_the_normalizer_is_finite():
    model = make(0.01, mean=0.0, scale=1.0)
    y, log_s = model.dequantize([[0], [3]], seed=5)
    assert np.all(np.isfinite(log_s)) and y.shape == [2, 1]
    wide = Dequantized(standard_normal([1]), num_levels=2, stddev=100.0)
    assert np.all(np.isfinite(wide.log_prob([[0], [1]], seed=1)))


def test_what_is_no_integer_is_refused():
    model = make(0.5)
    with pytest.raises(ValueError, match="`x` must be images of integers 0 .. 3"):
        model.log_prob([[0.5]], seed=1)
    compiled = tf.function(lambda x: model.log_prob(x, seed=[0, 1]), jit_compile=True)
    assert np.isnan(compiled(tf.constant([[7.0], [1.0]], tf.float64))).tolist() == [True, False]


@pytest.mark.parametrize("stddev", [0, -1.0, float("nan"), float("inf"), True, "wide"])
def test_what_is_no_standard_deviation_is_refused(stddev):
    with pytest.raises(ValueError, match="`stddev` must be None or positive and finite. Rece"):
        Dequantized(standard_normal([1]), stddev=stddev)
    assert Dequantized(standard_normal([1]), stddev=np.float32(0.5)).stddev == 0.5


def test_two_kinds_of_noise_are_refused():
    with pytest.raises(ValueError, match="`stddev` must be None with a `dequantizer` or `entries`"):
        Dequantized(standard_normal([1]), num_levels=None, entries=[True], stddev=1.0)
    with pytest.raises(ValueError, match="`denoise` is for a `Dequantized` of Gaussian noise"):
        Dequantized(standard_normal([1])).denoise([[0.0]])
