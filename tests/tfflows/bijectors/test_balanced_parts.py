"""The parts of the volume-balanced flow: hats, strided convolutions, contractions, whitening."""

import math

import numpy as np
import pytest
import tensorflow as tf
from scipy import special

from tfflows import bijectors, evaluation
from tfflows.bijectors import transforms


def test_range_of_the_hat_is_not_what_the_paper_prints():
    hat = transforms.MexicanHatScale(1, 0.0)
    h = tf.constant(np.linspace(-10, 10, 100_001)[:, None])
    log_scale = hat(h)
    assert np.max(log_scale) == pytest.approx(transforms.MexicanHatScale.highest, abs=1e-6)
    assert np.min(log_scale) == pytest.approx(transforms.MexicanHatScale.lowest, abs=1e-6)
    assert math.exp(transforms.MexicanHatScale.lowest) == pytest.approx(0.640, abs=1e-3)
    assert math.exp(transforms.MexicanHatScale.highest) == pytest.approx(2.718, abs=1e-3)


@pytest.mark.parametrize("num_inputs", [1, 2, 4, 7])
@pytest.mark.parametrize("log_scale", [-0.3, 0.0, 0.35, 0.69])
def test_the_hat_starts_where_it_is_told_to_on_usable_slopes(num_inputs, log_scale):
    hat = transforms.MexicanHatScale(num_inputs, log_scale)
    h = tf.zeros([1, num_inputs], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(h)
        start = hat(h)
    assert float(start[0, 0]) == pytest.approx(log_scale, abs=1e-9)
    slopes = num_inputs * tape.gradient(start, h)[0].numpy()
    # The steepest slope of a hat is 1.38.
    assert np.all(np.abs(slopes) > 0.03) or num_inputs == 1
    assert np.abs(slopes).mean() > 0.5
    if num_inputs > 1:
        assert slopes.min() < 0 < slopes.max()  # On both flanks.


def test_a_hat_that_could_not_be_trained_is_refused():
    with pytest.raises(ValueError, match="`log_scale` must be between"):
        transforms.MexicanHatScale(2, 0.999)
    with pytest.raises(ValueError, match="`log_scale` must be between"):
        transforms.MexicanHatScale(2, -0.446)


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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log_dets_of_the_contractions_far_into_the_tails(dtype):
    x = np.array([-80.0, -20.0, -5.0, -1e-3, 0.0, 1e-3, 5.0, 20.0, 80.0])
    wide = x.astype(np.longdouble)
    expected_tanh = 2 * (np.log(2) - np.abs(wide) - np.log1p(np.exp(-2 * np.abs(wide))))
    points = tf.constant(x, dtype)
    tanh = bijectors.TanhContraction(event_ndims=0)
    normal = bijectors.NormalCDFContraction(event_ndims=0)
    rtol = 10 * np.finfo(dtype).eps
    np.testing.assert_allclose(
        tanh.forward_log_det_jacobian(points, 0), expected_tanh.astype(float), rtol, rtol
    )
    np.testing.assert_allclose(
        normal.forward_log_det_jacobian(points, 0), -(x**2 + np.log(2 * np.pi)) / 2, rtol
    )
    # In the lower tail the normal's image keeps its precision.
    low = tf.constant([-12.0, -8.0, -3.0], dtype)
    image = normal.forward(low)
    np.testing.assert_allclose(image, special.ndtr(low.numpy().astype(float)), 100 * rtol)
    np.testing.assert_allclose(normal.inverse(tf.identity(image)), low, rtol=1e-4)


def test_contractions_invert_anything_to_finite_values():
    for flow in (
        bijectors.TanhContraction(event_ndims=0),
        bijectors.NormalCDFContraction(event_ndims=0),
    ):
        y = tf.constant([-2.0, -1.0, 0.0, 1.0, 2.0])
        x, log_det = evaluation.inverse_and_log_det(flow, y)
        assert np.all(np.isfinite(x))
        assert np.all(np.isfinite(log_det))


def test_dual_coupling_moves_every_entry():
    one = tf.constant([[1.0, 2.0, 3.0]])

    def network(outputs):
        return lambda a: tf.reduce_sum(a, -1, keepdims=True) * tf.ones([1, outputs])

    flow = bijectors.DualAffineCoupling(
        [network(2), network(4)], [3], split_size=1, scale=lambda h: 0.1 * h
    )
    y1 = np.exp(0.1 * 5.0) * 1.0 + 5.0
    rest = np.exp(0.1 * y1) * np.array([2.0, 3.0]) + y1
    np.testing.assert_allclose(flow.forward(one)[0], [y1, *rest], rtol=1e-6)
    np.testing.assert_allclose(
        flow.forward_log_det_jacobian(one, 1), [0.1 * 5.0 + 2 * 0.1 * y1], rtol=1e-6
    )
    with pytest.raises(ValueError, match="`networks` must be two"):
        bijectors.DualAffineCoupling([network(2)], [3])


def test_whitening_refuses_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match="`eigenvectors` must have shape"):
        bijectors.Whitening(tf.zeros([3]), tf.eye(4), tf.ones([3]))


@pytest.mark.parametrize("scale", ["sigmoid", transforms.MexicanHatScale(1, 0.0), "tanh"])
@pytest.mark.parametrize("output", [-60.0, -88.0, -200.0, -1e30, 1e30])
def test_no_output_of_a_network_leaves_a_coupling_without_inverse(scale, output):
    def network(a):
        return tf.stack([tf.zeros_like(a[:, 0]), tf.fill(tf.shape(a)[:1], output)], axis=-1)

    flow = bijectors.Coupling(network, [2], transforms.Affine(scale))
    x = tf.constant([[0.3, -1.5], [2.0, 4.0]])
    y, log_det = evaluation.forward_and_log_det(flow, x)
    back, back_log_det = evaluation.inverse_and_log_det(flow, tf.identity(y))
    np.testing.assert_allclose(back, x, rtol=1e-5)
    np.testing.assert_allclose(y[:, 1] / x[:, 1], np.exp(log_det), rtol=1e-5)
    np.testing.assert_allclose(back_log_det, -log_det, rtol=1e-5)
