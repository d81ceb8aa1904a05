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


def test_an_arc_between_latents(model):
    x, y = tf.random.stateless_uniform([2, 3, 8, 8, 1], [0, 1], 0.0, 17.0)
    found = analysis.interpolate(model, x, y, 5)
    assert found.shape == (3, 5, 8, 8, 1)
    np.testing.assert_allclose(found[:, 0], x, atol=1e-2)
    np.testing.assert_allclose(found[:, -1], y, atol=1e-2)
    flow = model.bijector.bijector
    latents = tf.reshape(flow.forward(tf.reshape(found, [15, 8, 8, 1])), [3, 5, -1]).numpy()
    norms = np.linalg.norm(latents, axis=-1)
    expected = np.linspace(norms[:, 0], norms[:, -1], 5, axis=1)
    np.testing.assert_allclose(norms, expected, rtol=1e-3)
    unit = latents / norms[..., None]
    steps = np.arccos(np.sum(unit[:, 1:] * unit[:, :-1], -1))
    np.testing.assert_allclose(steps, steps[:, :1] * np.ones(4), rtol=1e-2)
    total = np.arccos(np.sum(unit[:, 0] * unit[:, -1], -1))
    np.testing.assert_allclose(steps.sum(1), total, rtol=1e-2)


def test_ends_of_arcs_that_are_none():
    """The same latent, opposite ones, and 0: on the line."""
    base = distributions.standard_normal([2])
    line = tfp.distributions.TransformedDistribution(base, tfp.bijectors.Scale(1.0))
    x, y = [[1.0, 2.0], [1.0, 0.0], [0.0, 0.0]], [[1.0, 2.0], [-1.0, 0.0], [3.0, 0.0]]
    found = analysis.interpolate(line, x, y, 3).numpy()
    np.testing.assert_allclose(found[:, 0], x, atol=1e-6)
    np.testing.assert_allclose(found[:, -1], y, atol=1e-6)
    np.testing.assert_allclose(found[0, 1], [1, 2], atol=1e-6)
    np.testing.assert_allclose(found[1, 1], [0, 0], atol=1e-6)
    assert np.isfinite(found).all()
    with pytest.raises(ValueError, match="`count` must be 2 or more.*count=1"):
        analysis.interpolate(line, x, y, 1)
    with pytest.raises(ValueError, match=r"one shape.*y.shape=\(2, 2\)"):
        analysis.interpolate(line, x, y[:2], 3)
