"""FlowModels as parts of other Keras models."""

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfflows import FlowModel, bijectors, distributions
from tfflows.bijectors import transforms

X = np.random.default_rng(0).normal(size=[20, 3]).astype("float32")


def prior():
    """A density of two numbers, whose network has losses of its weights and of its output."""
    options = {"kernel_regularizer": "l2", "activity_regularizer": "l2"}
    network = keras.Sequential([keras.Input([1]), keras.layers.Dense(2, **options)])
    layers = [
        bijectors.ActNorm.trainable([2]),
        bijectors.Coupling(network, [2], transforms.Affine()),
    ]
    flow = tfp.bijectors.Invert(bijectors.Sequential(layers))
    base = distributions.standard_normal([2])
    return FlowModel(tfp.distributions.TransformedDistribution(base, flow), units="nats")


class Encoder(keras.Model):
    """Features, and the density of them."""

    def __init__(self):
        super().__init__()
        self.features = keras.layers.Dense(2)
        self.prior = prior()

    def call(self, x):
        z = self.features(x)
        self.add_loss(-tf.reduce_mean(self.prior(z)))
        return z


def moved(model, fit):
    """Returns which of the trainable variables a fit moves."""
    before = [v.numpy() for v in model.trainable_variables]
    fit()
    pairs = zip(before, model.trainable_variables, strict=True)
    return [not np.array_equal(b, v) for b, v in pairs]


def test_a_model_trains_the_flow_that_it_has():
    model = Encoder()
    model(X)
    model.compile(keras.optimizers.Adam(0.01))
    assert moved(model, lambda: model.fit(X, batch_size=8, verbose=0)) == [True] * 6
    model.prior.trainable = False
    model.compile(keras.optimizers.Adam(0.01))
    frozen = [v.numpy() for v in model.prior.variables]
    assert moved(model, lambda: model.fit(X, batch_size=8, verbose=0)) == [True] * 2
    np.testing.assert_equal([v.numpy() for v in model.prior.variables], frozen)


def test_losses_of_the_networks_in_the_flow_are_those_of_the_model():
    model = Encoder()
    z = model(X)
    norm, coupling = model.prior.distribution.bijector.bijector.bijectors
    network = coupling.network
    network(norm.forward(z)[:, :1])
    expected = [-np.mean(model.prior.distribution.log_prob(z)), *network.losses]
    np.testing.assert_allclose(sum(model.losses), sum(expected), rtol=1e-5)


def test_it_is_a_layer_that_returns_log_densities():
    x = keras.Input([3])
    model = keras.Model(x, prior()(keras.layers.Dense(2)(x)))
    assert model.output_shape == (None,)
    model.compile(keras.optimizers.Adam(0.01), loss=lambda y, log_prob: -log_prob)
    assert moved(model, lambda: model.fit(X, X[:, 0], batch_size=8, verbose=0)) == [True] * 6


def test_its_weights_are_saved_with_those_of_the_model(tmp_path):
    one, other = Encoder(), Encoder()
    one(X), other(X)
    one.prior.trainable_variables[0].assign([1.0, 2.0])
    one.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(other.prior(X[:, :2]), one.prior(X[:, :2]))
