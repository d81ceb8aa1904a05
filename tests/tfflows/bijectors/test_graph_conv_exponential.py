"""The graph convolution exponential against the dense exponential; graphs of all kinds."""

import hypothesis
import numpy as np
import pytest
import scipy.linalg
import tensorflow as tf
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfflows import bijectors, condition, evaluation


def random_graph(nodes=5, seed=0):
    """A directed, weighted graph with self loops."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=[nodes, nodes]) * (rng.uniform(size=[nodes, nodes]) < 0.5)


def kernels(features=2, seed=1, size=1.0):
    return size * np.random.default_rng(seed).normal(size=[2, features, features])


def dense_operator(graph, self_kernel, neighbor_kernel):
    """The matrix of `X T0 + A X T1` for the features of one node after the other."""
    return np.kron(np.eye(len(graph)), self_kernel.T) + np.kron(graph, neighbor_kernel.T)


def make(graph, kernel_pair=None, **kwargs):
    if not isinstance(graph, tf.SparseTensor):
        graph = tf.constant(graph, tf.float64)
    return bijectors.GraphConvExponential(
        graph, *map(tf.constant, kernels() if kernel_pair is None else kernel_pair), **kwargs
    )


def sparse(graph):
    return tf.sparse.from_dense(tf.constant(graph, tf.float64))


def features(*shape, seed=2):
    return tf.constant(np.random.default_rng(seed).normal(size=shape))


@pytest.mark.parametrize("kind", [np.asarray, sparse], ids=["dense", "sparse"])
@pytest.mark.parametrize("max_norm", [0.3, 0.95, 4.5])
def test_equals_the_dense_matrix_exponential(kind, max_norm):
    graph, x = random_graph(), features(3, 5, 2)
    flow = make(kind(graph), max_norm=max_norm)
    matrix = dense_operator(graph, *map(np.asarray, flow.scaled_kernels()))
    assert 0 < np.linalg.norm(matrix, 2) <= max_norm
    for result, log_det, sign in (
        (flow.forward(x), flow.forward_log_det_jacobian(x), 1),
        (flow.inverse(x), flow.inverse_log_det_jacobian(x), -1),
    ):
        expected = np.reshape(x, [3, -1]) @ scipy.linalg.expm(sign * matrix).T
        np.testing.assert_allclose(np.reshape(result, [3, -1]), expected, rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(log_det, sign * np.trace(matrix), rtol=1e-12)


@pytest.mark.parametrize("jit", [None, True])
def test_without_a_cap_the_kernels_are_used_as_they_are(jit):
    graph, x, pair = random_graph(), features(3, 5, 2), kernels(size=3.0)
    flow = make(graph, [tf.Variable(k) for k in pair], max_norm=None)
    matrix = dense_operator(graph, *pair)
    assert np.linalg.norm(matrix, 2) > 3
    evaluate = evaluation.forward_and_log_det
    evaluate = evaluate if jit is None else tf.function(evaluate, jit_compile=jit)
    y, log_det = evaluate(flow, x)
    expected = np.reshape(x, [3, -1]) @ scipy.linalg.expm(matrix).T
    np.testing.assert_allclose(np.reshape(y, [3, -1]), expected, rtol=1e-10)
    np.testing.assert_allclose(log_det, np.trace(matrix), rtol=1e-12)
    np.testing.assert_allclose(flow.inverse(tf.identity(y)), x, atol=1e-8)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_norm_is_capped_and_small_kernels_are_left_alone(size):
    graph, pair = random_graph(), kernels(size=size)
    flow = make(graph, pair)
    scaled = [np.asarray(k) for k in flow.scaled_kernels()]
    assert np.linalg.norm(dense_operator(graph, *pair), 2) <= flow.norm_bound()
    assert np.linalg.norm(dense_operator(graph, *scaled), 2) <= 0.95
    if size == 1e-3:
        np.testing.assert_array_equal(scaled, pair)


def test_each_graph_of_a_batch_is_as_if_alone():
    graphs, x = np.stack([random_graph(seed=s) * 3.0**s for s in range(3)]), features(3, 5, 2)
    flow = make(graphs)
    assert flow.forward_log_det_jacobian(x).shape == [3]
    for i, graph in enumerate(graphs):
        alone = make(graph)
        np.testing.assert_allclose(flow.forward(x)[i], alone.forward(x[i]), atol=1e-14)
        np.testing.assert_allclose(
            flow.forward_log_det_jacobian(x)[i], alone.forward_log_det_jacobian(x[i]), atol=1e-14
        )
    # Features without a batch go through every graph.
    assert flow.forward(x[0]).shape == [3, 5, 2]


# Padding.


def padded_batch(junk):
    """Graphs of 5, 3 and 1 nodes in a batch, `junk` in the features and edges of padded nodes."""
    sizes, graphs, x = [5, 3, 1], np.full([3, 5, 5], junk), np.full([3, 5, 2], junk)
    alone = []
    for i, size in enumerate(sizes):
        graph, nodes = random_graph(size, seed=i), np.asarray(features(size, 2, seed=i))
        graphs[i, :size, :size], x[i, :size] = graph, nodes
        alone.append((graph, nodes))
    return graphs, x, np.arange(5) < np.array(sizes)[:, None], alone


@pytest.mark.parametrize("junk", [0.0, 1e6, np.nan])
def test_padded_nodes_change_nothing_and_count_nothing(junk):
    graphs, x, mask, alone = padded_batch(junk)
    flow = make(graphs, mask=mask)
    y, log_det = evaluation.forward_and_log_det(flow, tf.constant(x))
    np.testing.assert_array_equal(np.asarray(y)[~mask], x[~mask])
    for i, (graph, nodes) in enumerate(alone):
        single = make(graph)
        np.testing.assert_allclose(y[i, : len(nodes)], single.forward(nodes), atol=1e-14)
        np.testing.assert_allclose(
            log_det[i], single.forward_log_det_jacobian(nodes), rtol=1e-12, atol=1e-14
        )
    np.testing.assert_allclose(flow.inverse(tf.identity(y)), x, atol=1e-13)


def test_padding_leaves_gradients_finite():
    graphs, x, mask, _ = padded_batch(np.nan)
    pair = [tf.Variable(k) for k in kernels()]
    flow = bijectors.GraphConvExponential(tf.constant(graphs), *pair, mask=mask)
    with tf.GradientTape() as tape:
        y, log_det = evaluation.forward_and_log_det(flow, tf.constant(x))
        loss = tf.reduce_sum(tf.where(mask[..., None], y, 0) ** 2) + tf.reduce_sum(log_det)
    for gradient in tape.gradient(loss, pair):
        assert np.all(np.isfinite(gradient))


# Symmetry.


@pytest.mark.parametrize("kind", [np.asarray, sparse], ids=["dense", "sparse"])
def test_equivariant_exactly_where_all_sums_are_of_integers(kind):
    """Nilpotent kernels, integers and a scale of 1/64: no operation rounds, in any order."""
    rng = np.random.default_rng(3)
    graph = rng.integers(-1, 2, size=[6, 6])
    nilpotent = np.array([[[0, 2, 1], [0, 0, 0], [0, 0, 0]], [[0, 0, 3], [0, 0, 1], [0, 0, 0]]])
    x = rng.integers(-8, 9, size=[2, 6, 3])
    order = rng.permutation(6)
    options = {"max_norm": 64.0, "adjacency_norm": 1.0}

    def forward(graph, x):
        flow = make(kind(graph.astype(float)), nilpotent.astype(float), **options)
        return np.asarray(flow.forward(tf.constant(x, tf.float64)))

    y = forward(graph, x)
    np.testing.assert_array_equal(forward(graph[order][:, order], x[:, order]), y[:, order])
    matrix = dense_operator(graph, *nilpotent)
    expected = x.reshape(2, -1) @ scipy.linalg.expm(matrix).T
    np.testing.assert_allclose(y.reshape(2, -1), expected, atol=1e-12)


@hypothesis.settings(max_examples=20, deadline=None)
@hypothesis.given(
    graph=hnp.arrays(np.float64, (4, 4), elements=st.floats(-10, 10)),
    x=hnp.arrays(np.float64, (4, 2), elements=st.floats(-100, 100)),
    order=st.permutations(range(4)),
)
def test_equivariant_to_rounding_for_any_graph(graph, x, order):
    """Sums over other orders round otherwise: a few units in the last place of the largest."""
    order = list(order)
    y = make(graph).forward(tf.constant(x))
    again = make(graph[order][:, order]).forward(tf.constant(x[order]))
    size = max(1.0, np.max(np.abs(x)))
    np.testing.assert_allclose(again, np.asarray(y)[order], rtol=0, atol=1e-13 * size)


# Gradients.


@pytest.mark.parametrize("max_norm", [0.95, 2.5])
def test_gradients_are_those_of_the_plain_series(max_norm):
    """With respect to features, kernels and the graph; in float64 against autodiff."""
    x, target = features(2, 5, 2), features(2, 5, 2, seed=5)
    values = [tf.constant(random_graph()), *map(tf.constant, kernels()), x]

    def plain(graph, self_kernel, neighbor_kernel, x):
        flow = bijectors.GraphConvExponential(graph, self_kernel, neighbor_kernel)
        bound = flow.norm_bound()
        pair = [k / tf.maximum(1.0, bound / max_norm) for k in (self_kernel, neighbor_kernel)]
        y = term = x
        for i in range(1, 40):
            term = (term @ pair[0] + graph @ (term @ pair[1])) / i
            y += term
        return y

    def layer(graph, self_kernel, neighbor_kernel, x):
        return bijectors.GraphConvExponential(
            graph, self_kernel, neighbor_kernel, max_norm=max_norm
        ).forward(x)

    found = []
    for function in (plain, layer):
        with tf.GradientTape() as tape:
            tape.watch(values)
            loss = tf.reduce_sum(function(*values) * target)
        found.append(tape.gradient(loss, values))
    for expected, gradient in zip(*found, strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-10)


def test_entries_of_a_sparse_graph_have_gradients():
    graph, x = random_graph(), features(2, 5, 2)
    edges = np.argwhere(graph)
    start = tf.constant(graph[tuple(edges.T)])
    gradients = []
    for make_graph in (
        lambda v: tf.SparseTensor(edges, v, graph.shape),
        lambda v: tf.scatter_nd(edges, v, graph.shape),
    ):
        with tf.GradientTape() as tape:
            tape.watch(start)
            flow = bijectors.GraphConvExponential(make_graph(start), *map(tf.constant, kernels()))
            y, log_det = evaluation.forward_and_log_det(flow, x)
            loss = tf.reduce_sum(y**2) + log_det
        gradients.append(tape.gradient(loss, start))
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-10)


# The graph.


def test_graphs_may_be_lists_or_integers():
    pair = [tf.eye(2), tf.eye(2)]
    for graph in ([[0, 1], [1, 0]], np.array([[0, 1], [1, 0]])):
        assert bijectors.GraphConvExponential(graph, *pair).forward(tf.ones([2, 2])).shape == [2, 2]


def test_context_is_the_graph():
    graphs = np.stack([random_graph(seed=s) for s in range(3)])
    pair = list(map(tf.constant, kernels()))
    flow = bijectors.GraphConvExponential(None, *pair, conditional=True)
    with pytest.raises(ValueError, match=r"is conditional and has no graph: bind one with"):
        flow.forward(features(3, 5, 2))
    x = features(3, 5, 2)
    bound = condition(flow, tf.constant(graphs))
    np.testing.assert_array_equal(bound.forward(x), make(graphs, pair).forward(x))
    assert condition(flow, tf.constant(graphs[0])).experimental_batch_shape(2) == []


def test_nothing_of_the_size_of_the_terms_is_kept():
    """The backward pass keeps 4 combinations; the forward function returns nothing else for it."""
    flow = bijectors.GraphConvExponential.trainable(
        [None, 2], tf.cast(random_graph(), tf.float32), seed=1, adjacency_norm=1.0
    )

    @tf.function
    def forward(x):
        return flow.forward(x)

    def both(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = forward(x)
        return tape.gradient(y, x)

    graph = tf.function(both).get_concrete_function(tf.TensorSpec([7, 5, 2])).graph
    call = next(op for op in graph.get_operations() if "PartitionedCall" in op.type)
    sizes = [t.shape.num_elements() for t in call.outputs]
    # The output twice, for the caller and the backward pass, and the combinations; what is smaller
    # is of kernels.
    assert sum(size for size in sizes if size >= 70) <= 70 * (2 + 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"graph": np.zeros([2, 3])}, r"`adjacency` must have shape \[\.\.\., N, N\]\. .*\(2, 3\)"),
        ({"kernel_pair": np.zeros([2, 2, 3])}, r"both have shape \[F, F\]\. .*\(2, 3\)"),
        ({"mask": np.ones([4])}, r"`mask` must have shape \[\.\.\., N\]\. .*\(4,\), N=5"),
        ({"max_norm": 0.0}, r"`max_norm` must be positive or None\. Received: max_norm=0\.0"),
        ({"conditional": True}, r"`adjacency` must be given, or be None with conditional=True"),
    ],
    ids=lambda a: next(iter(a)) if isinstance(a, dict) else "",
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**{"graph": random_graph(), **arguments})


def test_bad_sparse_arguments():
    pair = list(map(tf.constant, kernels()))
    with pytest.raises(ValueError, match="`mask` must be None for a sparse `adjacency`"):
        bijectors.GraphConvExponential(sparse(random_graph()), *pair, mask=np.ones([5]))
    with pytest.raises(ValueError, match=r"kernels' dtype, float64\. Received: .*float32"):
        bijectors.GraphConvExponential(tf.zeros([5, 5]), *pair)
