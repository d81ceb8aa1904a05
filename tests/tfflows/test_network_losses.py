"""`FlowModel` calls networks as Keras does: `training`, losses, constraints, assignments."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.tfflows.watched_networks import (
    Counting,
    Doubled,
    K,
    built,
    coupling,
    dense,
    density,
    expected_losses,
    loss_network,
)
from tfflows import FlowModel, bijectors, evaluation, networks

tfb = tfp.bijectors


def points(count=64):
    return np.random.default_rng(0).normal(size=[count, 2]).astype("float32")


def model_of(*nets, optimizer=None, **kwargs):
    flow = bijectors.Sequential([coupling(net) for net in nets])
    jit = kwargs.pop("jit_compile", False)
    model = FlowModel(density(flow), units="nats", **kwargs)
    model.compile(optimizer or keras.optimizers.SGD(0.05), jit_compile=jit)
    return model


def regularized(seed=1):
    """Losses of weights, of outputs, and by `add_loss`."""
    network = loss_network(seed)
    network.layers[0].kernel.regularizer = keras.regularizers.L2(0.7)
    return network


def expected(nets, model, x):
    weights = sum(0.7 * tf.reduce_sum(net.layers[0].kernel ** 2) for net in nets)
    return -tf.reduce_mean(model.distribution.log_prob(x)), expected_losses(nets, x) + weights


SETTINGS = {
    "plain": {},
    "shards": {"shards": 2},
    "xla": {"jit_compile": True},
    "recompute": {"memory": "recompute"},
    "invert": {"memory": "invert"},
    "loop": {"loop": True},
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_losses_of_networks_are_trained_on_and_shown_beside_the_likelihood(setting):
    nets = [regularized(10 * seed) for seed in range(1, 4)]
    model, x = model_of(*nets, **SETTINGS[setting]), points()
    variables = model.trainable_weights
    with tf.GradientTape() as tape:
        nats, losses = expected(nets, model, tf.constant(x))
        total = nats + losses
    gradients = tape.gradient(total, variables)
    wanted = [v - 0.05 * g for v, g in zip(variables, gradients, strict=True)]
    for logs in (
        model.evaluate(x, batch_size=64, verbose=0, return_dict=True),
        model.fit(x, batch_size=64, verbose=0).history,
    ):
        np.testing.assert_allclose(np.squeeze(logs["nats"]), nats, rtol=1e-5)
        np.testing.assert_allclose(np.squeeze(logs["network_losses"]), losses, rtol=1e-5)
        np.testing.assert_allclose(np.squeeze(logs["loss"]), nats + losses, rtol=1e-5)
    for variable, value in zip(variables, wanted, strict=True):
        np.testing.assert_allclose(variable, value, rtol=1e-4, atol=1e-6)


def test_losses_of_two_replicas_are_those_of_one(two_replicas):
    results = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        with strategy.scope():
            constraint = keras.constraints.MaxNorm(0.1)
            nets = [
                keras.Sequential(
                    [
                        keras.Input([1]),
                        dense(2, kernel_regularizer="l2", activity_regularizer="l2"),
                        dense(2, kernel_constraint=constraint),
                    ]
                )
            ]
            model = model_of(*nets)
        data = tf.data.Dataset.from_tensor_slices(points(10)).batch(4)  # The last one is uneven.
        history = model.fit(data, epochs=2, verbose=0).history
        kernel = nets[0].layers[1].kernel.numpy()
        assert np.linalg.norm(kernel, axis=0).max() <= 0.1 + 1e-6
        results.append([history["network_losses"], kernel])
    for one, two in zip(*results, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5)


def test_a_frozen_network_has_no_losses_of_weights():
    network = keras.Sequential([keras.Input([1]), dense(2, kernel_regularizer="l2")])
    model = model_of(network)
    assert len(model.losses) == 1
    assert "network_losses" in model.fit(points(), verbose=0).history
    network.trainable = False
    assert model.losses == []
    with pytest.warns(UserWarning, match="all of 'flow_model' is frozen"):
        assert "network_losses" not in model.fit(points(), verbose=0).history


def test_without_losses_nothing_is_shown():
    logs = model_of(built(Doubled(2), [1])).fit(points(), verbose=0).history
    assert sorted(logs) == ["loss", "nats"]


def test_training_is_true_in_fit_and_false_elsewhere():
    network = built(Doubled(2), [1])
    model = model_of(network, optimizer=keras.optimizers.SGD(0.0))
    x = points()
    outside = -np.mean(model.distribution.log_prob(x))
    with evaluation.calling_networks():
        inside = -np.mean(model.distribution.log_prob(tf.constant(x)))
    assert abs(inside - outside) > 1e-2
    fit = model.fit(x, batch_size=64, verbose=0, validation_data=(x,)).history
    np.testing.assert_allclose([fit["nats"][0], fit["val_nats"][0]], [inside, outside], rtol=1e-5)
    evaluated = model.evaluate(x, batch_size=64, verbose=0, return_dict=True)["nats"]
    np.testing.assert_allclose(evaluated, outside, rtol=1e-5)
    np.testing.assert_allclose(-np.mean(model.predict(x, verbose=0)), outside, rtol=1e-5)
    np.testing.assert_allclose(-np.mean(model(x)), outside, rtol=1e-5)
    np.testing.assert_allclose(-np.mean(model(x, training=True)), inside, rtol=1e-5)


@pytest.mark.parametrize("layer", [K.Dropout(0.5), K.BatchNormalization()])
def test_fit_refuses_what_makes_a_flow_no_bijection(layer):
    network = keras.Sequential([keras.Input([1]), dense(3), layer, dense(2)])
    model = model_of(network)
    model.evaluate(points(), verbose=0)
    before = [v.numpy() for v in model.weights]
    message = rf"^In training the layer '.*' \({type(layer).__name__}\) .*networks\.Deterministic"
    with pytest.raises(ValueError, match=message):
        model.fit(points(), verbose=0)
    for variable, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    calm = model_of(networks.Deterministic(network))
    calm.fit(points(), verbose=0)
    changed = [np.any(v.numpy() != b) for v, b in zip(model.weights, before, strict=True)]
    assert changed == [v.trainable for v in model.weights]  # No average, no seed.


@pytest.mark.parametrize("setting", ["plain", "shards", "recompute", "xla"])
def test_what_networks_assign_to_is_assigned_once_a_step(setting):
    counting = Counting()
    norm = K.SpectralNormalization(dense(2))
    network = keras.Sequential([keras.Input([1]), counting, norm])
    model = model_of(network, **SETTINGS[setting])
    vector = norm.vector_u.numpy()
    model.fit(points(), batch_size=32, epochs=2, verbose=0)
    assert counting.count.numpy() == 4 and np.any(norm.vector_u.numpy() != vector)
    model.evaluate(points(), verbose=0)
    assert counting.count.numpy() == 4
