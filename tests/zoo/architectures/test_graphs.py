"""Flows of the nodes of graphs and sets."""

import numpy as np
import pytest
import tensorflow as tf

import tfflows
import zoo
from tfflows import analysis, evaluation, numerics
from tfflows.variables import named_variables
from trainers.data import node_sets
from zoo.architectures.graphs import graph_flow
from zoo.catalogue.node_sets import NUM_NODES

ARCHITECTURES = ("graph_coupling", "gnf", "gnf_convexp")
each_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)


def moved(model):
    """A model that is not the identity."""
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        # More makes flows with condition numbers of 1e7, of which float32 finds nothing back.
        variable.assign_add(rng.normal(0, 0.04, variable.shape))
    return model


def small(architecture, dataset="mog4"):
    return moved(zoo.create(f"{architecture}.{dataset}", num_blocks=2, width=8))


def nodes(*shape, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=shape), tf.float32)


def test_every_architecture_is_there_for_every_data_set():
    assert tuple(NUM_NODES) == node_sets.NAMES
    for dataset, count in NUM_NODES.items():
        assert count == node_sets.num_nodes(dataset)
        for architecture in ARCHITECTURES:
            entry = zoo.find(f"{architecture}.{dataset}")
            assert entry.recipe.dataset == dataset
            assert entry.event_shape == (count, 2)
            assert entry.units == "nats_per_node"
    assert zoo.find("glow.digits").units == "bits_per_dim"
    assert zoo.find("maf.rings").units == "nats"


@each_architecture
def test_density_knows_no_order(architecture):
    """To the rounding of sums in another order."""
    model, x = small(architecture), 3 * nodes(5, 4, 2)
    log_prob = model.log_prob(x)
    for order in ([1, 0, 2, 3], [3, 2, 0, 1]):
        shuffled = model.log_prob(tf.gather(x, order, axis=1))
        np.testing.assert_allclose(shuffled, log_prob, rtol=1e-5)
    assert np.ptp(log_prob) > 1


@each_architecture
def test_sets_go_there_and_back_and_the_log_det_is_right(architecture):
    model, x = small(architecture), nodes(3, 4, 2)
    flow = model.bijector.bijector
    np.testing.assert_allclose(analysis.round_trip_error(flow, x), np.zeros(3), atol=2e-5)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y, log_det = evaluation.forward_and_log_det(flow, x)
    jacobian = np.reshape(tape.batch_jacobian(y, x), [3, 8, 8])
    np.testing.assert_allclose(log_det, np.linalg.slogdet(jacobian)[1], atol=1e-4)
    assert model.sample(5, seed=[0, 1]).shape == [5, 4, 2]
    # Only graph networks make nodes depend on each other.
    nodes_by_nodes = np.reshape(jacobian, [3, 4, 2, 4, 2])
    others = [nodes_by_nodes[:, i, :, j] for i in range(4) for j in range(4) if i != j]
    assert np.any(others) == (architecture != "graph_coupling")


@each_architecture
def test_all_variables_are_found_and_learn(architecture):
    model = small(architecture)
    variables = named_variables(model)
    assert len(variables) == len(model.trainable_variables)
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(model.log_prob(nodes(50, 4, 2)))
    gradients = tape.gradient(loss, list(variables.values()))
    still = [
        name for name, g in zip(variables, gradients, strict=True) if g is None or not np.any(g)
    ]
    assert still == []


def test_flow_of_a_given_graph_is_that_of_the_graph_as_context():
    path = (np.eye(5, k=1) + np.eye(5, k=-1)).tolist()
    options = {"num_features": 3, "num_blocks": 2, "width": 8}
    given = moved(graph_flow(5, "graph_net", True, adjacency=path, **options))
    free = moved(graph_flow(5, "graph_net", True, conditional=True, **options))
    graph, x = numerics.normalized_adjacency(tf.constant(path)), nodes(4, 5, 3)
    bound = tfflows.condition(free, graph)
    np.testing.assert_allclose(bound.log_prob(x), given.log_prob(x), rtol=1e-5)
    # In another order, with the graph in that order, the density is the same; else it is not.
    order = [2, 0, 4, 1, 3]
    shuffled, x_shuffled = (
        tf.gather(tf.gather(graph, order), order, axis=1),
        tf.gather(x, order, axis=1),
    )
    again = tfflows.condition(free, shuffled).log_prob(x_shuffled)
    np.testing.assert_allclose(again, bound.log_prob(x), rtol=1e-5)
    assert np.all(abs(bound.log_prob(x_shuffled) - bound.log_prob(x)) > 1e-3)
    # A batch of graphs.
    both = tfflows.condition(free, tf.stack([graph, shuffled]))
    assert both.batch_shape == [2]
    np.testing.assert_allclose(both.log_prob(x[0])[0], bound.log_prob(x[0]), rtol=1e-5)


def test_wrong_network():
    with pytest.raises(ValueError, match=r"`network` must be .*network='cnn'"):
        graph_flow(4, "cnn", False)


@pytest.mark.parametrize(
    "name",
    [  # The card of the other one, whose figure is above the entropy, is tested by default.
        pytest.param(n, marks=[] if n.endswith(".mog4") else pytest.mark.slow)
        for n in zoo.list_models("g*.mog*", pretrained=True)
    ],
)
def test_trained_models_are_not_below_the_entropy(name):
    dataset = name.split(".")[1]
    model, x = zoo.create(name, pretrained=True), node_sets.sample(dataset, 4000, seed=7)
    excess = node_sets.log_prob(dataset, x) - tf.function(model.log_prob)(x).numpy()
    error = excess.std() / len(x) ** 0.5
    assert -4 * error < excess.mean() < 0.1 * node_sets.num_nodes(dataset)


@pytest.mark.slow
@each_architecture
def test_a_short_training_ends_above_the_entropy(architecture):
    """The mean of `log p(x) - log q(x)` over new sets is a divergence: no noise of the entropy."""
    model = zoo.create(f"{architecture}.mog4", num_blocks=4, width=16)
    trainer = tfflows.FlowModel(model, units="nats_per_node")
    data = node_sets.sample("mog4", 20_000, seed=0)
    trainer.compile("adam", jit_compile=True)
    trainer.initialize(data[:500])
    trainer.fit(data, batch_size=200, epochs=4, verbose=0)
    x = node_sets.sample("mog4", 5000, seed=1)
    excess = node_sets.log_prob("mog4", x) - model.log_prob(x).numpy()
    error = excess.std() / len(x) ** 0.5
    assert excess.mean() - 4 * error > 0
    assert excess.mean() < 4 * 2.0  # And has learned something.
