"""Networks that make a flow no bijection are refused in training, and no others."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tfflows.watched_networks import Doubled, Nested, between, coupling, dense, points
from tfflows import evaluation, networks

K = keras.layers


class TensorFlowNoise(K.Layer):
    def call(self, x, training=None):
        return x + tf.random.normal(tf.shape(x)) if training else x


class KerasNoise(K.Layer):
    def call(self, x, training=None):
        return x * keras.random.uniform(keras.ops.shape(x)) if training else x


class AlwaysNoise(K.Layer):
    def call(self, x):
        return x * keras.random.uniform(keras.ops.shape(x))


class BatchCentre(K.Layer):
    def call(self, x, training=None):
        return x - keras.ops.mean(x, 0, keepdims=True) if training else x


def functional_centre():
    inputs = keras.Input([1])
    h = dense(3)(inputs)
    return keras.Model(inputs, dense(2)(h - keras.ops.mean(h, 0, keepdims=True)))


def zero_last(*layers):
    """What couplings start as: the last layer hides what is before it."""
    last = K.Dense(2, kernel_initializer="zeros")
    return keras.Sequential([keras.Input([1]), dense(4), *layers, last])


REFUSED = {
    "dropout": lambda: (zero_last(K.Dropout(0.5)), "'dropout.*Dropout.*draws random numbers"),
    "rare": lambda: (between(K.Dropout(1e-6)), "draws random numbers"),
    "gaussian_dropout": lambda: (between(K.GaussianDropout(0.5)), "draws random numbers"),
    "gaussian_noise": lambda: (between(K.GaussianNoise(0.1)), "GaussianNoise.*draws random"),
    "alpha_dropout": lambda: (between(K.AlphaDropout(0.1)), "draws random numbers"),
    "nested": lambda: (between(Nested(Nested(K.Dropout(0.5)))), "Dropout.*draws random numbers"),
    "attention": lambda: (
        between(K.Reshape([4, 1]), Attention(), K.Flatten()),
        "Dropout.*draws random numbers",
    ),
    "batch_norm": lambda: (
        zero_last(K.BatchNormalization()),
        r"BatchNormalization.*statistics of a batch.*layer\.trainable = False.*Deterministic",
    ),
    "tensorflow_noise": lambda: (zero_last(TensorFlowNoise()), "it is random"),
    "keras_noise": lambda: (zero_last(KerasNoise()), "draws random numbers|it is random"),
    "batch_centre": lambda: (zero_last(BatchCentre()), "other events of the batch change it"),
    "functional": lambda: (functional_centre(), "other events of the batch change it"),
    "lambda": lambda: (
        between(K.Lambda(lambda h: h - keras.ops.max(h, 0, keepdims=True))),
        "other events of the batch change it",
    ),
}


class Attention(K.Layer):
    def __init__(self):
        super().__init__()
        self.attention = K.MultiHeadAttention(1, 2, dropout=0.5)

    def build(self, shape):
        self.attention.build(shape, shape)

    def call(self, x):
        return self.attention(x, x)


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_a_flow_no_bijection_is_refused_in_training(name, graph):
    network, message = REFUSED[name]()
    flow = coupling(network)

    def train(x):
        with evaluation.calling_networks():
            return flow.forward(x)

    state = [v.numpy() for v in network.variables]
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            (tf.function(train) if graph else train)(points())
    for variable, value in zip(network.variables, state, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    flow.forward(points())  # Otherwise they are inert.
    with evaluation.calling_networks(training=False):
        flow.forward(points(3))
    calm = coupling(networks.Deterministic(network))
    if name not in ("functional", "lambda"):  # These are none outside of training either.
        with evaluation.calling_networks():
            y = calm.forward(points())
        np.testing.assert_allclose(y, flow.forward(points()), rtol=1e-6)


def frozen(layer):
    layer.trainable = False
    return layer


class Calm(Nested):
    """Never hands `training` on."""

    def call(self, x):
        return self.inner(x, training=False)


ACCEPTED = {
    "no_dropout": lambda: between(K.Dropout(0.0)),
    "frozen_batch_norm": lambda: between(frozen(K.BatchNormalization())),
    "deterministic": lambda: between(networks.Deterministic(K.BatchNormalization())),
    "outside_of_training": lambda: between(Calm(K.Dropout(0.5))),
    "frozen_network": lambda: frozen(between(K.Dropout(0.5))),
    "layer_norm": lambda: between(K.LayerNormalization(), K.GroupNormalization(2)),
    "spectral_norm": lambda: between(K.SpectralNormalization(dense(4))),
    "custom": lambda: between(Nested(K.Dense(4))),
    "doubled": lambda: between(Doubled(3)),
}


def test_random_numbers_of_what_is_frozen_are_no_update_of_its_own():
    flow = coupling(frozen(zero_last(AlwaysNoise())))
    with evaluation.calling_networks() as calls:
        flow.forward(points())
    calls.assign_updates()
    assert calls.updates == {}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_a_function_of_each_event_is_not_refused(name):
    flow = coupling(ACCEPTED[name]())
    with evaluation.calling_networks():
        y = flow.forward(points())
        np.testing.assert_allclose(flow.inverse(tf.identity(y)), points(), atol=1e-5)
