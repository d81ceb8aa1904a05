"""Small residual flows, and inputs for them."""

import numpy as np
import tensorflow as tf

from tfflows import bijectors, networks


def flow(shape=(3,), log_det=None, dtype=tf.float64, stretch=1.0, **kwargs):
    """A flow away from its start, of dense layers for vectors and of convolutions for images."""
    network = networks.LipschitzNet(
        shape[-1],
        width=6,
        kernel_sizes=(1, 1) if len(shape) == 1 else (3, 1, 3),
        seed=1,
        dtype=dtype.name,
    )
    networks.build_network(network, list(shape))
    rng = np.random.default_rng(2)
    for variable in network.trainable_variables:
        variable.assign_add(stretch * rng.normal(size=variable.shape))
    return bijectors.ResidualFlow(network, list(shape), log_det=log_det, dtype=dtype, **kwargs)


def inputs(shape=(3,), count=1, dtype=tf.float64):
    return tf.constant(np.random.default_rng(0).normal(size=[count, *shape]), dtype)
