"""Sequential and Repeat: what may take turns."""

import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.tfflows.small_layers import SHAPE, conv, conv_net
from tfflows import bijectors, networks
from tfflows.bijectors import transforms

tfb = tfp.bijectors


def lipschitz_layer(seed):
    network = networks.LipschitzNet(4, width=4, kernel_sizes=(1,), seed=1)
    network = networks.build_network(network, SHAPE)
    return bijectors.ResidualFlow(network, SHAPE, log_det="unbiased", seed=seed)


def hat_coupling(log_scale):
    hat = transforms.MexicanHatScale(2, log_scale)
    return bijectors.Coupling(conv_net(6, 1), SHAPE, transforms.Affine(hat))


def function_coupling(factor):
    return bijectors.Coupling(
        lambda a: factor * tf.concat([a, a], -1), SHAPE, transforms.Affine(), split_size=2
    )


def network_coupling(network):
    return bijectors.Coupling(
        networks.build_network(network, [4, 4, 2]), SHAPE, transforms.Affine()
    )


UNLIKE = {
    "classes": lambda: [conv(3), bijectors.ActNorm.trainable([None, None, 4])],
    "sizes": lambda: [conv(size) for size in (1, 3, 5)],
    "networks": lambda: [network_coupling(networks.MLP(4, width=width)) for width in (8, 4)],
    "dtypes": lambda: [conv(3), conv(3, dtype=tf.float64)],
    "constants": lambda: [hat_coupling(value) for value in (0.1, 0.2, 0.3)],
    "arrays": lambda: [
        bijectors.InvertibleConv1x1.trainable([None, None, 4], parameterization="plu", seed=s)
        for s in range(3)
    ],
    "functions": lambda: [function_coupling(factor) for factor in (0.1, 0.2, 0.1)],
    "tensors": lambda: [tfb.Shift(value * tf.ones([4])) for value in (1.0, 2.0, 3.0)],
    "directions": lambda: [tfb.Shift(tf.Variable(1.0)), tfb.Invert(tfb.Shift(tf.Variable(1.0)))],
    "noise": lambda: [lipschitz_layer(seed) for seed in range(3)],
    "numbers": lambda: [[conv(3)], [conv(3), conv(3)]],
}


@pytest.mark.parametrize("name", UNLIKE)
def test_turns_that_are_not_alike_are_refused(name):
    turns = UNLIKE[name]()
    with pytest.raises(ValueError, match="The turns of a `Repeat` must be alike"):
        bijectors.Repeat(turns)
