import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import tfflows
from tfflows import bijectors, networks
from tfflows.analysis import check_calibration, coverage

# theta ~ N(0, 1), y ~ N(theta, 1): the posterior is N(y / 2, 1 / 2).
WIDTH = 0.5**0.5


@pytest.fixture(scope="module")
def simulated():
    truth = tfd.Normal(0.0, 1.0).sample([2000, 2], seed=1)
    return truth, truth + tfd.Normal(0.0, 1.0).sample([2000, 2], seed=2)


def posterior(y, width=1.0, shift=0.0):
    return tfd.Independent(tfd.Normal(y / 2 + shift, width * WIDTH), 1)


def test_the_exact_posterior_is_calibrated(simulated):
    truth, y = simulated
    result = check_calibration(posterior(y), truth, num_samples=49, seed=3)
    assert result.ranks.shape == (2000, 2)
    assert result.levels.shape == (2000,)
    assert result.bound == pytest.approx(0.0364, abs=1e-4)
    assert np.all(result.rank_error < result.bound)
    assert result.level_error < result.bound
    np.testing.assert_allclose(coverage(result.levels, [0.5, 0.9]), [0.5, 0.9], atol=0.03)


@pytest.mark.parametrize("width", [0.5, 2.0])
def test_widths_that_are_wrong_show(simulated, width):
    truth, y = simulated
    result = check_calibration(posterior(y, width), truth, num_samples=49, seed=3)
    assert np.all(result.rank_error > 2 * result.bound)
    assert result.level_error > 2 * result.bound
    # Of two independent entries: the region of mass p has radius^2 = -2 log(1 - p).
    expected = 1 - (1 - 0.5) ** (width**2)
    assert coverage(result.levels, 0.5) == pytest.approx(expected, abs=0.04)
    middle = np.mean(np.abs(result.ranks / 49 - 0.5) < 0.25)
    assert middle > 0.6 if width > 1 else middle < 0.4


def test_a_shift_leans_the_ranks(simulated):
    truth, y = simulated
    result = check_calibration(posterior(y, shift=[0.5, 0.0]), truth, num_samples=49, seed=3)
    assert result.rank_error[0] > 5 * result.bound
    assert result.rank_error[1] < result.bound
    # Truth less sample is N(-1/2, 1): P(sample < truth) = Phi(-1/2).
    assert np.mean(result.ranks[:, 0] / 49) == pytest.approx(0.3085, abs=0.02)


def test_extremes_and_grid():
    truth = tf.constant([[-9.0], [9.0], [0.0]])
    standard = tfd.MultivariateNormalDiag(tf.zeros([3, 1]))
    result = check_calibration(standard, truth, num_samples=9, seed=1)
    assert list(result.ranks[:2, 0]) == [0, 9]
    assert list(result.levels[:2]) == [1.0, 1.0]
    assert 0.1 <= result.levels[2] < 0.5
    # (1 + 2) / 10 in floating point is not 3 / 10.
    levels = (1 + np.arange(10)) / 10
    np.testing.assert_allclose(coverage(levels, levels), levels, rtol=1e-12)


def test_conditional_models_and_events_of_any_rank():
    network = networks.MLP(4, width=4, depth=1, seed=1)
    networks.build_network(network, [1], context_shape=[2])
    affine = bijectors.transforms.Affine()
    flow = bijectors.Coupling(network, [3], affine, conditional=True, context_ndims=1)
    base = tfflows.distributions.standard_normal([3])
    density = tfd.TransformedDistribution(base, tfb.Invert(flow))
    context = tf.random.stateless_normal([500, 2], [1, 2])
    truth = tfflows.condition(density, context).sample(seed=3)
    result = check_calibration(tfflows.condition(density, context), truth, seed=4)
    assert max(*result.rank_error, result.level_error) < result.bound
    images = tfd.Independent(tfd.Normal(tf.zeros([5, 2, 2, 1]), 1.0), 3)
    assert check_calibration(images, tf.zeros([5, 2, 2, 1]), 3, seed=1).ranks.shape == (5, 4)


@pytest.mark.parametrize(
    "distribution, truth, num_samples, message",
    [
        (tfd.MultivariateNormalDiag(tf.zeros([2])), tf.zeros([3, 2]), 9, "`posterior` must have a"),
        (tfd.MultivariateNormalDiag(tf.zeros([4, 2])), tf.zeros([3, 2]), 9, "batch_shape=\\(4,\\)"),
        (tfd.MultivariateNormalDiag(tf.zeros([3, 2])), tf.zeros([3, 1]), 9, "truth.shape=\\(3, 1"),
        (tfd.MultivariateNormalDiag(tf.zeros([3, 2])), tf.zeros([3, 2]), 0, "num_samples=0"),
        (tfd.MultivariateNormalDiag(tf.zeros([0, 2])), tf.zeros([0, 2]), 9, "1 or more"),
        (tfd.Categorical(tf.zeros([3, 2])), tf.zeros([3]), 9, "real numbers"),
        (tfd.Normal(tf.zeros([2]), 1.0), [0.0, np.nan], 9, "`truth` must be numbers"),
        (tfd.Normal([0.0, np.nan], 1.0), [0.0, 0.0], 9, "samples of `posterior`"),
    ],
)
def test_errors(distribution, truth, num_samples, message):
    with pytest.raises(ValueError, match=message):
        check_calibration(distribution, truth, num_samples)
