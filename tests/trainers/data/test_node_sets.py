"""trainers.data.node_sets: exact densities of sets, and entropies that no model goes below."""

import itertools
import math

import numpy as np
import pytest

from trainers.data import node_sets

each_set = pytest.mark.parametrize("name", node_sets.NAMES)


def means(name):
    axis = [-5, 5] if name.startswith("mog4") else [-5, 5, 15]
    return np.array(list(itertools.product(axis, axis)), float)


@each_set
def test_samples_are_sets_with_a_node_for_each_mean(name):
    x = node_sets.sample(name, 2000, seed=1).astype(float)
    centers = means(name)
    assert x.shape == (2000, len(centers), 2)
    assert x.shape[1] == node_sets.num_nodes(name)
    # Rotation keeps radii; sorted, they are those of the means.
    radii = np.sort(np.linalg.norm(x, axis=-1))
    expected = np.sort(np.linalg.norm(centers, axis=-1))
    np.testing.assert_allclose((radii**2).mean(0).sum(), (expected**2 + 2).sum(), rtol=0.01)
    if not name.endswith("_ring"):
        nearest = np.linalg.norm(x[:, :, None] - centers, axis=-1).argmin(-1)
        assert (np.sort(nearest) == np.arange(len(centers))).all()
        # In random order: every node is in every place, with the frequencies of chance.
        counts = np.array([np.bincount(column, minlength=len(centers)) for column in nearest.T])
        chance = 2000 / len(centers)
        assert (abs(counts - chance) < 5 * chance**0.5).all()
    else:
        angles = np.angle(x[..., 0] + 1j * x[..., 1]).ravel()
        assert np.ptp(angles) > 6


@pytest.mark.parametrize("name", ["mog4", "mog4_ring"])
def test_density_is_the_sum_over_all_orders_and_angles(name):
    rng = np.random.default_rng(0)
    x = node_sets.sample(name, 5, seed=2) + rng.normal(size=[5, 4, 2])
    turns = 500 if name.endswith("_ring") else 1
    total = np.zeros(5)
    for angle in math.pi * (np.arange(turns) + 0.5) / turns:
        c, s = np.cos(angle), np.sin(angle)
        rotated = means(name) @ ([[c, s], [-s, c]] if turns > 1 else np.eye(2))
        for order in itertools.permutations(range(4)):
            squares = ((x - rotated[list(order)]) ** 2).sum((1, 2))
            total += np.exp(-squares / 2) / (2 * math.pi) ** 4 / 24 / turns
    np.testing.assert_allclose(node_sets.log_prob(name, x), np.log(total), rtol=1e-6)


def test_density_of_nine_nodes_where_it_can_be_told():
    """At the means, and with two nodes at one of them: a product over the other seven."""
    x = means("mog9")[None]
    alone = -9 * math.log(2 * math.pi) - math.lgamma(10)
    assert node_sets.log_prob("mog9", x)[0] == pytest.approx(alone, abs=1e-10)
    x[0, 0] = x[0, 1]  # 10 away from its own mean; either of the two may be the one that is.
    assert node_sets.log_prob("mog9", x)[0] == pytest.approx(alone - 50 + math.log(2), abs=1e-10)


@each_set
def test_density_knows_no_order(name):
    x = node_sets.sample(name, 20, seed=3).astype(float)
    shuffled = x[:, np.random.default_rng(0).permutation(x.shape[1])]
    np.testing.assert_allclose(
        node_sets.log_prob(name, shuffled), node_sets.log_prob(name, x), rtol=1e-12
    )


def test_rotation_of_a_square_by_a_right_angle_changes_nothing():
    x = node_sets.sample("mog4_ring", 20, seed=3).astype(float)
    turned = np.stack([-x[..., 1], x[..., 0]], axis=-1)
    np.testing.assert_allclose(
        node_sets.log_prob("mog4_ring", turned), node_sets.log_prob("mog4_ring", x), rtol=1e-12
    )


def surprise(name, num, seed):
    """`-log p` of sets, less what is known to have the mean 0, so that few are enough.

    That is, for noise `e`, the `|e|^2 / 2` about its mean, and in a ring what its part `d` along
    the rotation takes from that: with the angle unknown, `-log p` is nearly
    `constant + |e|^2 / 2 - d^2 / 2`.
    """
    rng, centers = np.random.default_rng(seed), means(name) @ [1, 1j]
    noise = rng.normal(size=[num, len(centers), 2]) @ [1, 1j]
    known = (abs(noise) ** 2).sum(1) / 2 - len(centers)
    x = centers + noise
    if name.endswith("_ring"):
        x = x * np.exp(1j * rng.uniform(0, math.pi, [num, 1]))
        along = (noise * (1j * centers).conj()).real.sum(1) / np.linalg.norm(centers)
        known -= (along**2 - 1) / 2
    return -node_sets.log_prob(name, np.stack([x.real, x.imag], -1)) - known


@each_set
def test_entropy_is_that_of_the_density(name):
    num = 200 if name == "mog9_ring" else 2000
    values = surprise(name, num, seed=0)
    error = values.std() / num**0.5 + 2e-3  # And that of the constants.
    assert abs(values.mean() - node_sets.entropy(name)) < 4 * error
    assert error < 0.02


def test_entropies_of_the_paper_per_node():
    per_node = [node_sets.entropy(n) / node_sets.num_nodes(n) for n in node_sets.NAMES]
    np.testing.assert_allclose(per_node, [3.632, 4.260, 4.0525, 4.6429], atol=5e-4)


@each_set
def test_the_same_arguments_give_the_same_sets(name):
    x = node_sets.sample(name, 50, seed=3)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, node_sets.sample(name, 50, seed=3))
    for seed in (4, (3, 0), (3, 1), (0, 3)):
        assert np.any(x != node_sets.sample(name, 50, seed=seed))


@each_set
def test_far_sets_have_no_density_and_no_nan(name):
    log_prob = node_sets.log_prob(name, np.full([2, node_sets.num_nodes(name), 2], 1e4))
    assert log_prob.shape == (2,)
    assert (log_prob < -1000).all()
    assert np.isfinite(log_prob).all()


def test_wrong_arguments():
    match = r"`name` must be one of mog4, .*, mog9_ring\. Received: name='mog5'"
    for function in (node_sets.entropy, node_sets.num_nodes, lambda n: node_sets.sample(n, 3, 0)):
        with pytest.raises(ValueError, match=match):
            function("mog5")
    with pytest.raises(ValueError, match=r"`x` must be sets \[N, 4, 2\]\..*\(3, 2\)"):
        node_sets.log_prob("mog4", np.zeros([3, 2]))
