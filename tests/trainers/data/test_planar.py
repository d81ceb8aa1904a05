"""trainers.data.planar: densities that integrate to 1, and samplers that draw from just them."""

import functools

import numpy as np
import pytest
from scipy import stats

from trainers.data import planar

EDGES = np.arange(-6, 6.25, 0.25)
each_set = pytest.mark.parametrize("name", planar.NAMES)


@functools.cache
def bin_probabilities(name):
    """Integrals of the density over the bins between EDGES, by the midpoint rule."""
    axis = np.arange(-6, 6, 0.05) + 0.025
    points = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)
    density = np.exp(planar.log_prob(name, points.reshape(-1, 2))) * 0.05**2
    return density.reshape(48, 5, 48, 5).sum(axis=(1, 3))


@each_set
def test_density_integrates_to_one(name):
    assert bin_probabilities(name).sum() == pytest.approx(1, abs=1e-6)


@each_set
def test_samples_are_from_the_density(name):
    num = 50_000
    counts, *_ = np.histogram2d(*planar.sample(name, num, seed=1).T, bins=EDGES)
    expected = num * bin_probabilities(name)
    rare = expected < 5
    # The rare bins are taken as one, which may be empty, and then has to be in both.
    counts, expected = (np.append(n[~rare], n[rare].sum()) for n in (counts, expected))
    statistic = ((counts - expected) ** 2 / expected.clip(1e-9)).sum()
    assert 1e-3 < stats.chi2.sf(statistic, df=len(counts) - 1) < 1 - 1e-3


@each_set
def test_entropy_is_that_of_samples(name):
    surprise = -planar.log_prob(name, planar.sample(name, 20_000, seed=2))
    error = surprise.mean() - planar.entropy(name)
    assert abs(error) <= 4 * surprise.std() / 20_000**0.5 + 1e-12


@pytest.mark.parametrize("name", sorted({*planar.NAMES} - {"checkerboard"}))
def test_entropy_is_that_of_another_lattice(name):
    axis = np.arange(-6.5, 6.5, 0.06)
    log_prob = planar.log_prob(name, np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2))
    entropy = -(np.exp(log_prob) * log_prob).sum() * 0.06**2
    assert planar.entropy(name) == pytest.approx(entropy, abs=1e-6)


def test_entropy_of_checkerboard():
    assert planar.entropy("checkerboard") == pytest.approx(np.log(32), abs=1e-15)


def test_checkerboard_is_uniform_on_its_squares():
    x = np.array([[-3, -3], [-3, 3], [-3, 1], [5, 5], [4.5, 3], [3, 3], [4, 4]])
    inside = np.isfinite(planar.log_prob("checkerboard", x))
    np.testing.assert_array_equal(inside, [True, False, True, False, False, True, False])
    points = planar.sample("checkerboard", 1_000_000, seed=0)
    assert np.isfinite(planar.log_prob("checkerboard", points)).all()


@each_set
def test_the_same_arguments_give_the_same_points(name):
    points = planar.sample(name, 50, seed=3)
    assert points.shape == (50, 2)
    assert points.dtype == np.float32
    np.testing.assert_array_equal(points, planar.sample(name, 50, seed=3))
    others = [planar.sample(name, 50, seed=s) for s in (4, (3, 0), (3, 1), (0, 3))]
    for i, first in enumerate([points, *others]):
        for second in others[i:]:
            assert np.any(first != second)


@each_set
def test_sets_are_of_comparable_size(name):
    points = planar.sample(name, 10_000, seed=0)
    assert (np.abs(points) < 5).all()
    assert (points.std(axis=0) > 1).all()
    assert (points.std(axis=0) < 2.4).all()


@each_set
def test_far_points_have_no_density_and_no_nan(name):
    log_prob = planar.log_prob(name, [[1e4, -1e4], [50, 0]])
    assert log_prob.shape == (2,)
    assert (log_prob < -1000).all()
    assert planar.log_prob(name, np.zeros([0, 2])).shape == (0,)


def test_wrong_arguments():
    match = r"`name` must be one of checkerboard, .*, cosine\. Received: name='moons'"
    for function in (planar.entropy, lambda n: planar.sample(n, 3, 0)):
        with pytest.raises(ValueError, match=match):
            function("moons")
    with pytest.raises(ValueError, match=match):
        planar.log_prob("moons", [[0, 0]])
    with pytest.raises(ValueError, match=r"`x` must be points \[N, 2\]\..*\(2,\)"):
        planar.log_prob("rings", [0, 0])
