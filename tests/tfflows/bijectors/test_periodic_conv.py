"""PeriodicConv against a block-circulant matrix, its symmetry, its errors."""

import numpy as np
import pytest
import tensorflow as tf

from tests.tfflows.bijectors.mixing_convs import DTYPE, dense, periodic
from tfflows import bijectors


@pytest.mark.parametrize("size", [3, (3, 5), (5, 1)], ids=str)
@pytest.mark.parametrize("image", [(4, 6), (5, 3), (2, 2)], ids=str)
def test_periodic_is_a_block_circulant_matrix(image, size):
    height, width = image
    flow = periodic(kernel_size=size)
    kernel = flow.trainable_variables[0].numpy()
    kh, kw = kernel.shape[:2]
    expected = np.zeros([height, width, 2, height, width, 2])
    for i, j, a, b in np.ndindex(height, width, kh, kw):
        y, x = (i + a - kh // 2) % height, (j + b - kw // 2) % width
        expected[i, j, :, y, x, :] += kernel[a, b].T
    expected = expected.reshape([height * width * 2] * 2)
    np.testing.assert_allclose(dense(flow, [*image, 2]), expected, atol=1e-14)
    log_det = flow.forward_log_det_jacobian(np.zeros([1, *image, 2]))
    np.testing.assert_allclose(log_det, np.linalg.slogdet(expected)[1], atol=1e-12)
    x = np.random.default_rng(0).normal(size=[3, *image, 2])
    solved = np.linalg.solve(expected, x.reshape(3, -1).T).T
    np.testing.assert_allclose(np.reshape(flow.inverse(x), [3, -1]), solved, atol=1e-11)


def test_periodic_commutes_with_the_shifts_of_a_torus():
    flow, x = periodic(), tf.random.stateless_normal([2, 6, 5, 2], [1, 1], dtype=DTYPE)
    for function in (flow.forward, flow.inverse):
        shifted = function(tf.roll(x, (2, 3), axis=[1, 2]))
        expected = tf.roll(function(x), (2, 3), axis=[1, 2])
        np.testing.assert_allclose(shifted, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((4, 3, 2, 2), "`kernel` must have odd spatial sizes"),
        ((3, 3, 2, 3), r"`kernel` must have shape \[kh, kw, C, C\]. Received: kernel.shape=\(3, 3"),
        ((3, 3, 2), "`kernel` must have shape"),
    ],
)
def test_bad_periodic_kernels(shape, message):
    with pytest.raises(ValueError, match=message):
        bijectors.PeriodicConv(tf.zeros(shape))


def test_periodic_refuses_images_smaller_than_half_the_kernel():
    flow = periodic(kernel_size=(1, 5))
    for function in (flow.forward, flow.inverse):
        with pytest.raises(
            ValueError, match=r"no smaller than half the kernel. .*\(1, 5\), .*4, 1"
        ):
            function(np.zeros([1, 4, 1, 2]))
