"""Coupling: its network has to be built."""

import pytest

from tests.tfflows.small_flows import SHAPE
from tfflows import bijectors, networks
from tfflows.bijectors import transforms


def test_unbuilt_network_is_refused():
    with pytest.raises(ValueError, match=r"`Coupling` needs a network that is built.*False"):
        bijectors.Coupling(networks.ConvNet(4), SHAPE, transforms.Affine())
