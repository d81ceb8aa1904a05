"""MLP and MaskedMLP: context and order."""

import numpy as np
import pytest
import tensorflow as tf

from tests.tfflows.networks.awake import wake
from tfflows import networks


def test_mlp_of_vectors_takes_a_context():
    network = networks.build_network(networks.MLP(3, width=4, seed=0), [2], [5])
    x, context = tf.ones([6, 2]), tf.random.stateless_normal([6, 5], [0, 1])
    assert network(x, context).shape == [6, 3]
    assert np.ptp(wake(network)(x, context)[:, 0]) > 0


@pytest.mark.parametrize("gain", [2.0, 1 / 3])
def test_gain_is_the_variance_of_initial_kernels_times_their_inputs(gain):
    for network in (
        networks.MLP(3, width=100, gain=gain, seed=0),
        networks.MaskedMLP(100, 3, width=100, gain=gain, seed=0),
    ):
        networks.build_network(network, [100])
        for layer in network.layers[:2]:
            assert np.var(layer.kernel) * 100 == pytest.approx(gain, rel=0.05)
        assert network.get_config()["gain"] == gain


@pytest.mark.parametrize("num_dims", [1, 2, 5])
def test_masked_mlp_is_autoregressive(num_dims):
    network = networks.MaskedMLP(num_dims, num_params=3, width=12, depth=2, seed=0)
    wake(networks.build_network(network, [num_dims]))
    x = tf.random.stateless_normal([1, num_dims], [0, 1])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = network(x)
    jacobian = tape.jacobian(y, x).numpy()[0, :, :, 0]  # [entry, parameter, input]
    seen = np.any(jacobian != 0, axis=1)
    np.testing.assert_array_equal(seen, np.tril(np.ones([num_dims, num_dims]), -1) > 0)
