"""Standard and trainable normal bases."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tfflows import distributions


def test_standard_normal_matches_scipy():
    base = distributions.standard_normal([2, 3], tf.float64)
    x = np.random.default_rng(0).normal(size=[4, 2, 3])
    assert base.event_shape == [2, 3]
    assert base.dtype == tf.float64
    np.testing.assert_allclose(base.log_prob(x), stats.norm.logpdf(x).sum((1, 2)), rtol=1e-12)


@pytest.mark.parametrize("per_channel", [True, False])
def test_trainable_normal_has_variables_and_matches_scipy(per_channel):
    base = distributions.trainable_normal([2, 2, 3], per_channel=per_channel, dtype=tf.float64)
    shape = [1, 1, 3] if per_channel else [2, 2, 3]
    variables = {v.name.split(":")[0]: v for v in base.trainable_variables}
    assert {k: v.shape.as_list() for k, v in variables.items()} == {
        "base_loc": shape,
        "base_log_scale": shape,
    }
    x = np.random.default_rng(0).normal(size=[4, 2, 2, 3])
    np.testing.assert_allclose(base.log_prob(x), stats.norm.logpdf(x).sum((1, 2, 3)), rtol=1e-12)
    rng = np.random.default_rng(1)
    loc, log_scale = rng.normal(size=shape), rng.normal(size=shape)
    variables["base_loc"].assign(loc)
    variables["base_log_scale"].assign(log_scale)
    expected = stats.norm.logpdf(x, loc, np.exp(log_scale)).sum((1, 2, 3))
    np.testing.assert_allclose(base.log_prob(x), expected, rtol=1e-12)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(base.log_prob(x))
    for gradient in tape.gradient(loss, base.trainable_variables):
        assert np.any(gradient != 0)
    assert base.sample(2, seed=[1, 1]).shape == [2, 2, 2, 3]
