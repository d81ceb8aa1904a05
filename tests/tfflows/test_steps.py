"""Steps of FlowModel: weights of events, last batches, shards and replicas, and their rows."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.tfflows.densities import SHAPE, data, density
from tfflows import FlowModel, bijectors, distributions, regularizers
from tfflows.training import NonFiniteError

tfb = tfp.bijectors
tfd = tfp.distributions

RNG = np.random.default_rng(0)
X = RNG.normal(1.0, 2.0, [65, 2]).astype("float32")  # Of batches of 32, the last has one row.
WEIGHTS = RNG.uniform(0.0, 3.0, 65).astype("float32")
CLASSES = RNG.integers(0, 3, 65)
RATE = 0.1


@pytest.fixture(params=["one", "three shards", "xla", "two replicas", "shards of replicas"])
def normal(request):
    """A function that makes a model of a normal, on one device or more."""

    def normal(**kwargs):
        replicas = "replicas" in request.param
        strategy = request.getfixturevalue("two_replicas") if replicas else None
        shards = {"three shards": 3, "shards of replicas": 2}.get(request.param, 1)
        with strategy.scope() if strategy else contextlib.nullcontext():
            base = distributions.trainable_normal([2])
            model = FlowModel(base, units="nats", shards=shards, **kwargs)
            model.compile(keras.optimizers.SGD(RATE), jit_compile=request.param == "xla")
        return model

    return normal


def test_shards_of_one_size_are_traced_once(monkeypatch):
    model = FlowModel(distributions.trainable_normal([2]), shards=4)
    model.compile(keras.optimizers.SGD(RATE))
    terms, rows = model._terms, []
    monkeypatch.setattr(
        model, "_terms", lambda x, *args: rows.append(x.shape[0]) or terms(x, *args)
    )
    model.train_on_batch(X[:64])
    assert rows == [16]


def losses(x):
    """`-log p(x)` of a standard normal."""
    return 0.5 * np.sum(x**2, axis=-1) + np.log(2 * np.pi)


def stepped(x, weights):
    """The mean after a step from a standard normal."""
    return RATE * np.mean(weights[:, None] * x, axis=0)


def loc(model):
    return tf.convert_to_tensor(model.trainable_weights[0]).numpy()


@pytest.mark.parametrize("rows", [1, 3, 65])
def test_a_batch_of_any_size_gives_the_mean_of_its_rows(normal, rows):
    model, x, w = normal(), X[:rows], WEIGHTS[:rows]
    history = model.fit(x, sample_weight=w, batch_size=65, verbose=0).history
    np.testing.assert_allclose(loc(model), stepped(x, w), rtol=1e-4)
    np.testing.assert_allclose(history["loss"], np.mean(w * losses(x)), rtol=1e-5)
    np.testing.assert_allclose(history["nats"], np.average(losses(x), weights=w), rtol=1e-5)


def test_an_epoch_is_the_mean_of_its_rows(normal):
    """The last of three batches has one row, so that a second replica has none."""
    model = normal()
    model.optimizer.learning_rate.assign(0.0)
    for method in (model.fit, model.evaluate):
        for weights in (None, WEIGHTS):
            found = method(X, sample_weight=weights, batch_size=32, verbose=0)
            if method == model.evaluate:
                found = dict(zip(("loss", "nats"), found, strict=True))
            else:
                found = {key: value[0] for key, value in found.history.items()}
            w = np.ones(65) if weights is None else weights
            np.testing.assert_allclose(found["loss"], np.mean(w * losses(X)), rtol=1e-5)
            np.testing.assert_allclose(found["nats"], np.average(losses(X), weights=w), rtol=1e-5)
    np.testing.assert_allclose(model.predict(X, batch_size=32, verbose=0), -losses(X), rtol=1e-5)


def test_weights_of_classes(normal):
    weights = {0: 0.0, 1: 1.0, 2: 3.0}
    model = normal()
    model.fit(X, CLASSES, batch_size=65, class_weight=weights, verbose=0)
    np.testing.assert_allclose(
        loc(model), stepped(X, np.vectorize(weights.get)(CLASSES)), rtol=1e-4
    )
    with pytest.raises(ValueError, match="`class_weight` needs the class of each event"):
        model.fit(X, class_weight=weights, verbose=0)


def test_events_of_weight_zero_are_not_learned():
    centre = np.repeat([[3.0, 3.0], [-3.0, -3.0]], 500, axis=0)
    x = (centre + np.random.default_rng(1).normal(size=[1000, 2])).astype("float32")
    weights = np.repeat([1.0, 0.0], 500)
    model = FlowModel(distributions.trainable_normal([2]), units="nats")
    model.compile(keras.optimizers.Adam(0.1))
    model.fit(x, sample_weight=weights, batch_size=100, epochs=15, verbose=0)
    np.testing.assert_allclose(loc(model), x[:500].mean(axis=0), atol=0.15)


@pytest.mark.parametrize("form", ["data set", "column", "list", "validation", "on_batch"])
def test_weights_come_in_every_form_that_keras_takes(form):
    model = FlowModel(distributions.trainable_normal([2]), units="nats")
    model.compile(keras.optimizers.SGD(RATE))
    x, w = X[:8], WEIGHTS[:8]
    if form == "data set":
        model.fit(tf.data.Dataset.from_tensors((x, np.zeros(8), w)), verbose=0)
    elif form == "on_batch":
        model.train_on_batch(x, sample_weight=w)
    elif form == "validation":
        history = model.fit(x, sample_weight=w, validation_data=(x, None, w), verbose=0).history
        expected = model.evaluate(x, sample_weight=w, verbose=0)
        assert [history["val_loss"][0], history["val_nats"][0]] == expected
    else:
        model.fit(x, sample_weight=w[:, None] if form == "column" else w.tolist(), verbose=0)
    np.testing.assert_allclose(loc(model), stepped(x, w), rtol=1e-4)


def test_weights_that_are_not_finite_are_named():
    model = FlowModel(distributions.trainable_normal([2]), units="nats")
    model.compile(keras.optimizers.SGD(RATE))
    with pytest.raises(NonFiniteError, match="The sample weights are not finite"):
        model.fit(X[:4], sample_weight=[1.0, np.nan, 1.0, 1.0], verbose=0)
    assert not np.any(loc(model))


@pytest.mark.parametrize("rows", [1, 3])
def test_penalties_are_those_of_the_rows_and_count_once(two_replicas, rows):
    kinds = {"l2": regularizers.linear_weights(0.1), "cost": mean_input}
    x, w = data(rows), np.arange(1.0, rows + 1)
    for strategy, shards in ((None, 1), (None, 2), (two_replicas, 2)):
        with strategy.scope() if strategy else contextlib.nullcontext():
            mixing = bijectors.InvertibleConv1x1.trainable([None, None, 2], seed=1)
            base = distributions.standard_normal(SHAPE)
            flow = tfd.TransformedDistribution(base, tfb.Invert(bijectors.Sequential([mixing])))
            model = FlowModel(flow, units="nats", shards=shards, regularizers=kinds)
            model.compile(keras.optimizers.SGD(0.0))
        likelihood = -flow.log_prob(x)
        expected = {"nats": np.average(likelihood, weights=w), "l2": 0.2, "cost": np.mean(x)}
        expected["loss"] = np.mean(w * likelihood) + 0.2 + np.mean(x)
        history = model.fit(x, sample_weight=w, verbose=0).history
        evaluated = model.evaluate(x, sample_weight=w, verbose=0, return_dict=True)
        for name, value in expected.items():
            np.testing.assert_allclose([history[name][0], evaluated[name]], value, rtol=1e-4)
        assert set(history) == set(evaluated) == set(expected)


def mean_input(records, distribution):
    """A penalty that depends on the rows."""
    return tf.reduce_mean(records[0].input)


def test_replicas_of_a_model_of_images_stay_finite_without_a_row(two_replicas):
    with two_replicas.scope():
        model = FlowModel(density(), check_finite=False)
        model.compile(keras.optimizers.Adam(0.01))
    x = data(9)
    history = model.fit(x, batch_size=8, validation_data=x, verbose=0).history
    expected = -np.mean(model.distribution.log_prob(x))
    np.testing.assert_allclose(history["val_loss"], expected, rtol=1e-5)


def test_a_batch_without_rows_changes_nothing():
    model = FlowModel(density())
    model.compile(keras.optimizers.SGD(RATE))
    before = [v.numpy() for v in model.weights]
    nothing = tf.data.Dataset.from_tensors(tf.zeros([0, *SHAPE]))
    model.fit(nothing, verbose=0)
    for a, b in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert model.evaluate(nothing, verbose=0) == [0.0, 0.0]
    assert model.predict(nothing, verbose=0).shape == (0,)
    assert model(np.zeros([0, *SHAPE], "float32")).shape == (0,)
