"""The convolution exponential against the dense matrix exponential, its symmetry and its errors."""

import numpy as np
import pytest
import scipy.linalg
import tensorflow as tf

from tfflows import bijectors


def dense_operator(kernel, height, width, padding):
    """Returns the matrix of the cross-correlation, entry by entry, without TensorFlow."""
    kh, kw, channels, _ = kernel.shape
    matrix = np.zeros([height, width, channels, height, width, channels])
    for row, column, dy, dx in np.ndindex(height, width, kh, kw):
        y, x = row + dy - kh // 2, column + dx - kw // 2
        if padding == "periodic":
            y, x = y % height, x % width
        elif not (0 <= y < height and 0 <= x < width):
            continue
        matrix[row, column, :, y, x, :] += kernel[dy, dx].T
    return matrix.reshape([height * width * channels] * 2)


@pytest.mark.parametrize("padding", ["zero", "periodic"])
@pytest.mark.parametrize("size", [(1, 1), (3, 3), (5, 5), (3, 5)], ids=str)
@pytest.mark.parametrize("norm", [0.01, 0.9, 6.0, 20.0])
def test_equals_the_dense_matrix_exponential(size, padding, norm):
    rng = np.random.default_rng(1)
    kernel = rng.normal(size=[*size, 2, 2])
    matrix = dense_operator(kernel, 4, 3, padding)
    scale = norm / np.linalg.norm(matrix, 2)
    kernel, matrix = scale * kernel, scale * matrix
    x = rng.normal(size=[2, 4, 3, 2])
    flow = bijectors.ConvExponential(tf.constant(kernel), max_norm=None, padding=padding)
    for result, exponent, log_det in (
        (flow.forward(x), matrix, flow.forward_log_det_jacobian(x)),
        (flow.inverse(x), -matrix, flow.inverse_log_det_jacobian(x)),
    ):
        expected = x.reshape(2, -1) @ scipy.linalg.expm(exponent).T
        error = np.max(np.abs(np.reshape(result, [2, -1]) - expected)) / np.max(np.abs(expected))
        assert error < 1e-11
        np.testing.assert_allclose(log_det, np.trace(exponent), atol=1e-12 * max(1, norm))


def test_norm_is_capped_whatever_the_kernel():
    rng = np.random.default_rng(2)
    for scale in (0.001, 1.0, 100.0):
        kernel = scale * rng.normal(size=[3, 3, 3, 3])
        flow = bijectors.ConvExponential(tf.constant(kernel), max_norm=0.95)
        scaled = flow.scaled_kernel().numpy()
        assert np.linalg.norm(dense_operator(scaled, 8, 8, "zero"), 2) <= 0.95
        if scale == 0.001:
            np.testing.assert_array_equal(scaled, kernel)


def test_commutes_with_the_shifts_of_a_torus():
    flow = bijectors.ConvExponential.trainable(
        [6, 5, 2], kernel_size=(3, 5), padding="periodic", seed=3, dtype=tf.float64
    )
    x = tf.random.stateless_normal([2, 6, 5, 2], [1, 1], dtype=tf.float64)
    for shift in ((1, 0), (0, 2), (3, 4)):
        shifted = flow.forward(tf.roll(x, shift, axis=[1, 2]))
        expected = tf.roll(flow.forward(x), shift, axis=[1, 2])
        np.testing.assert_allclose(shifted, expected, atol=1e-14)


def test_power_iteration_state_moves_towards_the_norm():
    flow = bijectors.ConvExponential.trainable([8, 8, 3], norm="power_iteration", seed=4)
    flow.update_norm(200)
    true = np.linalg.norm(dense_operator(np.array(flow.trainable_variables[0]), 8, 8, "zero"), 2)
    np.testing.assert_allclose(flow.norm_bound(), true, rtol=1e-3)
    assert len(flow.trainable_variables) == 1


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((4, 4, 3, 3), r"`kernel` must have odd spatial sizes. Received: kernel.shape=\(4, 4, 3"),
        ((3, 3, 3, 4), r"`kernel` must have shape \[kh, kw, C, C\]. Received: kernel.shape=\(3, 3"),
        ((3, 3, 3), r"`kernel` must have shape"),
    ],
)
def test_bad_kernels(shape, message):
    with pytest.raises(ValueError, match=message):
        bijectors.ConvExponential(tf.zeros(shape))


def test_bad_arguments():
    kernel = tf.zeros([3, 5, 1, 1])
    with pytest.raises(ValueError, match="`padding` must be"):
        bijectors.ConvExponential(kernel, padding="same")
    with pytest.raises(ValueError, match="`max_norm` must be positive"):
        bijectors.ConvExponential(kernel, max_norm=0.0)
    with pytest.raises(ValueError, match="`power_vector` and `max_norm` must be given"):
        bijectors.ConvExponential(kernel, norm="power_iteration")
    with pytest.raises(ValueError, match="images larger than half the kernel"):
        bijectors.ConvExponential(kernel, padding="periodic").forward(tf.zeros([1, 4, 2, 1]))
