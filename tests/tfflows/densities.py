"""A small density to train, data for it, and its weights."""

import keras
import numpy as np
import tensorflow_probability as tfp

from tfflows import bijectors, distributions, networks
from tfflows.bijectors import transforms

tfb = tfp.bijectors
tfd = tfp.distributions
SHAPE = [2, 2, 2]


def flow(norm=None, seed=1):
    """ActNorm, a coupling and maybe a convolution exponential, for images of eight numbers."""
    network = networks.build_network(networks.ConvNet(2, width=4, seed=seed), [2, 2, 1])
    layers = [
        bijectors.ActNorm.trainable([None, None, 2], name="norm"),
        bijectors.InvertibleConv1x1.trainable([None, None, 2], seed=seed, name="mixing"),
        bijectors.Coupling(network, SHAPE, transforms.Affine(), name="coupling"),
    ]
    if norm:
        layers.append(bijectors.ConvExponential.trainable(SHAPE, norm=norm, seed=seed))
    return bijectors.Sequential(layers, name="flow")


@keras.saving.register_keras_serializable(package="tests")
def density(seed=1, norm=None):
    """A distribution without noise of its own."""
    base = distributions.trainable_normal(SHAPE)
    return tfd.TransformedDistribution(base, tfb.Invert(flow(norm, seed)), name="density")


def data(count=64, seed=0):
    x = np.random.default_rng(seed).normal(2.0, 3.0, [count, *SHAPE])
    return x.astype("float32")


def sgd(rate=0.01):
    return keras.optimizers.SGD(rate)


def weights(model):
    return [v.numpy() for v in model.weights]


def assert_same(first, second):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
