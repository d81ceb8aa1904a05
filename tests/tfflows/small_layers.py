"""Small layers of images."""

import tensorflow as tf

from tfflows import bijectors, networks

SHAPE = [4, 4, 4]


def conv_net(outputs, seed, context_shape=None, channels=2, dtype=tf.float32):
    network = networks.ConvNet(outputs, width=8, seed=seed, dtype=dtype.name)
    return networks.build_network(network, [4, 4, channels], context_shape)


def conv(size, seed=1, **options):
    return bijectors.ConvExponential.trainable(SHAPE, kernel_size=size, seed=seed, **options)
