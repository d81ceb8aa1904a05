"""GraphNet: its symmetry, its reach, padding, its start."""

import numpy as np
import pytest
import tensorflow as tf

from tests.tfflows.networks.awake import images, wake
from tfflows import networks


def graph_net(adjacency=None, context=False, **kwargs):
    network = networks.GraphNet(6, width=8, num_heads=2, adjacency=adjacency, seed=1, **kwargs)
    return wake(networks.build_network(network, [5, 2], [5, 5] if context else None))


PATH = np.eye(5, k=1) + np.eye(5, k=-1)


@pytest.mark.parametrize("given", ["none", "fixed", "context"])
def test_graph_net_is_equivariant_and_sees_as_far_as_its_layers(given):
    """In another order sums round otherwise."""
    x, order, depth = images([1, 5, 2]), [3, 0, 4, 1, 2], 2

    def call(order):
        graph = PATH[order][:, order]
        network = graph_net(graph if given == "fixed" else None, given == "context", depth=depth)
        context = [tf.constant(graph[None], tf.float32)] if given == "context" else []
        with tf.GradientTape() as tape:
            nodes = tf.gather(x, order, axis=1)
            tape.watch(nodes)
            y = network(nodes, *context)
        return y, tape.jacobian(y, nodes).numpy()[0, :, :, 0].max(axis=(1, 3)) != 0

    (y, seen), (shuffled, _) = call(list(range(5))), call(order)
    np.testing.assert_allclose(shuffled, tf.gather(y, order, axis=1), atol=1e-5)
    distance = abs(np.subtract.outer(np.arange(5), np.arange(5)))
    np.testing.assert_array_equal(seen, distance <= (depth if given != "none" else 5))


def test_graph_net_takes_nodes_without_edges_for_padding():
    smaller = tf.constant(PATH * (np.arange(5) < 3) * (np.arange(5) < 3)[:, None], tf.float32)
    network, x = graph_net(context=True), images([2, 5, 2])
    y = network(x, smaller[None])
    np.testing.assert_array_equal(y[:, 3:], tf.zeros([2, 2, 6]))
    assert np.all(np.any(y[:, :3] != 0, axis=-1))
    other = tf.concat([x[:, :3], 9 + x[:, 3:]], axis=1)
    np.testing.assert_array_equal(network(other, smaller[None]), y)


def test_graph_net_starts_at_zero_with_gradients_and_a_config():
    network = graph_net(PATH, dtype="float64")
    fresh = networks.build_network(networks.GraphNet.from_config(network.get_config()), [5, 2])
    x = images([3, 5, 2], "float64")
    np.testing.assert_array_equal(fresh(x), tf.zeros([3, 5, 6], tf.float64))
    for a, b in zip(network.variables[:-2], fresh.variables[:-2], strict=True):
        np.testing.assert_array_equal(a, b)
    wake(fresh)
    np.testing.assert_array_equal(fresh(x), network(x))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(network(x) ** 2)
    variables = [v.value for v in network.trainable_variables]
    for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
        assert np.any(gradient != 0), variable.path
    with pytest.raises(ValueError, match="`width` must be a multiple of `num_heads`"):
        networks.GraphNet(2, width=6, num_heads=4)
