"""The exponential of linear operators: bounds and errors; the values are in the contract suite."""

import numpy as np
import pytest
import scipy.linalg
import tensorflow as tf

from tfflows import bijectors


@pytest.mark.parametrize("norm", [0.01, 1.0, 20.0])
def test_equals_the_dense_matrix_exponential(norm):
    matrix = np.random.default_rng(1).normal(size=[6, 6])
    matrix *= norm / np.linalg.norm(matrix, 2)
    flow = bijectors.MatvecExponential(tf.linalg.LinearOperatorFullMatrix(matrix))
    x = np.random.default_rng(2).normal(size=[3, 6])
    expected = x @ scipy.linalg.expm(matrix).T
    np.testing.assert_allclose(
        flow.forward(x), expected, rtol=0, atol=1e-11 * np.abs(expected).max()
    )
    np.testing.assert_allclose(flow.forward_log_det_jacobian(x), np.trace(matrix), rtol=1e-12)


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
    bound = float(bijectors.operator_norm_bound(operator))
    assert norm * (1 - 1e-12) <= bound <= 4 * norm


def test_own_operator_needs_a_bound():
    class Own(tf.linalg.LinearOperator):
        def __init__(self):
            super().__init__(tf.float32, is_square=True)

        def _shape(self):
            return tf.TensorShape([3, 3])

        def _shape_tensor(self):
            return tf.constant([3, 3])

        def _matmul(self, x, adjoint=False, adjoint_arg=False):
            return 2 * x

        def _trace(self):
            return tf.constant(6.0)

    with pytest.raises(ValueError, match=r"`norm_bound` must be given: .* Own"):
        bijectors.MatvecExponential(Own())
    flow = bijectors.MatvecExponential(Own(), norm_bound=2.0)
    np.testing.assert_allclose(flow.forward(tf.ones([3])), np.exp(2.0) * np.ones(3), rtol=1e-5)
    assert float(flow.forward_log_det_jacobian(tf.ones([3]))) == 6.0


def test_operator_must_be_square():
    with pytest.raises(ValueError, match="`operator` must be square"):
        bijectors.MatvecExponential(tf.linalg.LinearOperatorFullMatrix(np.ones([2, 3])))
