"""ConvTriangularTanh: triangular, with the diagonal that it says; slopes of a bounded tanh."""

import numpy as np
import pytest
import tensorflow as tf

from tfflows import bijectors
from tfflows.bijectors import triangular
from tfflows.bijectors.triangular import ConvTriangularTanh

SHAPE = (3, 4, 2)


def function(scale=1.0):
    made = ConvTriangularTanh.trainable([None, None, 2], seed=1, dtype=tf.float64)
    rng = np.random.default_rng(0)
    for variable in made.trainable_variables:
        variable.assign_add(scale * rng.normal(size=variable.shape))
    return made


def inputs(count=3):
    return tf.constant(np.random.default_rng(1).normal(size=[count, *SHAPE]))


def test_jacobian_is_triangular_with_the_diagonal_returned():
    u = inputs()
    with tf.GradientTape() as tape:
        tape.watch(u)
        value, diagonal = function()(u)
    jacobian = tf.reshape(tape.batch_jacobian(value, u), [3, 24, 24]).numpy()
    np.testing.assert_array_equal(jacobian, np.tril(jacobian))
    assert np.count_nonzero(jacobian[0]) > 100
    np.testing.assert_allclose(
        np.diagonal(jacobian, axis1=1, axis2=2), np.reshape(diagonal, [3, 24]), rtol=1e-12
    )
    assert np.all(np.abs(diagonal) < 1)


def test_makes_a_sylvester_flow_that_starts_as_the_identity():
    basis = bijectors.ConvExponential.trainable(SHAPE, seed=2, dtype=tf.float64)
    x = inputs()
    start = ConvTriangularTanh.trainable([None, None, 2], seed=1, dtype=tf.float64)
    np.testing.assert_array_equal(bijectors.Sylvester(basis, start).forward(x), x)
    flow = bijectors.Sylvester(basis, function())
    assert len(flow.trainable_variables) == 4
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = flow.forward(x)
    jacobian = tf.reshape(tape.batch_jacobian(y, x), [3, 24, 24])
    np.testing.assert_allclose(
        flow.forward_log_det_jacobian(x, 3), np.linalg.slogdet(jacobian)[1], rtol=1e-9
    )
    np.testing.assert_allclose(flow.inverse(tf.identity(y)), x, atol=1e-9)


def test_errors_name_the_parameter():
    kernel = tf.zeros([3, 3, 2, 2])
    with pytest.raises(ValueError, match=r"`r2` must have shape .*\(3, 3, 1, 2\)"):
        ConvTriangularTanh(kernel, kernel[:, :, :1], tf.zeros([2]))


def test_slope_of_bounded_tanh_is_below_one_half():
    heads = 50 * np.random.default_rng(6).normal(size=[3, 2, 2, 8])
    u = tf.constant(np.random.default_rng(7).normal(size=[3, 2, 2, 2]))
    with tf.GradientTape() as tape:
        tape.watch(u)
        value, diagonal = triangular.BoundedTanh(lambda u: tf.constant(heads))(u)
    assert np.max(np.abs(diagonal)) <= 0.5
    np.testing.assert_allclose(tape.gradient(value, u), diagonal, rtol=1e-12)
