"""Every architecture takes one event, any batch shape, an empty batch, and `tf.vectorized_map`."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import zoo
from tests.small_presets import architectures, small_arguments
from tfflows import bijectors, distributions, networks
from tfflows.bijectors import transforms

tfb = tfp.bijectors
tfd = tfp.distributions


# The others are made of the same layers, and slow.
ALWAYS = ("convexp_glow.digits", "graph_coupling.mog4", "maf.checkerboard", "realnvp.checkerboard")


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in ALWAYS else [pytest.mark.slow]) for n in architectures()],
)
def test_any_batch_shape(name):
    model = zoo.create(name, seed=1, **small_arguments(name))
    event = tuple(model.event_shape)
    x = tf.constant(np.random.default_rng(0).uniform(0.1, 2, [2, 3, *event]), tf.float32)
    expected = model.log_prob(x)
    assert expected.shape == (2, 3)
    np.testing.assert_allclose(model.log_prob(x[0]), expected[0], rtol=1e-4)
    one = model.log_prob(x[1, 2])
    assert one.shape == ()
    np.testing.assert_allclose(one, expected[1, 2], rtol=1e-4)
    mapped = tf.vectorized_map(model.log_prob, x[0])
    np.testing.assert_allclose(mapped, expected[0], rtol=1e-4)
    mapped = tf.vectorized_map(model.log_prob, x)
    np.testing.assert_allclose(mapped, expected, rtol=1e-4)
    assert model.log_prob(x[:, :0]).shape == (2, 0)
    assert model.sample(seed=1).shape == event
    assert model.sample((2, 3), seed=1).shape == (2, 3, *event)
    assert model.sample(0, seed=1).shape == (0, *event)


@pytest.mark.parametrize("network", ["ConvNet", "DenseNet", "GatedResNet", "AttentionNet"])
def test_networks_of_an_empty_batch(network):
    network = getattr(networks, network)(3, width=4, seed=1)
    networks.build_network(network, [4, 4, 2], [2])
    x, context = tf.zeros([0, 4, 4, 2]), tf.zeros([0, 2])
    with tf.GradientTape() as tape:
        y = network(x, context)
        total = tf.reduce_sum(y)
    assert y.shape == (0, 4, 4, 3)
    for gradient in tape.gradient(total, [v.value for v in network.trainable_variables]):
        assert not np.any(gradient)


def test_coupling_of_any_keras_network_and_an_empty_batch():
    network = keras.Sequential(
        [
            keras.Input([4, 4, 1]),
            keras.layers.Conv2D(4, 3, padding="same"),
            keras.layers.Conv2D(2, 1),
        ]
    )
    flow = bijectors.Coupling(network, [4, 4, 2], transforms.Affine())
    model = tfd.TransformedDistribution(distributions.standard_normal([4, 4, 2]), tfb.Invert(flow))
    assert model.sample(0).shape == (0, 4, 4, 2)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model.log_prob(tf.zeros([0, 4, 4, 2])))
    for gradient in tape.gradient(loss, model.trainable_variables):
        assert not np.any(gradient)


@pytest.mark.slow
def test_integer_images_of_an_empty_batch():
    name = "convexp_glow.cifar10"  # With a network in its dequantiser.
    model = zoo.create(name, discrete=True, **small_arguments(name))
    assert model.log_prob(tf.zeros([0, 4, 4, 1], tf.uint8), seed=1).shape == (0,)
    assert model.sample(0).shape == (0, 4, 4, 1)
