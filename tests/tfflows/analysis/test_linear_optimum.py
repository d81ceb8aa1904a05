"""Closed-form optima of linear and quasi-linear flows."""

import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfflows import analysis, distributions

tfb = tfp.bijectors
tfd = tfp.distributions


def gaussian_data(count=4000, size=5):
    rng = np.random.default_rng(0)
    return rng.normal(size=[count, size]) @ rng.normal(size=[size, size]) + 3.0


def mean_log_prob(flow, x):
    base = distributions.standard_normal([x.shape[-1]])
    model = tfd.TransformedDistribution(base, tfb.Invert(flow))
    return float(tf.reduce_mean(model.log_prob(tf.constant(x, tf.float32))))


def test_ppca_flow_is_the_maximum_likelihood_gaussian():
    x = gaussian_data()
    flow = analysis.ppca_flow(x)
    covariance = np.cov(x.T, bias=True)
    optimum = -0.5 * (5 * math.log(2 * math.pi) + 5 + np.linalg.slogdet(covariance)[1])
    assert mean_log_prob(flow, x) == pytest.approx(optimum, abs=1e-4)
    z = flow.forward(tf.constant(x, tf.float32)).numpy()
    np.testing.assert_allclose(z.mean(axis=0), np.zeros(5), atol=1e-3)
    np.testing.assert_allclose(np.cov(z.T, bias=True), np.eye(5), atol=1e-3)


def test_no_other_whitening_does_better():
    x = gaussian_data()
    best = mean_log_prob(analysis.ppca_flow(x), x)
    losses = [best - mean_log_prob(analysis.ppca_flow(x, rank=r), x) for r in range(5)]
    assert all(a > b > -1e-4 for a, b in zip(losses, losses[1:], strict=False))
    assert mean_log_prob(analysis.ppca_flow(x, noise_variance=0.1), x) < best


def test_rank_leaves_the_mean_of_the_small_eigenvalues():
    x = gaussian_data()
    values = analysis.ppca_flow(x).eigenvalues.numpy()
    cut = analysis.ppca_flow(x, rank=2).eigenvalues.numpy()
    np.testing.assert_allclose(cut[:2], values[:2], rtol=1e-6)
    np.testing.assert_allclose(cut[2:], values[2:].mean(), rtol=1e-6)


def test_batches_give_what_the_whole_gives():
    x = gaussian_data()
    whole, parts = analysis.ppca_flow(x), analysis.ppca_flow(np.array_split(x, 7))
    np.testing.assert_allclose(whole.eigenvalues, parts.eigenvalues, rtol=1e-5)
    dataset = tf.data.Dataset.from_tensor_slices(x).batch(300)
    assert analysis.quasi_linear_optimum(dataset, 0.1) == pytest.approx(
        analysis.quasi_linear_optimum(x, 0.1)
    )


def test_quasi_linear_optimum_against_the_eigenvalues():
    x, v = gaussian_data(20), 0.3
    values = [np.linalg.eigvalsh(np.outer(e, e) + v * np.eye(5)) for e in x]
    expected = -0.5 * (5 * math.log(2 * math.pi) + 5 + np.mean(np.sum(np.log(values), axis=1)))
    assert analysis.quasi_linear_optimum(x, v) == pytest.approx(expected, rel=1e-9)
    centered = analysis.quasi_linear_optimum(x - x.mean(0), v)
    assert analysis.quasi_linear_optimum(x, v, center=x.mean(0)) == pytest.approx(centered)


def test_quasi_linear_optimum_diverges_without_a_floor():
    x = gaussian_data(50)
    values = [analysis.quasi_linear_optimum(x, v) for v in (1e-2, 1e-4, 1e-6)]
    step = 2 * math.log(100)  # (d - 1) / 2 times the logarithm of the ratio of the floors.
    np.testing.assert_allclose(np.diff(values), step, rtol=1e-2)


def test_wrong_arguments():
    x = gaussian_data(50)
    with pytest.raises(ValueError, match="`noise_variance` must be positive"):
        analysis.quasi_linear_optimum(x, 0.0)
    with pytest.raises(ValueError, match="`rank` must be at least 0"):
        analysis.ppca_flow(x, rank=5)
    with pytest.raises(ValueError, match="singular"):
        analysis.ppca_flow(x[:3])
    with pytest.raises(ValueError, match="`data` must have at least one event"):
        analysis.ppca_flow([])


@pytest.mark.data
def test_cifar10_anchor():
    """The full-covariance Gaussian has 4.552 bits/dim on the CIFAR-10 training set."""
    tfds = pytest.importorskip("tensorflow_datasets")
    dataset = tfds.load("cifar10", split="train", download=False).batch(1000)
    flow = analysis.ppca_flow((e["image"].numpy() + 0.5 for e in dataset), noise_variance=1 / 12)
    size = 3072
    log_prob = -0.5 * (
        size * math.log(2 * math.pi) + size + np.log(flow.eigenvalues.numpy().astype(float)).sum()
    )
    assert analysis.bits_per_dim(log_prob, size) == pytest.approx(4.552, abs=5e-4)
