"""How networks are called: `training`, losses, and what they would assign."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.tfflows.watched_networks import (
    Counting,
    Doubled,
    built,
    coupling,
    dense,
    density,
    expected_losses,
    loss_network,
    points,
)
from tfflows import bijectors, condition, evaluation, networks

tfb = tfp.bijectors
K = keras.layers


def conditional():
    network = built(Doubled(2), [1], [1])
    return network, condition(coupling(network, conditional=True), tf.ones([5, 1]))


def dual():
    first, second = built(Doubled(2), [1]), built(Doubled(2), [1])
    return first, bijectors.DualAffineCoupling([first, second], [2], scale="exp")


def residual():
    network = built(Doubled(2), [2])
    network.dense.kernel.assign(0.1 * tf.eye(2))
    return network, bijectors.ResidualFlow(network, [2])


def sylvester():
    class Both(Doubled):
        """`f(u)`, which depends on entries before, and its diagonal."""

        def call(self, x, training=None):
            value = super().call(x[..., :1], training=training)
            return value * tf.constant([0.0, 1.0]), tf.zeros_like(value)

    network = built(Both(2), [2])
    return network, bijectors.Sylvester(tf.linalg.LinearOperatorIdentity(2), network)


def masked():
    class Masked(Doubled):
        def call(self, x, training=None):
            value = super().call(x[..., :1], training=training)
            return tf.stack([tf.zeros_like(value), value], -2)

    network = built(Masked(2), [2])
    return network, tfb.Invert(tfb.MaskedAutoregressiveFlow(networks.as_module(network)))


def single(wrap):
    network = built(Doubled(2), [1])
    return network, wrap(coupling(network))


HOLDERS = {
    "coupling": lambda: single(lambda flow: flow),
    "chain": lambda: single(lambda flow: tfb.Chain([tfb.Shift(1.0), tfb.Invert(flow)])),
    "block": lambda: single(lambda flow: bijectors.Block([flow])),
    "conditional": conditional,
    "dual": dual,
    "residual": residual,
    "sylvester": sylvester,
    "masked": masked,
}


@pytest.mark.parametrize("name", HOLDERS)
def test_training_reaches_the_networks_of_every_holder(name):
    network, flow = HOLDERS[name]()
    x = points()
    outside, _ = evaluation.forward_and_log_det(flow, x)
    assert network.last is False
    with evaluation.calling_networks():
        inside, log_det = evaluation.forward_and_log_det(flow, x)
        assert network.last is True
        back, inverse_log_det = evaluation.inverse_and_log_det(flow, tf.identity(inside))
    assert np.abs(inside - outside).max() > 1e-2
    np.testing.assert_allclose(back, x, atol=1e-5)
    np.testing.assert_allclose(inverse_log_det, -log_det, atol=1e-5)
    with evaluation.calling_networks(training=False):
        np.testing.assert_allclose(flow.forward(x), outside, rtol=1e-6)
    network.trainable = False  # What is frozen is as outside of training.
    if name != "dual":
        with evaluation.calling_networks():
            np.testing.assert_allclose(flow.forward(tf.identity(x)), outside, rtol=1e-6)


def test_nothing_remembered_crosses_a_block():
    _, flow = HOLDERS["coupling"]()
    x = points()

    def values():
        outside = flow.forward(x)
        with evaluation.calling_networks():
            inside = flow.forward(x)
        return outside, inside, flow.forward(x)

    for outside, inside, again in (values(), tf.function(values)()):
        assert np.abs(inside - outside).max() > 1e-2
        np.testing.assert_array_equal(outside, again)


def test_a_keras_layer_around_a_flow_hands_training_on():
    network, flow = HOLDERS["coupling"]()

    class Around(K.Layer):
        def call(self, x):
            return flow.forward(x)

    Around()(points(), training=True)
    assert network.last is True
    Around()(points())
    assert network.last is None or network.last is False


# Losses.

MODES = {
    "store": {},
    "recompute": {"memory": "recompute"},
    "invert": {"memory": "invert"},
    "loop": {"looping": True},
    "loop_invert": {"memory": "invert", "looping": True},
}


@pytest.mark.parametrize("jit", [None, False, True], ids=["eager", "graph", "xla"])
@pytest.mark.parametrize("mode", MODES)
def test_losses_and_their_gradients_are_those_of_every_mode(mode, jit):
    nets = [loss_network(10 * seed) for seed in range(1, 4)]
    flow = bijectors.Sequential([coupling(net) for net in nets])
    model, variables = density(flow), flow.trainable_variables
    x = points()

    def loss_and_gradients(memory="store", looping=False):
        with tf.GradientTape() as tape:
            with (
                evaluation.memory(memory),
                evaluation.looping(looping),
                evaluation.calling_networks() as calls,
            ):
                nll = -tf.reduce_mean(model.log_prob(x))
            losses = tf.add_n(calls.losses)
            total = nll + losses
        return nll, losses, *tape.gradient(total, variables)

    with tf.GradientTape() as tape:
        nll = -tf.reduce_mean(model.log_prob(x))
        losses = expected_losses(nets, x)
        total = nll + losses
    expected = [nll, losses, *tape.gradient(total, variables)]
    run = loss_and_gradients
    if jit is not None:
        run = tf.function(lambda: loss_and_gradients(**MODES[mode]), jit_compile=jit)
        results = run()
    else:
        results = run(**MODES[mode])
    for result, value in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, value, rtol=1e-4, atol=1e-6)


def test_losses_of_residual_and_sylvester_flows_count_once_in_both_directions():
    network = built(
        networks.LipschitzNet(2, width=3, kernel_sizes=(1, 1), activity_regularizer="l2"), [2]
    )
    for variable in network.trainable_variables:
        variable.assign_add(0.1 * tf.ones(variable.shape))
    masked = built(networks.MaskedConvNet(2, width=4, activity_regularizer="l2"), [2, 2, 2])
    x = points(8, 8)
    sylvester = bijectors.ConvSylvester.trainable([2, 2, 2], masked, seed=1)
    for flow, value in (
        (bijectors.ResidualFlow(network, [2]), x[:, :2]),
        (sylvester, tf.reshape(x, [8, 2, 2, 2])),
    ):
        with evaluation.calling_networks() as there:
            y = tf.identity(evaluation.forward_and_log_det(flow, value)[0])
        with evaluation.calling_networks() as back:
            evaluation.inverse_and_log_det(flow, y)
        assert len(there.losses) == len(back.losses) == 1
        np.testing.assert_allclose(there.losses[0], back.losses[0], rtol=1e-4)
        assert there.losses[0] > 0


def test_losses_in_a_loop_of_tfp_are_an_error():
    network = built(networks.MaskedMLP(2, 2, width=4, activity_regularizer="l2"), [2])
    flow = tfb.MaskedAutoregressiveFlow(networks.as_module(network))
    with evaluation.calling_networks() as calls:
        flow.inverse(points())
        assert len(calls.losses) == 1
        with pytest.raises(ValueError, match="must not be called inside of a loop"):
            tf.function(flow.forward)(points())


# What networks assign to.


@pytest.mark.parametrize("memory", ["store", "recompute", "invert"])
def test_variables_are_assigned_to_once_and_when_told(memory):
    counting = Counting()
    net = keras.Sequential([keras.Input([1]), counting, dense(2)])
    flow = bijectors.Sequential([coupling(net), tfb.Scale(2.0)])

    def step(x):
        mode = evaluation.memory(memory)
        with tf.GradientTape() as tape, mode, evaluation.calling_networks() as calls:
            loss = tf.reduce_sum(flow.forward(x))
        gradients = tape.gradient(loss, flow.trainable_variables)
        assert len(gradients) == 2
        before = counting.count.value.read_value()
        calls.assign_updates()
        return before

    assert step(points()) == 0 and tf.function(step)(points()) == 1
    assert counting.count.numpy() == 2
    flow.forward(points(3))
    assert counting.count.numpy() == 2
