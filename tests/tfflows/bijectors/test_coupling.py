"""Coupling: its network has to be built."""

import numpy as np
import pytest
import tensorflow as tf

from tests.tfflows.small_flows import SHAPE
from tfflows import bijectors, networks
from tfflows.bijectors import transforms


def test_unbuilt_network_is_refused():
    with pytest.raises(ValueError, match=r"`Coupling` needs a network that is built.*False"):
        bijectors.Coupling(networks.ConvNet(4), SHAPE, transforms.Affine())


@pytest.mark.parametrize("reverse", [False, True])
def test_half_of_the_tokens_move_the_other_half(reverse):
    flow = bijectors.Coupling(
        lambda a: tf.concat([a, 0 * a], axis=-1),
        [6, 2],
        transforms.Affine(),
        split="token",
        reverse=reverse,
    )
    x = tf.random.stateless_normal([3, 6, 2], [1, 2])
    first, last = x[:, :3], x[:, 3:]
    expected = [first + last, last] if reverse else [first, first + last]
    np.testing.assert_allclose(flow.forward(x), tf.concat(expected, axis=1), rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "options"), [([5, 2], {}), ([4], {}), ([4, 4, 2], {}), ([4, 2], {"split_size": 1})]
)
def test_tokens_that_have_no_halves_are_refused(shape, options):
    with pytest.raises(ValueError, match=r'split="token" needs events \[T, C\], T even'):
        bijectors.Coupling(lambda a: a, shape, transforms.Affine(), split="token", **options)
