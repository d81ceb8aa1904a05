"""Emerging, periodic and Woodbury layers that are not at their start, and their dense matrices."""

import numpy as np
import tensorflow as tf

from tfflows import bijectors

DTYPE = tf.float64


def moved(flow, scale=0.1):
    """Returns the bijector away from its initial values."""
    rng = np.random.default_rng(7)
    for variable in flow.trainable_variables:
        variable.assign_add(scale * rng.normal(size=variable.shape))
    return flow


def dense(flow, shape):
    """Returns the matrix of a linear bijector: column `i` is what basis vector `i` becomes."""
    size = int(np.prod(shape))
    return np.reshape(flow.forward(np.eye(size).reshape(size, *shape)), [size, size]).T


def emerging(channels=2, **kwargs):
    return moved(
        bijectors.EmergingConv.trainable([None, None, channels], seed=1, dtype=DTYPE, **kwargs)
    )


def periodic(channels=2, **kwargs):
    return moved(
        bijectors.PeriodicConv.trainable([None, None, channels], seed=1, dtype=DTYPE, **kwargs),
        0.05,
    )


def woodbury(shape=(3, 4, 2), **kwargs):
    return moved(bijectors.WoodburyConv.trainable(shape, seed=1, dtype=DTYPE, **kwargs))
