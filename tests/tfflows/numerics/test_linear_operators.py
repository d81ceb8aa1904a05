"""Bounds on the norms of linear operators."""

import numpy as np
import pytest
import tensorflow as tf

from tfflows import numerics


def operators():
    rng = np.random.default_rng(3)
    column, row = rng.normal(size=[2, 4])
    row[0] = column[0]
    dense = tf.linalg.LinearOperatorFullMatrix(rng.normal(size=[3, 3]))
    diagonal = tf.linalg.LinearOperatorDiag(rng.normal(size=[4]))
    return [
        dense,
        tf.linalg.LinearOperatorLowerTriangular(rng.normal(size=[4, 4])),
        tf.linalg.LinearOperatorToeplitz(column, row),
        diagonal,
        tf.linalg.LinearOperatorKronecker([dense, diagonal]),
        tf.linalg.LinearOperatorComposition([diagonal, diagonal]),
        tf.linalg.LinearOperatorBlockDiag([dense, diagonal]),
        tf.linalg.LinearOperatorScaledIdentity(3, tf.constant(-2.0, tf.float64)),
    ]


@pytest.mark.parametrize("operator", operators(), ids=lambda o: type(o).__name__)
def test_bound_is_never_below_the_norm(operator):
    norm = np.linalg.norm(operator.to_dense(), 2)
    bound = float(numerics.operator_norm_bound(operator))
    assert norm * (1 - 1e-12) <= bound <= 4 * norm


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bounds_of_random_matrices_are_tight(dtype):
    """`sqrt(|M|_1 |M|_inf)`, or the sum over the diagonals, is more than ten times as large."""
    rng = np.random.default_rng(6)
    dense, column, row = (rng.normal(size=size).astype(dtype) for size in ([400, 400], 400, 400))
    row[0] = column[0]
    for operator, looseness in (
        (tf.linalg.LinearOperatorFullMatrix(dense), 1.2),
        (tf.linalg.LinearOperatorToeplitz(column, row), 2.0),  # Of sequences without an end.
    ):
        norm = np.linalg.norm(np.float64(operator.to_dense()), 2)
        assert norm <= numerics.operator_norm_bound(operator) <= looseness * norm
    batch = np.stack([dense[:5, :5], 1e-20 * dense[5:10, :5], np.eye(5), np.zeros([5, 5])])
    bound = numerics.operator_norm_bound(tf.linalg.LinearOperatorFullMatrix(batch.astype(dtype)))
    norms = np.linalg.norm(batch, 2, axis=(-2, -1))
    assert np.all((norms <= bound) & (bound <= 1.05 * norms))
