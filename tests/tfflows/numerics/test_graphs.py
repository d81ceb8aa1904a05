"""Adjacencies: normalized, and bounds on their norms."""

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfflows import bijectors, numerics


def sparse(graph):
    return tf.sparse.from_dense(tf.constant(graph, tf.float64))


def undirected(nodes, *edges):
    """The matrix of an undirected graph."""
    matrix = np.zeros([nodes, nodes])
    for i, j in edges:
        matrix[i, j] = matrix[j, i] = 1
    return matrix


UNDIRECTED = {
    "star": undirected(31, *((0, i) for i in range(1, 31))),
    "path": undirected(50, *((i, i + 1) for i in range(49))),
    "isolated": undirected(7, (0, 1), (1, 2), (2, 0), (4, 5)),
    "random": np.triu(np.random.default_rng(0).uniform(size=[40, 40]) < 0.1, 1) * 1.0,
}

UNDIRECTED["random"] += UNDIRECTED["random"].T


@pytest.mark.parametrize("kind", [np.asarray, sparse], ids=["dense", "sparse"])
@pytest.mark.parametrize("name", UNDIRECTED)
def test_normalized_adjacency_has_norm_1_and_the_bound_knows(kind, name):
    matrix = UNDIRECTED[name]
    normal = numerics.normalized_adjacency(kind(matrix))
    dense = tf.sparse.to_dense(normal) if kind is sparse else normal
    degree = matrix.sum(axis=1)
    scale = np.where(degree > 0, np.maximum(degree, 1) ** -0.5, 0)
    np.testing.assert_allclose(dense, scale[:, None] * matrix * scale, atol=1e-15)
    assert np.linalg.norm(dense, 2) == pytest.approx(1, abs=1e-12)
    # The cheap bound is sqrt(30) for the star.
    assert 1 <= numerics.adjacency_norm_bound(normal) <= 1.05


@hypothesis.settings(max_examples=50, deadline=None)
@hypothesis.given(
    graph=hnp.arrays(
        np.float32,
        (5, 5),
        elements=st.floats(-1e3, 1e3, width=32, allow_subnormal=False) | st.just(0.0),
    ),
    power=st.integers(-25, 25),
)
def test_norm_bound_is_never_too_small(graph, power):
    graph = np.float32(10.0**power) * graph
    bound = np.asarray(numerics.adjacency_norm_bound(tf.constant(graph)), np.float64)
    magnitude = np.abs(graph.astype(np.float64))
    cheap = np.sqrt(magnitude.sum(axis=0).max() * magnitude.sum(axis=1).max())
    assert np.linalg.norm(graph.astype(np.float64), 2) * (1 - 1e-12) <= bound
    assert bound <= cheap * (1 + 1e-5)


def test_norm_bound_of_no_edges_is_0_with_a_finite_gradient():
    empty = tf.zeros([3, 3])
    with tf.GradientTape() as tape:
        tape.watch(empty)
        bound = numerics.adjacency_norm_bound(empty)
    assert bound == 0
    assert np.all(np.isfinite(tape.gradient(bound, empty)))
    nothing = tf.SparseTensor(np.zeros([0, 2], np.int64), tf.zeros([0]), [3, 3])
    assert numerics.adjacency_norm_bound(nothing) == 0
    flow = bijectors.GraphConvExponential(nothing, 0.5 * tf.eye(2), tf.eye(2))
    np.testing.assert_allclose(flow.forward(tf.ones([3, 2])), np.full([3, 2], np.exp(0.5)), 1e-5)


def test_self_loops():
    loops = numerics.normalized_adjacency(tf.ones([3, 3]) - tf.eye(3), self_loops=True)
    np.testing.assert_allclose(loops, np.full([3, 3], 1 / 3), rtol=1e-6)
    with pytest.raises(ValueError, match="`self_loops` must be False for a sparse"):
        numerics.normalized_adjacency(sparse(np.eye(3)), self_loops=True)
