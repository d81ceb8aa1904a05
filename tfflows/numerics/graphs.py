"""Adjacency matrices of graphs, dense or sparse: products, norm, trace, normalisation."""

from typing import TypeAlias

import numpy as np
import tensorflow as tf

from tfflows.numerics import linalg
from tfflows.numerics.parameters import as_data
from tfflows.types import TensorLike

Adjacency: TypeAlias = tf.Tensor | tf.SparseTensor
AdjacencyLike: TypeAlias = TensorLike | tf.SparseTensor

_ITERATIONS = 8


def normalized_adjacency(adjacency: AdjacencyLike, self_loops: bool = False) -> Adjacency:
    """Returns the symmetric normalisation `D^-1/2 A D^-1/2`, with `D` the sums of the rows.

    For a symmetric `A` without negative entries its operator norm is 1 (0 for a graph without
    edges), and so `adjacency_norm=1.0` is right for `GraphConvExponential`. Rows of nodes without
    edges, such as padding, stay 0.

    Args:
      adjacency: `[..., N, N]`, or a floating `tf.SparseTensor` `[N, N]`; symmetric, not negative.
      self_loops: whether to add 1 to the diagonal first; for dense matrices.

    Returns:
      A matrix of the same kind.

    Raises:
      ValueError: if `self_loops` is asked for a sparse matrix.

    #### Example

    ```python
    import tensorflow as tf
    import tfflows

    path = tf.constant([[0., 1., 0.], [1., 0., 1.], [0., 1., 0.]])
    tfflows.numerics.normalized_adjacency(path)[0]  # [0, 0.707, 0]
    ```

    #### References

    Kipf, Welling, *Semi-Supervised Classification with Graph Convolutional Networks*, ICLR 2017,
    arXiv:1609.02907.
    """
    adjacency = _as_adjacency(adjacency)
    if self_loops:
        if is_sparse(adjacency):
            raise ValueError(
                "`self_loops` must be False for a sparse `adjacency`: give it with its diagonal. "
                "Received: self_loops=True."
            )
        adjacency = adjacency + tf.eye(adjacency.shape[-1], dtype=adjacency.dtype)
    ones = tf.ones([adjacency.shape[-1], 1], adjacency.dtype)
    degree = neighbor_sum(adjacency, ones)
    # Only of positive degrees: the root of 0 has no finite gradient.
    scale = tf.where(degree > 0, tf.math.rsqrt(tf.where(degree > 0, degree, 1)), 0)
    return scale_entries(adjacency, scale)


def adjacency_norm_bound(adjacency: AdjacencyLike) -> tf.Tensor:
    """Returns a certified upper bound on the operator norm of an adjacency matrix.

    With `B = |A|^T |A|` and any positive vector `p`, by the test of Schur,

        |A|_2 <= | |A| |_2 <= max_j sqrt((B p)_j / p_j)

    For `p = 1` that is at most `sqrt(|A|_1 |A|_inf)`. It is improved by 8 iterations `p <- B p`,
    which converge to the norm of `|A|`, that of `A` for a matrix without negative entries. Any
    smaller number that is returned comes from one of these `p`, so it is no estimate but a bound.

    Rounding: a sum of N terms that are not negative has a relative error of at most `N eps / 2`,
    and the ratio has two of them: the bound is multiplied by `1 + eps (N + 4)`. Entries are divided
    by the largest and `p` is kept above `1e-6`, so that nothing underflows.

    Args:
      adjacency: `[..., N, N]` or a `tf.SparseTensor` `[N, N]`.

    Returns:
      `[...]`; 0 for a graph without edges.

    #### References

    Schur, *Bemerkungen zur Theorie der beschraenkten Bilinearformen mit unendlich vielen
    Veraenderlichen*, Journal fuer die reine und angewandte Mathematik 140, 1911.
    """
    adjacency = _as_adjacency(adjacency)
    magnitude = tf.abs(values_of(adjacency))
    axes = None if is_sparse(adjacency) else [-2, -1]
    largest = tf.reduce_max(magnitude, axes, keepdims=True)
    if is_sparse(adjacency):
        largest = tf.maximum(largest, 0)  # The maximum over no edges is -inf.
    matrix = with_values(adjacency, tf.math.divide_no_nan(magnitude, largest))
    p = tf.ones([adjacency.shape[-1], 1], adjacency.dtype)
    bounds = []
    for _ in range(_ITERATIONS):
        product = neighbor_sum(transpose(matrix), neighbor_sum(matrix, p))
        bounds.append(tf.reduce_max(product / p, axis=[-2, -1]))
        top = tf.reduce_max(product, axis=[-2, -1], keepdims=True)
        p = tf.stop_gradient(tf.maximum(tf.math.divide_no_nan(product, top), 1e-6))
    squared = tf.reduce_min(tf.stack(bounds), axis=0)
    eps = np.finfo(adjacency.dtype.as_numpy_dtype).eps
    factor = tf.cast(1 + eps * (adjacency.shape[-1] + 4), squared.dtype)
    positive = squared > 0  # The root of 0 has no finite gradient.
    root = tf.where(positive, tf.sqrt(tf.where(positive, squared, 1)), 0)
    return factor * tf.reshape(largest, tf.shape(root)) * root


def _as_adjacency(adjacency: AdjacencyLike) -> Adjacency:
    """Returns a matrix as it is; arrays and lists as a `Tensor`, of floats if they are integers."""
    if is_sparse(adjacency):
        return adjacency
    is_floating = isinstance(adjacency, np.ndarray) and adjacency.dtype.kind == "f"
    return as_data(adjacency, None if is_floating else tf.float32)


def neighbor_sum(adjacency: Adjacency, x: tf.Tensor) -> tf.Tensor:
    """Returns `A x`, the sum over the neighbours of each node.

    A sparse matrix costs a product and a sum for every edge; unlike
    `tf.sparse.sparse_dense_matmul`, XLA compiles it.

    Args:
      adjacency: `[..., N, N]` or a `tf.SparseTensor` `[N, N]`, its entries in any order.
      x: `[..., N, F]`.
    """
    if not is_sparse(adjacency):
        return linalg.matmul(adjacency, x)
    size, features = x.shape[-2:]
    rows, columns = tf.unstack(adjacency.indices, axis=-1)
    # Nodes first: gathering and summing then move whole rows.
    nodes = tf.transpose(tf.reshape(x, [-1, size, features]), [1, 0, 2])
    messages = adjacency.values[:, tf.newaxis, tf.newaxis] * tf.gather(nodes, columns)
    sums = tf.math.unsorted_segment_sum(messages, rows, size)
    return tf.reshape(tf.transpose(sums, [1, 0, 2]), tf.shape(x))


def trace(adjacency: Adjacency) -> tf.Tensor:
    """Returns the sum of the diagonal, `[...]`."""
    if not is_sparse(adjacency):
        return tf.linalg.trace(adjacency)
    rows, columns = tf.unstack(adjacency.indices, axis=-1)
    return tf.reduce_sum(tf.where(rows == columns, adjacency.values, 0))


def transpose(adjacency: Adjacency) -> Adjacency:
    """Returns `A^T`; the entries of a sparse one are not in order."""
    if not is_sparse(adjacency):
        return tf.linalg.matrix_transpose(adjacency)
    indices = tf.reverse(adjacency.indices, axis=[-1])
    return tf.SparseTensor(indices, adjacency.values, adjacency.shape)


def scale_entries(adjacency: Adjacency, scale: tf.Tensor) -> Adjacency:
    """Returns `diag(s) A diag(s)` for a column `s` `[..., N, 1]`."""
    if not is_sparse(adjacency):
        return scale * adjacency * tf.linalg.matrix_transpose(scale)
    ends = tf.gather(scale[:, 0], adjacency.indices)
    return with_values(adjacency, adjacency.values * tf.reduce_prod(ends, axis=-1))


def values_of(adjacency: Adjacency) -> tf.Tensor:
    """Returns what a matrix depends on: the matrix itself, or the entries of a sparse one."""
    return adjacency.values if is_sparse(adjacency) else adjacency


def with_values(adjacency: Adjacency, values: tf.Tensor) -> Adjacency:
    """Returns a matrix with other values, see `values_of`."""
    if not is_sparse(adjacency):
        return values
    return tf.SparseTensor(adjacency.indices, values, adjacency.shape)


def is_sparse(adjacency: AdjacencyLike) -> bool:
    """Returns whether a matrix is a `tf.SparseTensor`."""
    return isinstance(adjacency, tf.SparseTensor)
