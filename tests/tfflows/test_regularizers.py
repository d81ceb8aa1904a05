"""Penalties: their values, and that they are reported apart from the likelihood."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfflows import FlowModel, bijectors, distributions, regularizers
from tfflows.analysis import layers

tfb = tfp.bijectors
tfd = tfp.distributions


@pytest.fixture
def density():
    flow = bijectors.Sequential(
        [
            bijectors.Block(
                [bijectors.StridedConv.trainable([None, None, 2], scale=1.5, name="conv")]
            ),
            bijectors.InvertibleConv1x1.trainable([None, None, 2], seed=1),
            bijectors.Block([tfb.Shift(1.0)], name="shift"),
        ]
    )
    base = distributions.standard_normal([2, 2, 2])
    return tfd.TransformedDistribution(base, tfb.Invert(bijectors.Sequential([flow])))


def images(count=6):
    return tf.random.stateless_normal([count, 2, 2, 2], [1, 2])


def penalty_of(regularizer, density, x):
    with layers.record_evaluations() as records:
        density.log_prob(x)
    return float(regularizer(records, density))


def test_values(density):
    x = images()
    # |1.5 x - x|^2 in the first block, 1 for each of 8 entries in the last.
    moved = 0.25 * np.mean(np.sum(np.square(x), axis=(1, 2, 3))) + 8
    assert penalty_of(regularizers.transport_cost(2.0), density, x) == pytest.approx(2 * moved)
    # |1.5 I|^2 and that of a rotation.
    assert penalty_of(regularizers.linear_weights(0.1), density, x) == pytest.approx(0.1 * 6.5)
    cap = penalty_of(regularizers.spectral_cap(1.2), density, x)
    assert (1.5 - 1.2) ** 2 <= cap < (1.5 * 1.012 - 1.2) ** 2
    assert penalty_of(regularizers.spectral_cap(1.6), density, x) == 0


@pytest.mark.parametrize("jit", [False, True])
def test_reported_apart_and_trained(density, jit):
    kinds = {"weight_l2": regularizers.linear_weights(0.1)}
    plain, model = (
        FlowModel(density, units="nats"),
        FlowModel(density, units="nats", regularizers=kinds),
    )
    for m in (plain, model):
        m.compile(keras.optimizers.SGD(0.0), jit_compile=jit)
    x = images(8)
    expected = plain.fit(x, batch_size=8, verbose=0).history
    history = model.fit(x, batch_size=8, verbose=0).history
    np.testing.assert_allclose(history["nats"], expected["nats"], rtol=1e-6)
    np.testing.assert_allclose(history["weight_l2"], [0.65], rtol=1e-5)
    gradients = model._loss_and_gradients(x, tf.constant([0, 0]))[2]
    others = plain._loss_and_gradients(x, tf.constant([0, 0]))[2]
    matrix = density.bijector.bijector.trainable_variables[1]
    index = [v is matrix for v in model.trainable_weights].index(True)
    np.testing.assert_allclose(gradients[index] - others[index], 0.2 * matrix, atol=1e-5)


def test_shards_give_the_penalty_of_the_whole(density):
    kinds = {"transport_cost": regularizers.transport_cost(1.0)}
    x, seed = images(8), tf.constant([0, 0])
    results = []
    for shards in (1, 2):
        model = FlowModel(density, units="nats", regularizers=kinds, shards=shards)
        model.compile(keras.optimizers.SGD(0.0))
        results.append(model._make_loss_and_gradients()(x, seed)[1])
    np.testing.assert_allclose(*results, rtol=1e-5)
