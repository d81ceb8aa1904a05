"""Networks that know how they are called, have losses, or count; and flows of them."""

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfflows import bijectors, distributions, networks
from tfflows.bijectors import transforms

tfb = tfp.bijectors
tfd = tfp.distributions
K = keras.layers


def start(seed=1):
    return keras.initializers.RandomNormal(stddev=0.3, seed=seed)


def dense(units, seed=1, **kwargs):
    return K.Dense(units, kernel_initializer=start(seed), **kwargs)


@keras.saving.register_keras_serializable(package="tests")
class Doubled(K.Layer):
    """A dense layer that puts out twice as much in training, and knows how it was called."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.dense = dense(units)

    def call(self, x, context=None, training=None):
        self.last = training
        h = self.dense(x if context is None else keras.ops.concatenate([x, context], -1))
        return 2.0 * h if training else h

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def built(layer, *shapes):
    return networks.build_network(layer, *shapes)


def coupling(network, **kwargs):
    return bijectors.Coupling(network, [2], transforms.Affine("exp"), **kwargs)


def density(flow, shape=(2,)):
    base = distributions.standard_normal(list(shape))
    return tfd.TransformedDistribution(base, tfb.Invert(flow))


def points(count=5, size=2):
    return tf.random.stateless_normal([count, size], [3, 4])


class Noisy(K.Layer):
    """A dense layer that adds a loss of its own, 1/2 of the mean square of its output."""

    def __init__(self, units, seed):
        super().__init__()
        self.dense = dense(units, seed)

    def call(self, x):
        y = self.dense(x)
        self.add_loss(keras.ops.mean(y**2) / 2)
        return y

    def get_config(self):
        return {"units": 1}


def loss_network(seed):
    layers = [dense(3, seed, activity_regularizer=keras.regularizers.L2(0.3)), Noisy(2, seed + 1)]
    return keras.Sequential([keras.Input([1]), *layers])


def expected_losses(nets, x):
    """The losses of couplings in a row, by hand; the first entry moves the second."""
    total, a = 0.0, x[:, :1]
    for net in nets:
        h = net.layers[0](a)
        total += 0.3 * tf.reduce_mean(tf.reduce_sum(h**2, -1))
        total += tf.reduce_mean(net.layers[1].dense(h) ** 2) / 2
    return total


class Counting(K.Layer):
    """Counts the calls in training."""

    def __init__(self):
        super().__init__()
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x, training=None):
        if training:
            self.count.assign_add(1.0)
        return x


def between(*layers):
    return keras.Sequential([keras.Input([1]), dense(4), *layers, K.Dense(2)])


class Nested(K.Layer):
    """Layers in a layer that does not know of `training`."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x):
        return self.inner(x)
