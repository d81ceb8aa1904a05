"""Networks as modules."""

import tensorflow_probability as tfp

from tfflows import networks


def test_as_module_makes_variables_known_to_tfp():
    network = networks.build_network(networks.MaskedMLP(2, 2, width=4), [2])
    maf = tfp.bijectors.MaskedAutoregressiveFlow(networks.as_module(network))
    assert len(maf.trainable_variables) == len(network.trainable_variables) == 6
