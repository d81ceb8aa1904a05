"""Steps whose updates are fused are Keras's own, with a smaller graph."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfflows import FlowModel, bijectors, distributions, steps
from tfflows._optimizers import fused_updates

tfb = tfp.bijectors
tfd = tfp.distributions

RATE = keras.optimizers.schedules.PolynomialDecay(0.1, 10)
OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(RATE, beta_2=0.9, epsilon=1e-3),
    "clipped": lambda: keras.optimizers.Adam(RATE, beta_1=0.5, global_clipnorm=0.1),
    "averages": lambda: keras.optimizers.Adam(RATE, use_ema=True, ema_momentum=0.9),
    "overwritten": lambda: keras.optimizers.Adam(
        RATE, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2
    ),
    "accumulated": lambda: keras.optimizers.Adam(0.1, gradient_accumulation_steps=2, use_ema=True),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(RATE)),
    "adamw": lambda: keras.optimizers.AdamW(RATE, weight_decay=0.1),
    "adamax": lambda: keras.optimizers.Adamax(RATE, weight_decay=0.1, use_ema=True, clipvalue=0.1),
    "adamax, beta": lambda: keras.optimizers.Adamax(RATE, beta_1=0.5, beta_2=0.8, epsilon=1e-2),
    "amsgrad": lambda: keras.optimizers.Adam(RATE, amsgrad=True),
}


def model_of(optimizer, dtype="float32", num_layers=1):
    mixing = bijectors.InvertibleConv1x1.trainable
    layers = [mixing([None, None, 2], seed=i, dtype=dtype) for i in range(num_layers)]
    base = distributions.trainable_normal([1, 1, 2], dtype=dtype)
    flow = bijectors.Sequential(layers)
    model = FlowModel(tfd.TransformedDistribution(base, tfb.Invert(flow)), units="nats")
    model.compile(optimizer)
    optimizer.build(model.trainable_weights)
    return model


def batch(dtype="float32"):
    return np.random.default_rng(0).normal(1.0, 2.0, [8, 1, 1, 2]).astype(dtype)


def trained(name, dtype):
    model = model_of(OPTIMIZERS[name](), dtype)
    model.fit(np.tile(batch(dtype), [6, 1, 1, 1]), batch_size=8, verbose=0, shuffle=False)
    return state(model)


def state(model):
    return [(v.path, v.numpy()) for v in [*model.weights, *model.optimizer.variables]]


@pytest.fixture
def of_keras(monkeypatch):
    """Makes steps update as Keras does when it is called."""
    as_it_is = contextlib.nullcontext
    return lambda: monkeypatch.setattr(steps, "fused_updates", lambda optimizer: as_it_is())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_and_weights_are_those_of_keras(name, dtype, of_keras):
    found = trained(name, dtype)
    of_keras()
    expected = trained(name, dtype)
    for (path, value), (_, wanted) in zip(found, expected, strict=True):
        # In float64 too, since Keras rounds its factors to float32 there: see the next test.
        np.testing.assert_allclose(value, wanted, rtol=1e-4, atol=1e-5, err_msg=path)


@pytest.mark.parametrize("name", ["Adam", "Adamax"])
def test_updates_are_those_of_the_paper_in_float64(name):
    """Kingma and Ba (2015), algorithms 1 and 2, of the gradient of `(x - 3)^2 / 2`."""
    rate, beta_1, beta_2, epsilon = 0.125, 0.9, 0.999, 1e-3
    options = {"beta_1": beta_1, "beta_2": beta_2, "epsilon": epsilon}
    optimizer = getattr(keras.optimizers, name)(rate, **options)
    variable = keras.Variable(np.zeros(1), dtype="float64")
    x = m = v = 0.0
    for step in range(1, 6):
        with fused_updates(optimizer):
            optimizer.apply([variable - 3.0], [variable])
        gradient = x - 3.0
        m = beta_1 * m + (1 - beta_1) * gradient
        if name == "Adam":
            v = beta_2 * v + (1 - beta_2) * gradient**2
            factor = np.sqrt(1 - beta_2**step)
            x -= rate * factor / (1 - beta_1**step) * m / (np.sqrt(v) + epsilon)
        else:
            v = max(beta_2 * v, abs(gradient))
            x -= rate / (1 - beta_1**step) * m / (v + epsilon)
        np.testing.assert_allclose(variable.numpy(), [x], rtol=1e-12)


def num_operations(optimizer):
    model = model_of(optimizer, num_layers=10)
    step = tf.function(model.train_step, autograph=False)
    return len(step.get_concrete_function(tf.constant(batch())).graph.get_operations())


@pytest.mark.parametrize("name", ["adam", "averages", "adamax, beta"])
def test_updates_are_a_third_of_the_operations_of_keras(name, of_keras):
    found = num_operations(OPTIMIZERS[name]())
    of_keras()
    least = num_operations(keras.optimizers.SGD(0.1))
    assert found - least < (num_operations(OPTIMIZERS[name]()) - least) / 3


def test_derived_classes_update_by_themselves():
    class Still(keras.optimizers.Adam):
        def update_step(self, gradient, variable, learning_rate):
            pass

    model = model_of(Still(0.1))
    before = [v.numpy() for v in model.weights]
    model.fit(batch(), verbose=0)
    for a, b in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(a, b.numpy())


def test_an_optimizer_is_as_before_after_a_step_that_fails():
    model = model_of(keras.optimizers.Adam(0.1))
    attributes = set(vars(model.optimizer))
    with pytest.raises(Exception, match="finite"):
        model.fit(np.full([8, 1, 1, 2], np.nan, "float32"), verbose=0)
    assert set(vars(model.optimizer)) == attributes


@pytest.mark.parametrize("name", ["adam", "adamax", "averages"])
@pytest.mark.parametrize("mode", ["eager", "xla"])
def test_eager_steps_and_xla_agree_with_graphs(name, mode):
    expected = trained(name, "float32")
    model = model_of(OPTIMIZERS[name]())
    model.check_finite = False  # XLA can't translate the diagnosis.
    step = model.train_step
    if mode == "xla":
        step = tf.function(step, autograph=False, jit_compile=True)
    for _ in range(6):
        step(tf.constant(batch()))
    model.optimizer.finalize_variable_values(model.trainable_weights)  # As `fit` does.
    for (path, value), (_, wanted) in zip(state(model), expected, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-4, atol=1e-5, err_msg=path)
