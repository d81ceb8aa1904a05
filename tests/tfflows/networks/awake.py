"""Networks that are not zero any more, and images for them."""

import numpy as np
import tensorflow as tf


def wake(network):
    """Gives the last layer, which starts at zero, other values."""
    kernel = network.trainable_variables[-2]
    rng = np.random.default_rng(0)
    kernel.assign(rng.normal(0, 0.3, kernel.shape))
    return network


def images(shape=(3, 4, 4, 2), dtype="float32", seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=shape), dtype)
