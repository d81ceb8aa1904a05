"""forward_and_log_det, its inverse, and initialize."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.tfflows.small_flows import CountingNetwork, coupling, images, parts
from tfflows import analysis, bijectors, evaluation
from tfflows.bijectors import transforms

tfb = tfp.bijectors


def test_forward_and_log_det_evaluates_each_part_once_in_eager_mode():
    networks_ = [CountingNetwork() for _ in range(3)]
    flow = tfb.Chain([bijectors.Coupling(n, [4], transforms.Affine()) for n in networks_])
    evaluation.forward_and_log_det(flow, images(shape=[4]))
    assert [n.calls for n in networks_] == [1, 1, 1]


@pytest.mark.parametrize("wrap", [bijectors.Sequential, lambda p: tfb.Chain(p[::-1])])
def test_initialize_standardises_every_act_norm_in_order(wrap):
    layers = [
        bijectors.ActNorm.trainable([None, None, 4], name="first"),
        bijectors.InvertibleConv1x1.trainable([None, None, 4], seed=3),
        coupling(1),
        bijectors.ActNorm.trainable([None, None, 4], name="second"),
        coupling(2, reverse=True),
        bijectors.ActNorm.trainable([None, None, 4], name="third"),
    ]
    flow, x = wrap(layers), 5.0 + 3.0 * images(200)
    evaluation.initialize(flow, x)
    outputs = {
        r.name: r.output
        for r in analysis.record_layers(flow, x)
        if isinstance(r.bijector, bijectors.ActNorm)
    }
    assert list(outputs) == ["first", "second", "third"]
    for output in outputs.values():
        mean, variance = tf.nn.moments(output, [0, 1, 2])
        np.testing.assert_allclose(mean, 0.0, atol=1e-4)
        np.testing.assert_allclose(variance, 1.0, rtol=1e-3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: tfb.Chain(parts()[::-1]),
        lambda: tfb.Invert(tfb.Chain(parts())),
        lambda: tfb.Chain([tfb.Invert(coupling()), tfb.Softplus(), bijectors.Flip()]),
        lambda: tfb.Invert(bijectors.Sequential([tfb.Softsign(), tfb.Invert(coupling())])),
        lambda: tfb.Tanh(),
    ],
)
def test_forward_and_log_det_equals_the_separate_methods(make):
    flow, x = make(), 0.3 * images()
    y, log_det = evaluation.forward_and_log_det(flow, x, event_ndims=3)
    np.testing.assert_allclose(y, flow.forward(tf.identity(x)), rtol=1e-5, atol=1e-6)
    expected = flow.forward_log_det_jacobian(tf.identity(x), 3)
    np.testing.assert_allclose(
        np.broadcast_to(log_det, [3]), np.broadcast_to(expected, [3]), rtol=1e-4, atol=1e-5
    )
    back, log_det = evaluation.inverse_and_log_det(flow, tf.identity(y), event_ndims=3)
    np.testing.assert_allclose(back, x, rtol=1e-4, atol=1e-5)
    expected = flow.inverse_log_det_jacobian(tf.identity(y), 3)
    np.testing.assert_allclose(
        np.broadcast_to(log_det, [3]), np.broadcast_to(expected, [3]), rtol=1e-4, atol=1e-5
    )
