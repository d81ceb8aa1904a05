"""Optimizers and callbacks of Keras do with a FlowModel what they do with any Keras model."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfflows import FlowModel, bijectors, distributions

tfb = tfp.bijectors
tfd = tfp.distributions

X = np.random.default_rng(0).normal(1.0, 2.0, [8, 1, 1, 2]).astype("float32")
RATE = 0.1


@keras.saving.register_keras_serializable(package="tests")
def mixed_normal():
    mixing = bijectors.InvertibleConv1x1.trainable([None, None, 2], seed=1)
    base = distributions.trainable_normal([1, 1, 2])
    return tfd.TransformedDistribution(base, tfb.Invert(bijectors.Sequential([mixing])))


def compiled(optimizer):
    model = FlowModel.from_builder(mixed_normal, units="nats")
    model.compile(optimizer)
    return model


def weights(model):
    return [v.numpy() for v in model.weights]


# Optimizers.

KINDS = {
    name: kind
    for name, kind in vars(keras.optimizers).items()
    if isinstance(kind, type)
    and issubclass(kind, keras.optimizers.Optimizer)
    and name not in ("Optimizer", "LossScaleOptimizer", "MultiOptimizer")
}


@pytest.mark.parametrize(
    "make",
    [
        *KINDS.values(),
        lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()),
        lambda: keras.optimizers.MultiOptimizer(by_path),
        lambda: keras.optimizers.Muon(exclude_layers=["bijectors/0"]),
        lambda: keras.optimizers.AdamW(use_ema=True, ema_overwrite_frequency=1, clipnorm=1.0),
    ],
)
def test_every_optimizer_takes_a_step(make):
    model = compiled(make())
    before = weights(model)
    model.fit(X, batch_size=8, verbose=0)
    for a, b in zip(before, weights(model), strict=True):
        assert np.all(np.isfinite(b))
        assert np.any(a != b)


OF_NORMAL, OF_FLOW = keras.optimizers.SGD(RATE), keras.optimizers.Adam(RATE)


def by_path(variable):
    return OF_FLOW if variable.path.startswith("bijector/") else OF_NORMAL


def test_all_kinds_are_here():
    assert len(KINDS) >= 14
    assert {"Adam", "Muon", "ScheduleFreeAdamW"} <= set(KINDS)


def moved(optimizer, x, **kwargs):
    model = compiled(optimizer)
    model.fit(x, verbose=0, shuffle=False, **kwargs)
    return model


def test_accumulated_gradients_are_those_of_the_larger_batch():
    several = moved(keras.optimizers.SGD(RATE, gradient_accumulation_steps=2), X, batch_size=4)
    one = moved(keras.optimizers.SGD(RATE), X, batch_size=8)
    for a, b in zip(weights(several), weights(one), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    assert int(several.optimizer.iterations) == 1


def test_noise_of_accumulated_steps_differs():
    model = FlowModel(distributions.Dequantized(mixed_normal(), num_levels=16))
    model.compile(keras.optimizers.SGD(0.0, gradient_accumulation_steps=4))
    images = np.full([1, 1, 1, 2], 3, "uint8")
    losses = [model.train_on_batch(images)[0] for _ in range(4)]
    assert len(set(losses)) == 4


def test_a_factor_of_the_loss_changes_no_step():
    scaled = moved(keras.optimizers.SGD(RATE, loss_scale_factor=1024.0), X, batch_size=8)
    for a, b in zip(weights(scaled), weights(moved(keras.optimizers.SGD(RATE), X)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


# Callbacks. The nearer the mean is to that of `X`, the worse is the model on points around 0.


@keras.saving.register_keras_serializable(package="tests")
def moving_normal():
    return tfd.Independent(tfd.Normal(tf.Variable([0.0, 0.0]), 1.0), 1)


AROUND_0 = np.array([[-1.0, 0.0], [1.0, 0.0]], "float32")


def fit(*callbacks):
    model = FlowModel.from_builder(moving_normal, units="nats")
    model.compile(keras.optimizers.SGD(RATE))
    data = {"x": X[:, 0, 0], "validation_data": AROUND_0, "shuffle": False}
    return model, model.fit(**data, epochs=4, callbacks=list(callbacks), verbose=0).history


@pytest.mark.parametrize("monitor", ["val_loss", "val_nats"])
def test_early_stopping_and_checkpoints_take_less_for_better(monitor, tmp_path):
    stop = keras.callbacks.EarlyStopping(monitor, patience=1, restore_best_weights=True)
    model, history = fit(stop)
    assert len(history[monitor]) == 2
    assert history[monitor][0] < history[monitor][1]
    path = tmp_path / "best.keras"
    fit(keras.callbacks.ModelCheckpoint(path, monitor, save_best_only=True))
    for a, b in zip(weights(keras.saving.load_model(path)), weights(model), strict=True):
        np.testing.assert_array_equal(a, b)
    assert model.evaluate(AROUND_0, verbose=0)[0] == pytest.approx(history[monitor][0], rel=1e-6)


def test_early_stopping_goes_on_while_the_loss_falls():
    _, history = fit(keras.callbacks.EarlyStopping("nats", patience=0))
    assert len(history["nats"]) == 4
    assert np.all(np.diff(history["nats"]) < 0)


def test_other_callbacks(tmp_path):
    callbacks = [
        keras.callbacks.ReduceLROnPlateau(patience=0, factor=0.5),
        keras.callbacks.TerminateOnNaN(),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.BackupAndRestore(tmp_path / "backup"),
    ]
    model, history = fit(*callbacks)
    assert history["learning_rate"][-1] < RATE
    header = (tmp_path / "log.csv").read_text().splitlines()[0]
    assert header == "epoch,learning_rate,loss,nats,val_loss,val_nats"
    assert model.metrics_names == ["loss", "nats"]
    assert len(model.evaluate(AROUND_0, verbose=0)) == 2


def test_a_loss_or_metrics_of_ones_own_are_refused():
    model = FlowModel(mixed_normal())
    for name in ("loss", "metrics", "weighted_metrics"):
        with pytest.raises(ValueError, match=f"`{name}` must not be given"):
            model.compile("adam", **{name: "mse"})
    model.compile("adam", loss=None, steps_per_execution=2)
    assert model.optimizer is not None
