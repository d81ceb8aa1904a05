"""Latents of some levels drawn anew."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import zoo
from tfflows import analysis, distributions


@pytest.fixture(scope="module")
def model():
    model = zoo.create("balanced.digits", steps=(1, 1), width=4)
    for variable in model.trainable_variables:
        variable.assign_add(0.05 * tf.random.stateless_normal(variable.shape, [1, 2]))
    return model


def test_levels_that_are_kept_keep_their_latents(model):
    x = tf.random.stateless_uniform([3, 8, 8, 1], [0, 1], 0.0, 17.0)
    flow = model.bijector.bijector
    before = flow.split_latents(flow.forward(x))
    for levels in ([0], [1], [0, 1], []):
        changed = analysis.resample_levels(model, x, levels, seed=[1, 1])
        after = flow.split_latents(flow.forward(changed))
        for level, (old, new) in enumerate(zip(before, after, strict=True)):
            same = np.max(np.abs(old - new)) < 1e-3
            assert same == (level not in levels)
    np.testing.assert_allclose(analysis.resample_levels(model, x, []), x, atol=1e-2)


def test_wrong_model_and_levels(model):
    x = tf.zeros([1, 8, 8, 1])
    with pytest.raises(ValueError, match="`levels` must be numbers from 0 to 1"):
        analysis.resample_levels(model, x, [2])
    base = distributions.standard_normal([4])
    other = tfp.distributions.TransformedDistribution(base, tfp.bijectors.Scale(2.0))
    with pytest.raises(ValueError, match="`model` must have the bijector"):
        analysis.resample_levels(other, tf.zeros([1, 4]), [0])
