"""Small flows of images, and images for them."""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfflows import bijectors, distributions, networks
from tfflows.bijectors import transforms

tfd = tfp.distributions
SHAPE = [2, 2, 4]


def coupling(seed=1, shape=SHAPE, **kwargs):
    """An affine coupling whose network is not zero."""
    network = networks.build_network(
        networks.ConvNet(shape[-1], width=4, seed=seed), [*shape[:2], shape[2] // 2]
    )
    network.layers[-1].kernel.assign(
        np.random.default_rng(seed).normal(0, 0.2, network.layers[-1].kernel.shape)
    )
    return bijectors.Coupling(network, shape, transforms.Affine(), **kwargs)


def parts():
    """ActNorm, a 1x1 convolution and two couplings: six convolutions and one matrix product."""
    return [
        bijectors.ActNorm.trainable([None, None, 4]),
        bijectors.InvertibleConv1x1.trainable([None, None, 4], seed=3),
        coupling(1),
        coupling(2, reverse=True),
    ]


def multi_scale():
    levels = [
        bijectors.Sequential([bijectors.Squeeze(), *parts()], name="first"),
        bijectors.Sequential([bijectors.Squeeze(), coupling(5, [1, 1, 8])], name="second"),
    ]
    return bijectors.MultiScale(levels, [4, 4, 1])


def model_of(flow, base_shape):
    return tfd.TransformedDistribution(distributions.standard_normal(base_shape), flow)


def images(batch=3, shape=SHAPE, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=[batch, *shape]), tf.float32)


class CountingNetwork(tf.Module):
    """Shift and scale from one weight; counts its calls."""

    def __init__(self):
        super().__init__()
        self.weight = tf.Variable([[0.3, -0.2, 0.5, 0.1]])
        self.calls = 0

    def __call__(self, a):
        self.calls += 1
        return tf.tanh(a[:, :1] + a[:, 1:]) * self.weight
