"""Temperature."""

import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import stats

from tfflows import bijectors, distributions

tfb = tfp.bijectors
tfd = tfp.distributions


def affine_model(base=None):
    norm = bijectors.ActNorm(tf.constant([1.0, -2.0]), tf.constant([0.5, -0.5]), event_ndims=1)
    return tfd.TransformedDistribution(base or distributions.standard_normal([2]), tfb.Invert(norm))


def test_temperature_scales_the_deviation_and_keeps_the_mean():
    base = tfd.MultivariateNormalDiag([1.0, -3.0], [2.0, 0.5])
    model = affine_model(base)
    mean = model.bijector.forward(base.mean())
    hot, cold = (distributions.with_temperature(model, t) for t in (1.0, 0.25))
    x, y = hot.sample(100, seed=[1, 1]), cold.sample(100, seed=[1, 1])
    np.testing.assert_allclose(y - mean, 0.25 * (x - mean), rtol=1e-4, atol=1e-5)
    assert np.any(np.abs(x - mean) > 0.5)


def test_temperature_one_changes_nothing_and_any_other_gives_a_density():
    model = affine_model()
    x = model.sample(10, seed=[1, 1])
    same = distributions.with_temperature(model, 1.0)
    np.testing.assert_allclose(same.sample(10, seed=[1, 1]), x, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(same.log_prob(x), model.log_prob(x), rtol=1e-5)
    cold = distributions.with_temperature(model, 0.5)
    scale = 0.5 * np.exp([-0.5, 0.5])
    expected = stats.norm.logpdf(x, [-1.0, 2.0], scale).sum(-1)
    np.testing.assert_allclose(cold.log_prob(x), expected, rtol=1e-4)


def test_temperature_shares_variables():
    base = distributions.trainable_normal([2])
    flow = bijectors.ActNorm.trainable([2])
    model = tfd.TransformedDistribution(base, tfb.Invert(flow))
    cold = distributions.with_temperature(model, 0.5)
    assert {v.ref() for v in cold.trainable_variables} == {
        v.ref() for v in model.trainable_variables
    }


@pytest.mark.parametrize("temperature", [0.5, 2, tf.Variable(0.5, dtype=tf.float64)])
def test_temperature_of_a_float64_model(temperature):
    base = distributions.trainable_normal([3], dtype=tf.float64)
    model = tfd.TransformedDistribution(base, tfb.Scale(tf.constant(2.0, tf.float64)))
    changed = distributions.with_temperature(model, temperature)
    x = changed.sample(4, seed=[1, 1])
    np.testing.assert_allclose(x, float(temperature) * model.sample(4, seed=[1, 1]))
    expected = stats.norm.logpdf(x, 0, 2 * float(temperature)).sum(-1)
    np.testing.assert_allclose(changed.log_prob(tf.identity(x)), expected)


@pytest.mark.parametrize("temperature", [0, -1.0, math.nan, math.inf, None, "1", True])
def test_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match="`temperature` must be positive and finite. Received"):
        distributions.with_temperature(affine_model(), temperature)
