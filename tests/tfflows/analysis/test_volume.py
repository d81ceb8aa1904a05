"""Volume, variance and steepness of layers."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import zoo
from tfflows import analysis, bijectors, evaluation

tfb = tfp.bijectors


def test_jacobian_norm_of_a_linear_map():
    matrix = np.random.default_rng(0).normal(size=[12, 12]).astype("float32")
    flow = bijectors.StridedConv(tf.constant(matrix), stride=2, parameterization="dense")
    x = tf.random.stateless_normal([3, 4, 4, 3], [0, 1])
    norms = analysis.jacobian_norm(flow, x, num_iterations=100)
    np.testing.assert_allclose(norms, np.linalg.norm(matrix, 2), rtol=1e-4)


def test_jacobian_norm_of_an_elementwise_map_differs_from_event_to_event():
    x = tf.constant([[[[0.1, 2.0]]], [[[1.0, -3.0]]]])
    norms = analysis.jacobian_norm(bijectors.TanhContraction(), x, num_iterations=50)
    slopes = 1 - np.tanh(x.numpy()) ** 2
    np.testing.assert_allclose(norms, slopes.max(axis=(1, 2, 3)), rtol=1e-5)


def test_jacobian_norm_through_a_custom_gradient():
    flow = bijectors.ConvExponential.trainable([4, 4, 2], seed=1)
    x = tf.random.stateless_normal([2, 4, 4, 2], [0, 1])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = flow.forward(x)
    jacobian = tf.reshape(tape.batch_jacobian(y, x), [2, 32, 32]).numpy()
    expected = [np.linalg.norm(j, 2) for j in jacobian]
    norms = analysis.jacobian_norm(flow, x, num_iterations=60)
    np.testing.assert_allclose(norms, expected, rtol=1e-3)


def test_report_of_a_flow():
    flow = bijectors.Sequential(
        [
            bijectors.StridedConv.trainable([None, None, 1], stride=2, scale=2.0, name="conv"),
            tfb.Invert(bijectors.ActNorm.trainable([None, None, 4], name="norm")),
            bijectors.RationalQuadraticActivation.trainable(
                [None, None, 4], slope=0.5, name="activation"
            ),
        ]
    )
    x = tf.random.stateless_normal([50, 4, 4, 1], [0, 1])
    with tf.GradientTape() as tape:
        y, log_det = evaluation.forward_and_log_det(flow, x)
        loss = tf.reduce_mean(y**2) - tf.reduce_mean(log_det)
    variables = flow.trainable_variables
    gradients = dict(zip([v.ref() for v in variables], tape.gradient(loss, variables), strict=True))
    report = analysis.volume_report(flow, x, num_iterations=30, gradients=gradients)
    assert [layer.name for layer in report] == ["conv", "norm", "activation"]
    conv, norm, activation = report
    assert conv.log_det_per_dim == pytest.approx(np.log(2), rel=1e-5)
    assert conv.spectral_norm == pytest.approx(2.0, rel=1e-4)
    assert conv.variance == pytest.approx(4 * np.var(x), rel=1e-4)
    assert norm.log_det == pytest.approx(0.0)
    assert activation.log_det_per_dim == pytest.approx(np.log(0.5), rel=1e-4)
    assert activation.spectral_norm == pytest.approx(0.5, rel=1e-3)
    for layer in report:
        # Inequality (8) of the paper.
        assert layer.log_det_per_dim <= np.log(layer.spectral_norm) + 1e-4
        assert layer.gradient_norm > 0


def test_drift_is_what_the_inverse_of_a_layer_misses():
    flow = bijectors.Sequential([bijectors.Flip([-1]), tfb.Scale(1e-3), tfb.Tanh(), tfb.Shift(1e4)])
    x = tf.random.stateless_normal([8, 2, 2, 3], [0, 1])
    drift = [layer.drift for layer in analysis.volume_report(flow, x, drift=True)]
    assert drift[0] == 0
    assert 0 < drift[1] < 1e-6
    assert 1e-5 < drift[3] < 1e-3  # A float32 near 1e4 has steps of 1e-3.
    assert {layer.drift for layer in analysis.volume_report(flow, x)} == {None}


def test_log_dets_of_the_report_add_up_to_that_of_the_model():
    model = zoo.create("balanced.digits")
    for variable in model.trainable_variables:
        variable.assign_add(0.02 * tf.random.stateless_normal(variable.shape, [1, 2]))
    flow = model.bijector.bijector
    x = tf.random.stateless_uniform([4, 8, 8, 1], [0, 1], 0.0, 17.0)
    total = sum(layer.log_det for layer in analysis.volume_report(flow, x))
    expected = np.mean(flow.forward_log_det_jacobian(x, 3))
    assert total == pytest.approx(expected, rel=1e-5)


def test_report_counts_every_event_of_an_elementwise_layer():
    flow = bijectors.Sequential([bijectors.NormalizeImage(16), bijectors.Squeeze()])
    report = analysis.volume_report(flow, tf.zeros([5, 4, 4, 1]))
    assert report[0].log_det == pytest.approx(-16 * np.log(16))
    assert report[0].spectral_norm is None
    assert report[0].gradient_norm is None
