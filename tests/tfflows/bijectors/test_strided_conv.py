"""StridedConv: the convolution of the paper, its start, its errors."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tfflows import bijectors


def test_strided_conv_is_the_convolution_of_the_paper():
    rng = np.random.default_rng(0)
    weight = rng.normal(size=[12, 12])
    flow = bijectors.StridedConv(tf.constant(weight), stride=2, parameterization="dense")
    x = tf.constant(rng.normal(size=[2, 6, 4, 3]))
    kernel = tf.reshape(tf.transpose(tf.constant(weight)), [2, 2, 3, 12])
    np.testing.assert_allclose(flow.forward(x), tf.nn.conv2d(x, kernel, 2, "VALID"), atol=1e-12)
    log_det = 6 * 4 / 4 * np.linalg.slogdet(weight)[1]
    np.testing.assert_allclose(flow.forward_log_det_jacobian(x, 3), log_det, rtol=1e-10)
    np.testing.assert_allclose(flow.weight_log_det(), log_det / 6, rtol=1e-10)


@pytest.mark.parametrize("parameterization", ["plu", "dense"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_strided_conv_starts_as_a_multiple_of_the_identity(parameterization, stride):
    flow = bijectors.StridedConv.trainable(
        [None, None, 2], stride=stride, scale=1.3, parameterization=parameterization
    )
    x = tf.random.stateless_normal([2, 6, 6, 2], [1, 2])
    squeezed = bijectors.Squeeze(stride).forward(x) if stride > 1 else x
    np.testing.assert_allclose(flow.forward(x), 1.3 * squeezed, rtol=1e-6)
    np.testing.assert_allclose(flow.forward_log_det_jacobian(x, 3), 72 * math.log(1.3), rtol=1e-5)


def test_strided_conv_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"`weight` must have shape \[k\^2 C, k\^2 C\]"):
        bijectors.StridedConv(tf.eye(6), stride=2)
    with pytest.raises(ValueError, match="multiples of factor=2"):
        bijectors.StridedConv.trainable([None, None, 3], stride=2).forward(tf.zeros([1, 5, 4, 3]))
    with pytest.raises(ValueError, match="`scale` must be positive"):
        bijectors.StridedConv.trainable([None, None, 3], scale=0.0)
    with pytest.raises(ValueError, match="`parameterization` must be"):
        bijectors.StridedConv(tf.eye(4), stride=2, parameterization="qr")
