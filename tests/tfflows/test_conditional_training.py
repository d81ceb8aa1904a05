"""FlowModel of p(x | y): `y` in every form, networks that make a context of it, and errors."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfflows import FlowModel, bijectors, condition, distributions, evaluation, networks
from tfflows.bijectors import transforms
from tfflows.training import NonFiniteError

tfb = tfp.bijectors
tfd = tfp.distributions

RNG = np.random.default_rng(0)
X = RNG.normal(1.0, 2.0, [65, 2])
Y = RNG.normal(1.0, 1.0, [65, 2])
WEIGHTS = RNG.uniform(0.0, 3.0, 65)
LABELS = RNG.integers(0, 3, 65)
RATE = 0.1


class Linear(tf.Module):
    """`z = x + w y`, entry by entry: `x` given `y` is normal around `-w y`."""

    def __init__(self, dtype="float32"):
        super().__init__()
        self.weight = tf.Variable(np.zeros(2), dtype=dtype)

    def __call__(self, x, context):
        return (self.weight * context)[..., tf.newaxis]


def linear(dtype="float32", **kwargs):
    network, shift = Linear(dtype), transforms.Affine(scale=None)
    flow = bijectors.Autoregressive(network, [2], shift, conditional=True, dtype=dtype)
    base = distributions.standard_normal([2], dtype=tf.as_dtype(dtype))
    model = FlowModel(tfd.TransformedDistribution(base, tfb.Invert(flow)), units="nats", **kwargs)
    model.compile(keras.optimizers.SGD(RATE))
    return model


def losses(x):
    """`-log p(x | y)` at first, and for `y = 0`."""
    return 0.5 * np.sum(x**2, axis=-1) + np.log(2 * np.pi)


def weight(model):
    return model.trainable_weights[0].numpy()


def mlp_flow(size=3, width=8, layers=3):
    """Repeated steps of ActNorm, coupling and flip, with a context of `size` entries."""
    turns = []
    for i in range(layers):
        network = networks.MLP(2, width=width, seed=i)
        networks.build_network(network, [1], [size])
        network.layers[-1].kernel.assign(np.full([width, 2], 0.1))
        affine = transforms.Affine()
        coupling = bijectors.Coupling(network, [2], affine, conditional=True, context_ndims=1)
        norm = bijectors.ActNorm.trainable([2])
        turns.append([norm, coupling, bijectors.Flip(event_ndims=1)])
    flow = bijectors.Sequential([bijectors.Repeat(turns)])
    return tfd.TransformedDistribution(distributions.standard_normal([2]), tfb.Invert(flow))


def unknown_rank(*arrays):
    dtypes = tuple(tf.as_dtype(a.dtype) for a in arrays)
    parts = range(0, len(arrays[0]), 8)
    return tf.data.Dataset.from_generator(
        lambda: (tuple(a[i : i + 8] for a in arrays) for i in parts), output_types=dtypes
    )


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 9

    def __getitem__(self, i):
        return X[8 * i : 8 * i + 8], Y[8 * i : 8 * i + 8]


FORMS = {
    "float64": lambda x, y: (x, y),
    "float32": lambda x, y: (x.astype("float32"), y.astype("float32")),
    "list": lambda x, y: (x.tolist(), y.tolist()),
    "Tensor": lambda x, y: (tf.constant(x), tf.constant(y)),
    "data set": lambda x, y: (tf.data.Dataset.from_tensor_slices((x, y)).batch(8),),
    "unknown rank": lambda x, y: (unknown_rank(x, y),),
    "PyDataset": lambda x, y: (Batches(),),
}


@pytest.mark.filterwarnings("ignore:.*(ran out of data|shuffle=True|super)")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("form", FORMS)
def test_pairs_in_every_form(form, dtype):
    model, data = linear(dtype), FORMS[form](X, Y)
    model.weights[0].assign([0.5, -1.0])
    model.optimizer.learning_rate.assign(0.0)
    expected = losses(X + [0.5, -1.0] * Y)
    rtol = 1e-13 if dtype == "float64" and form != "float32" else 1e-5
    validation = data if len(data) == 2 else data[0]
    history = model.fit(*data, validation_data=validation, batch_size=8, verbose=0).history
    np.testing.assert_allclose(history["loss"], [np.mean(expected)], rtol=rtol)
    np.testing.assert_allclose(history["val_nats"], [np.mean(expected)], rtol=rtol)
    evaluated = model.evaluate(*data, batch_size=8, verbose=0)
    np.testing.assert_allclose(evaluated, [np.mean(expected)] * 2, rtol=rtol)
    np.testing.assert_allclose(model.predict(*data, verbose=0), -expected, rtol=rtol)
    if len(data) == 2:
        np.testing.assert_allclose(model(*data), -expected, rtol=rtol)
        np.testing.assert_allclose(model.predict(data[0], y=data[1], verbose=0), -expected, rtol)
        np.testing.assert_allclose(model.condition(data[1]).log_prob(X), -expected, rtol=rtol)
        split = model.fit(*data, validation_split=0.2, shuffle=False, verbose=0).history
        np.testing.assert_allclose(split["val_loss"], np.mean(expected[52:]), rtol=rtol)


@pytest.mark.parametrize("where", ["one", "three shards", "xla", "two replicas"])
@pytest.mark.parametrize("rows", [1, 3, 65])
def test_a_step_is_that_of_the_weighted_mean_of_pairs(request, where, rows):
    strategy = request.getfixturevalue("two_replicas") if "replicas" in where else None
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = linear(shards=3 if "shards" in where else 1)
        model.compile(keras.optimizers.SGD(RATE), jit_compile=where == "xla")
    x, y, w = X[:rows], Y[:rows], WEIGHTS[:rows]
    history = model.fit(x, y, sample_weight=w, batch_size=65, verbose=0).history
    np.testing.assert_allclose(weight(model), -RATE * np.mean(w[:, None] * x * y, 0), rtol=1e-4)
    np.testing.assert_allclose(history["loss"], np.mean(w * losses(x)), rtol=1e-5)
    np.testing.assert_allclose(history["nats"], np.average(losses(x), weights=w), rtol=1e-5)


def test_weights_of_classes_of_labels_that_are_the_context():
    weights, table = {0: 0.0, 1: 1.0, 2: 3.0}, RNG.normal(size=[3, 2]).astype("float32")
    model = linear(context=lambda y: tf.gather(table, y))
    model.fit(X, LABELS, class_weight=weights, batch_size=65, verbose=0)
    w = np.vectorize(weights.get)(LABELS)[:, None]
    np.testing.assert_allclose(weight(model), -RATE * np.mean(w * X * table[LABELS], 0), rtol=1e-4)


def test_an_embedding_is_trained_along_and_can_be_frozen():
    embedding = keras.layers.Embedding(3, 3)
    model = FlowModel(mlp_flow(layers=1), context=embedding, units="nats")
    model.compile(keras.optimizers.Adam(0.01))
    table = embedding.embeddings
    assert model.trainable_weights[0] is table.value and len(model.weights) == 9
    before = table.numpy()
    model.fit(X, LABELS, verbose=0)
    assert np.all(table.numpy() != before)
    embedding.trainable = False
    assert len(model.trainable_weights) == 8
    model.compile(keras.optimizers.Adam(0.01))
    before = table.numpy()
    model.fit(X, LABELS, verbose=0)
    np.testing.assert_array_equal(table.numpy(), before)
    model.trainable = False
    assert not model.trainable_weights
    model.trainable = True
    assert embedding.trainable and len(model.trainable_weights) == 9


def test_memory_and_loops_give_the_encoder_its_gradients():
    found, ways = [], [{}, {"memory": "recompute"}, {"memory": "invert"}, {"loop": True}]
    for jit, given in [*((False, way) for way in ways), (True, {"shards": 2, "loop": True})]:
        layer = keras.layers.Dense(3, kernel_initializer=keras.initializers.HeNormal(1))
        encoder = keras.Sequential([keras.Input([2]), layer])
        model = FlowModel(mlp_flow(), context=encoder, units="nats", **given)
        model.compile(keras.optimizers.SGD(0.01), jit_compile=jit)
        before = layer.kernel.numpy()
        model.fit(X[:8], Y[:8], verbose=0)
        found.append([layer.kernel.numpy() - before, *(v.numpy() for v in model.weights)])
    assert np.all(found[0][0] != 0)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)


def test_encoders_may_be_random_and_have_losses_and_statistics():
    normalization = keras.layers.BatchNormalization(momentum=0.0)
    dense = keras.layers.Dense(2, kernel_regularizer=keras.regularizers.L2(0.5))
    encoder = keras.Sequential([keras.Input([2]), normalization, keras.layers.Dropout(0.5), dense])
    model = linear(context=encoder, seed=1)
    model.weights[
        [v.path for v in model.weights].index("distribution/bijector/bijector/network/weight")
    ].assign([1.0, 1.0])
    model.compile(keras.optimizers.SGD(0.0))
    first, second = (model.fit(X, Y, batch_size=65, verbose=0).history for _ in range(2))
    assert first["nats"] != second["nats"]  # Other units are dropped.
    penalty = 0.5 * np.sum(dense.kernel.numpy() ** 2)
    np.testing.assert_allclose(first["network_losses"], penalty, rtol=1e-5)
    np.testing.assert_allclose(first["loss"][0], first["nats"][0] + penalty, rtol=1e-5)
    np.testing.assert_allclose(normalization.moving_mean, Y.mean(0), rtol=1e-5)
    again = [model.predict(X, Y, verbose=0) for _ in range(2)]
    np.testing.assert_array_equal(*again)


@keras.saving.register_keras_serializable(package="tests")
class MeanOfSet(keras.layers.Layer):
    """The mean over the observations of a set that count, and their number."""

    def call(self, y):
        mask = y["mask"][..., None]
        return tf.reduce_sum(mask * y["values"], 1) / tf.reduce_sum(mask, 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_summary_network_may_take_a_structure(dtype):
    summary = MeanOfSet(dtype=dtype)
    summary.built = True
    model = linear(dtype, context=summary, shards=2)
    values, mask = RNG.normal(size=[65, 4, 2]), RNG.integers(0, 2, [65, 4]).astype(float)
    mask[:, 0] = 1.0
    y = {"values": values, "mask": mask}
    mean = np.sum(mask[..., None] * values, 1) / np.sum(mask, 1, keepdims=True)
    model.fit(X, y, batch_size=65, verbose=0)
    np.testing.assert_allclose(weight(model), -RATE * np.mean(X * mean, 0), rtol=1e-5)
    expected = -losses(X + weight(model) * mean)
    np.testing.assert_allclose(model.predict(X, y, verbose=0), expected, rtol=1e-5)
    with pytest.raises(ValueError, match="`y` must be of as many rows as `x`"):
        model.fit(X, {**y, "mask": mask[:3]}, verbose=0)


def test_condition_samples_after_training():
    model = FlowModel(mlp_flow(), context=networks.OneHot(3), units="nats")
    one, batch = model.condition(2), model.condition([2, 0])
    assert one.batch_shape == [] and batch.batch_shape == [2]
    assert one.sample(5, seed=1).shape == [5, 2] and batch.sample(5, seed=1).shape == [5, 2, 2]
    direct = condition(model.distribution, tf.one_hot([2, 0], 3)).log_prob(X[:2])
    np.testing.assert_allclose(batch.log_prob(X[:2]), direct, rtol=1e-6)
    np.testing.assert_allclose(one.log_prob(X[0]), direct[0], rtol=1e-5)
    plain = FlowModel(mlp_flow(), units="nats")
    assert plain.condition([0.0, 0.0, 1.0]).batch_shape == []
    column = model.predict(X, LABELS[:, None], verbose=0)  # As CIFAR-10 has them.
    np.testing.assert_array_equal(column, model.predict(X, LABELS, verbose=0))


@pytest.mark.parametrize("shards", [1, 2])
def test_some_events_are_trained_without_their_context(shards):
    x, y = np.full([400, 2], -1.0), np.ones([400, 2])
    model = linear(context_dropout=0.25, shards=shards)
    before = model.evaluate(x, y, batch_size=400, verbose=0, return_dict=True)
    kept, weights = [], [0.0]
    for _ in range(3):
        model.fit(x, y, batch_size=400, verbose=0)
        weights.append(weight(model)[0])
        kept.append((weights[-1] - weights[-2]) / (RATE * (1 - weights[-2])))
    events = np.multiply(kept, 400)
    np.testing.assert_allclose(events, np.rint(events), atol=0.02)
    assert len(set(np.round(kept, 3))) == 3 and np.all(np.abs(np.array(kept) - 0.75) < 0.1)
    again = linear(context_dropout=0.25, shards=shards)
    again.fit(x, y, batch_size=400, verbose=0)
    np.testing.assert_array_equal(weight(again)[0], weights[1])  # It follows from the step.
    plain = linear(shards=shards)
    plain.distribution.trainable_variables[0].assign(weight(model))
    after = [m.evaluate(x, y, batch_size=400, verbose=0, return_dict=True) for m in (model, plain)]
    assert after[0] == after[1] and after[0]["nats"] < before["nats"]  # All have theirs.


def test_context_dropout_is_for_models_that_take_a_context():
    for rate in (-0.1, 1.0):
        with pytest.raises(ValueError, match="`context_dropout` must be at least 0 and less than"):
            linear(context_dropout=rate)
    with pytest.raises(ValueError, match="must be 0 for a distribution that takes no context"):
        FlowModel(distributions.standard_normal([2]), context_dropout=0.1)


def test_initialize_takes_y():
    models = [FlowModel(mlp_flow(), context=networks.OneHot(3), units="nats") for _ in range(3)]
    models[0].initialize(X, LABELS)
    models[1].initialize(X, 2 - LABELS)
    flow = models[2].condition(LABELS).bijector.bijector
    evaluation.initialize(flow, tf.constant(X, tf.float32))
    found, other, expected = (
        np.concatenate([v.numpy().ravel() for v in m.weights]) for m in models
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.any(np.abs(other - expected) > 1e-3)


@keras.saving.register_keras_serializable(package="tests")
def build_conditional():
    return mlp_flow(layers=1)


def test_weights_and_keras_files_hold_the_encoder(tmp_path):
    def encoder():
        return keras.Sequential(
            [keras.Input([], dtype="int32"), keras.layers.Embedding(3, 4), keras.layers.Dense(3)]
        )

    model = FlowModel.from_builder(build_conditional, context=encoder(), units="nats")
    model.compile(keras.optimizers.Adam(0.01))
    model.fit(X, LABELS, verbose=0)
    expected = model.predict(X, LABELS, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(X, LABELS, verbose=0), expected)
    loaded.fit(X, LABELS, verbose=0)
    model.save_weights(tmp_path / "w.weights.h5")
    other = FlowModel(mlp_flow(layers=1), context=encoder(), units="nats")
    other.load_weights(tmp_path / "w.weights.h5")
    np.testing.assert_array_equal(other.predict(X, LABELS, verbose=0), expected)
    with pytest.raises(ValueError, match=r"Missing from the file: \[.*context"):
        FlowModel(mlp_flow(layers=1), context=keras.layers.Embedding(3, 3)).load_weights(
            tmp_path / "w.weights.h5"
        )
    paths = {variable.path for variable in model.weights}
    assert sum(path.startswith("context/") for path in paths) == 3


ONE_HOT = np.eye(3)[LABELS]
DENSE = {size: keras.Sequential([keras.Input([5]), keras.layers.Dense(size)]) for size in (3, 4)}
ERRORS = {
    "missing": (None, None, r"`y` must be given, .*p\(x \| y\)"),
    "rows": (None, ONE_HOT[:9], r"`y` must be of as many rows as `x`\. .*x of 65 rows, y of 9\.$"),
    "width": (None, ONE_HOT[:, :2], r"`y` must have shape \[n, 3\]\. .*, 2\)\.$"),
    "labels": (None, LABELS, r"`y` must have shape \[n, 3\]\. "),
    "matrices": (None, np.ones([65, 1, 3]), r"`y` must have shape \[n, 3\]\. .*, 1, 3\)\.$"),
    "range": (networks.OneHot(3), LABELS + 1, r"`y` must be labels 0 \.\. 2\. .* 1 to 3\.$"),
    "embedded": (
        keras.layers.Embedding(3, 3),
        LABELS + 1,
        r"`y` must be labels 0 \.\. 2\. .* 3\.$",
    ),
    "floats": (networks.OneHot(3), LABELS + 0.5, r"`y` must be labels 0 \.\. 2\. .*float32\.$"),
    "input": (DENSE[3], ONE_HOT, r"`y` must be what the network `context` takes.* value 5, but "),
    "output": (
        DENSE[4],
        np.ones([65, 5]),
        r"`y` must have contexts of shape \[n, 3\]\. .*, 4\)\.$",
    ),
}


@pytest.mark.filterwarnings("ignore:.*shuffle=True")
@pytest.mark.parametrize("case", ERRORS)
def test_what_is_wrong_with_y_is_said_in_one_line(case):
    context, y, message = ERRORS[case]
    x = X.astype("float32")
    model = FlowModel(mlp_flow(layers=1), context=context, units="nats")
    model.compile(keras.optimizers.SGD(0.0))
    calls = [lambda f=f: f(x, y, verbose=0) for f in (model.fit, model.evaluate)]
    calls += [lambda: model.predict(x, y=y, verbose=0), lambda: model(x, y)]
    calls += [lambda: model.initialize(x, y)]
    if case not in ("rows", "missing"):
        calls.append(lambda: model.fit(tf.data.Dataset.from_tensors((x, y)), verbose=0))
    for call in calls:
        with pytest.raises(ValueError, match=f"^{message}") as error:
            call()
        assert "\n" not in str(error.value)


def test_y_in_vain_is_an_error():
    model = FlowModel(distributions.trainable_normal([2]), units="nats")
    model.compile(keras.optimizers.SGD(0.0))
    calls = [lambda f=f: f(X, LABELS) for f in (model.fit, model.evaluate, model.predict, model)]
    calls += [lambda: model.fit(X, LABELS, sample_weight=WEIGHTS)]
    calls += [lambda: model.fit(X, validation_data=(X, LABELS))]
    calls += [lambda: model.initialize(X, LABELS), lambda: model.condition(LABELS)]
    calls += [lambda: model.fit(tf.data.Dataset.from_tensors((X, LABELS)), verbose=0)]
    for call in calls:
        with pytest.raises(ValueError, match=r"^`y` must not be given,.*make no difference\. "):
            call()
    with pytest.raises(ValueError, match="`context` must be a callable, for a distribution with"):
        FlowModel(distributions.trainable_normal([2]), context=networks.OneHot(3))
    weighted = model.fit(
        X, LABELS, class_weight=dict.fromkeys(range(3), 2.0), validation_data=(X, LABELS), verbose=0
    )
    np.testing.assert_allclose(weighted.history["loss"], 2 * np.mean(losses(X)), rtol=1e-5)
    np.testing.assert_allclose(weighted.history["val_loss"], np.mean(losses(X)), rtol=1e-5)


def test_contexts_that_are_not_finite_are_named():
    model = linear()
    y = np.where(np.arange(65)[:, None] == 7, np.nan, Y)
    with pytest.raises(NonFiniteError, match=r"The contexts `y` are not finite: .* number 7\."):
        model.fit(X, y, batch_size=65, shuffle=False, verbose=0)
    with pytest.raises(ValueError, match=r"^`y` must be finite\. .* number 7\."):
        model.initialize(X, y)
    model = linear(context=lambda y: tf.math.log(y - tf.reduce_min(y) - 1e-3))
    with pytest.raises(NonFiniteError, match="The context network's output is not finite for 1 ev"):
        model.fit(X, Y, batch_size=65, verbose=0)


def test_labels_out_of_range_under_xla():
    model = linear(context=networks.OneHot(2))
    model.compile(keras.optimizers.SGD(0.0), jit_compile=True)
    with pytest.raises(ValueError, match=r"^`y` must be labels 0 \.\. 1\. Received: .* 1 to 3"):
        model.fit(X, LABELS + 1, verbose=0)
