"""The exponential of linear operators: bounds and errors; the values are in the contract suite."""

import numpy as np
import pytest
import scipy.linalg
import tensorflow as tf

from tfflows import bijectors, evaluation


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


def gaussian(size, norm):
    matrix = np.random.default_rng(4).normal(size=[size, size])
    return matrix * (norm / np.linalg.norm(matrix, 2))


@pytest.mark.parametrize(("norm_bound", "jits"), [(None, [False]), (75.0, [False, True])])
def test_values_and_gradients_in_graphs_for_large_bounds(norm_bound, jits):
    """The length of the loop is not known when it is traced, and has no limit but `MOST_STEPS`."""
    matrix = tf.Variable(gaussian(20, 5.6))
    bound = None if norm_bound is None else tf.Variable(norm_bound, dtype=tf.float64)
    flow = bijectors.MatvecExponential(tf.linalg.LinearOperatorFullMatrix(matrix), norm_bound=bound)
    x = tf.constant(np.random.default_rng(5).normal(size=[3, 20]))

    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y, log_det = evaluation.forward_and_log_det(flow, x)
            loss = tf.reduce_sum(tf.sin(y)) + log_det
        return y, log_det, *tape.gradient(loss, [x, matrix])

    eager = run(x)
    np.testing.assert_allclose(eager[0], x @ scipy.linalg.expm(matrix.numpy()).T, rtol=1e-10)
    np.testing.assert_allclose(eager[1], np.trace(matrix.numpy()))
    for jit in jits:
        for actual, desired in zip(tf.function(run, jit_compile=jit)(x), eager, strict=True):
            np.testing.assert_allclose(actual, desired, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("size", "jit"), [(1e5, None), (3e9, False), (np.nan, True)])
def test_a_norm_beyond_the_limit_gives_nan(size, jit):
    matrix = tf.Variable([[0.0, size], [-size, 0.0]])
    kernel = tf.Variable(tf.fill([1, 1, 2, 2], size))
    for flow, shape in (
        (bijectors.MatvecExponential(tf.linalg.LinearOperatorFullMatrix(matrix)), [2]),
        (bijectors.ConvExponential(kernel, max_norm=None), [2, 2, 2]),
    ):
        evaluate = evaluation.forward_and_log_det
        evaluate = evaluate if jit is None else tf.function(evaluate, jit_compile=jit)
        for value in evaluate(flow, tf.ones([3, *shape])):
            assert np.all(np.isnan(value))


def test_each_variable_is_read_once():
    parts = [tf.linalg.LinearOperatorFullMatrix(tf.Variable(gaussian(3, 0.9))) for _ in range(2)]
    flow = bijectors.MatvecExponential(tf.linalg.LinearOperatorKronecker(parts))

    @tf.function
    def evaluate(x):
        return evaluation.forward_and_log_det(flow, x)

    graph = evaluate.get_concrete_function(tf.ones([4, 9], tf.float64)).graph
    reads = [op for op in graph.get_operations() if op.type == "ReadVariableOp"]
    assert len(reads) == 2
