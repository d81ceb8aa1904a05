"""FlowModel: training, saving, averaging, two devices."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.tfflows.densities import SHAPE, assert_same, data, density, flow, sgd, weights
from tfflows import FlowModel, bijectors, distributions

tfb = tfp.bijectors
tfd = tfp.distributions


def discrete():
    return distributions.Dequantized(density(), num_levels=16)


# Fit and evaluate.


def test_fit_decreases_the_loss_and_evaluate_agrees_with_log_prob():
    model = FlowModel(density(), units="nats")
    model.compile(keras.optimizers.Adam(0.05))
    x = data()
    before = model.evaluate(x, verbose=0, return_dict=True)["nats"]
    np.testing.assert_allclose(before, -np.mean(model.distribution.log_prob(x)), rtol=1e-5)
    history = model.fit(x, batch_size=32, epochs=20, verbose=0).history["nats"]
    assert history[-1] < history[0]
    after = model.evaluate(x, verbose=0, return_dict=True)["nats"]
    assert after < before - 1
    np.testing.assert_allclose(after, -np.mean(model.distribution.log_prob(x)), rtol=1e-5)


def test_units():
    x = data()
    nats, bits = (FlowModel(density(), units=units) for units in ("nats", "bits_per_dim"))
    results = {}
    for model in (nats, bits):
        model.compile(sgd())
        results.update(model.evaluate(x, verbose=0, return_dict=True))
    np.testing.assert_allclose(
        results["bits_per_dim"], results["nats"] / (8 * np.log(2)), rtol=1e-6
    )
    with pytest.raises(ValueError, match="`units` must be .* Received: units='bits'"):
        FlowModel(density(), units="bits")


def test_count_params_and_variables_are_those_of_the_distribution():
    model = FlowModel(density(norm="power_iteration"))
    # Base 2 + 2, ActNorm 2 + 2, weight 2 2, kernel 3 3 2 2; the ConvNet below with its biases.
    network = 9 * 4 + 4 + 4 * 4 + 4 + 36 * 2 + 2
    assert model.count_params() == 4 + 4 + 4 + 36 + network
    assert {v.ref() for v in model.trainable_weights} == {
        v.ref() for v in model.distribution.trainable_variables
    }
    assert len(model.non_trainable_weights) == 1  # The power iteration's vector.


def test_only_distributions_are_trained():
    with pytest.raises(ValueError, match=r"`distribution` must be a `tfd\.Distribution`"):
        FlowModel(flow())


def test_call_gives_log_prob_in_nats():
    model = FlowModel(density())
    x = data(4)
    np.testing.assert_allclose(model(x), model.distribution.log_prob(x), rtol=1e-6)


def test_xla_gives_the_loss_of_the_interpreter():
    losses = []
    for jit in (False, True):
        model = FlowModel(density(), units="nats")
        model.compile(sgd(), jit_compile=jit)
        history = model.fit(data(), batch_size=16, epochs=2, shuffle=False, verbose=0).history
        losses.append(history["nats"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    assert losses[0][0] != losses[0][1]


def test_noise_follows_from_seed_and_step():
    images = np.random.default_rng(0).integers(0, 16, [32, *SHAPE]).astype("uint8")
    losses = []
    for seed in (1, 1, 2):
        model = FlowModel(discrete(), seed=seed)
        model.compile(sgd(0.0))  # All steps alike but for the noise.
        fit = model.fit(images, batch_size=32, epochs=2, verbose=0, shuffle=False)
        losses.append(fit.history["bits_per_dim"])
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]
    assert losses[0][0] != losses[0][1]


def test_initialize_standardises_the_dequantised_images():
    model = FlowModel(discrete())
    images = np.random.default_rng(0).integers(0, 16, [200, *SHAPE]).astype("uint8")
    model.initialize(images)
    v, _ = model.distribution.dequantize(images, seed=[0, 5])
    norm = model.distribution.distribution.bijector.bijector.bijectors[0]
    mean, variance = tf.nn.moments(norm.forward(v), [0, 1, 2])
    np.testing.assert_allclose(mean, 0.0, atol=0.05)
    np.testing.assert_allclose(variance, 1.0, atol=0.05)


def test_clipping_bounds_the_step():
    def moved(**kwargs):
        model = FlowModel(density())
        model.compile(keras.optimizers.SGD(1.0, **kwargs))
        before = weights(model)
        model.fit(100 * data(), batch_size=64, verbose=0)
        change = [a - b for a, b in zip(weights(model), before, strict=True)]
        return np.sqrt(sum(np.sum(c**2) for c in change))

    np.testing.assert_allclose(moved(global_clipnorm=0.01), 0.01, rtol=1e-3)
    assert moved() > 1.0


def test_average_of_the_weights_replaces_them_at_the_end():
    """Keras averages raw `tf.Variable`s too."""
    trajectory = []
    snapshots = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: trajectory.append(weights(model))
    )
    model = FlowModel(density())
    model.compile(keras.optimizers.Adam(0.05, use_ema=True, ema_momentum=0.5))
    start = weights(model)
    model.fit(data(), batch_size=16, verbose=0, callbacks=[snapshots])
    last, average = trajectory[-1], [np.zeros_like(w) for w in start]
    for step, values in enumerate(trajectory):
        momentum = 0.5 if step else 0.0
        average = [momentum * a + (1 - momentum) * v for a, v in zip(average, values, strict=True)]
    for actual, expected, end in zip(weights(model), average, last, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)
        assert np.any(np.abs(actual - end) > 1e-5)


def test_training_moves_the_power_iteration():
    model = FlowModel(density(norm="power_iteration"))
    model.compile(sgd())
    (vector,) = model.non_trainable_weights
    before = vector.numpy()
    model.fit(data(), batch_size=32, verbose=0)
    assert np.any(np.abs(vector - before) > 1e-3)
    np.testing.assert_allclose(np.linalg.norm(vector), 1.0, rtol=1e-5)


@pytest.fixture
def float16():
    keras.mixed_precision.set_global_policy("mixed_float16")
    yield
    keras.mixed_precision.set_global_policy("float32")


def test_float16_scales_the_loss_and_counts_steps_that_overflow(float16):
    model = FlowModel(density())
    model.compile(keras.optimizers.SGD(1e-2, global_clipnorm=1.0))
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    model.optimizer.build(model.trainable_weights)
    before, x = weights(model), 100 * data(16)  # A loss whose multiple is beyond float32.
    model.optimizer.dynamic_scale.assign(1e38)
    model.fit(x, batch_size=16, verbose=0)
    assert_same(weights(model), before)
    assert float(model.optimizer.dynamic_scale.numpy()) == pytest.approx(5e37)
    assert int(model.optimizer.iterations.numpy()) == 1
    model.optimizer.dynamic_scale.assign(16.0)
    history = model.fit(data(16), batch_size=16, epochs=4, verbose=0).history
    assert int(model.optimizer.iterations.numpy()) == 5
    assert history["bits_per_dim"][-1] < history["bits_per_dim"][0]


# Two devices.


def fit_on(strategy):
    with strategy.scope():
        model = FlowModel(density(norm="power_iteration"))
        model.compile(keras.optimizers.Adam(0.01, global_clipnorm=1.0))
    batches = tf.data.Dataset.from_tensor_slices(data(40)).batch(8)  # The global batch.
    losses = []
    record = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: losses.append(logs["bits_per_dim"])
    )
    model.fit(batches.repeat(), epochs=5, steps_per_epoch=1, verbose=0, callbacks=[record])
    return losses, [tf.convert_to_tensor(v).numpy() for v in model.weights]


def test_two_devices_give_the_loss_of_one(two_replicas):
    one_loss, one_weights = fit_on(tf.distribute.get_strategy())
    two_loss, two_weights = fit_on(two_replicas)
    assert len(one_loss) == 5
    np.testing.assert_allclose(two_loss, one_loss, rtol=1e-5)
    assert len({round(value, 6) for value in one_loss}) == 5
    for one, two in zip(one_weights, two_weights, strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-2, atol=1e-4)


# Saving.


def test_weights_go_through_a_file(tmp_path):
    path = tmp_path / "model.weights.h5"
    model, other = FlowModel(density(seed=1)), FlowModel(density(seed=2))
    model.distribution.bijector.bijector.bijectors[0].variables[0].assign([1.0, 2.0])
    x = data(4)
    assert np.any(np.abs(model(x) - other(x)) > 1e-3)
    model.save_weights(path)
    other.load_weights(path)
    np.testing.assert_array_equal(model(x), other(x))


def test_weights_of_another_model_are_refused_by_name(tmp_path):
    path = tmp_path / "model.weights.h5"
    FlowModel(density()).save_weights(path)
    other = FlowModel(tfd.TransformedDistribution(distributions.standard_normal(SHAPE), flow()))
    before = weights(other)
    with pytest.raises(
        ValueError, match=r"those of another model(.|\n)*Missing from the file: \['"
    ):
        other.load_weights(path)
    wide = tfd.TransformedDistribution(
        distributions.trainable_normal(SHAPE, per_channel=False), tfb.Invert(flow()), name="density"
    )
    with pytest.raises(ValueError, match=r"those of another model"):
        FlowModel(wide).load_weights(path)
    assert_same(weights(other), before)


def test_weights_of_another_shape_are_refused_before_any_is_loaded(tmp_path):
    path = tmp_path / "model.weights.h5"
    norm = bijectors.ActNorm.trainable

    def model(channels):
        base = distributions.standard_normal([2, 2, channels])
        return FlowModel(tfd.TransformedDistribution(base, tfb.Invert(norm(channels))))

    model(3).save_weights(path)
    other = model(2)
    with pytest.raises(ValueError, match=r"must have shape \(2,\)\. Received: \(3,\)"):
        other.load_weights(path)
    assert all(np.all(w == 0) for w in weights(other))


def test_keras_file_holds_the_whole_model(tmp_path):
    path = tmp_path / "model.keras"
    model = FlowModel.from_builder(
        density, {"seed": 3}, units="nats", seed=5, check_finite=False, memory="recompute"
    )
    model.compile(keras.optimizers.Adam(0.01))
    model.fit(data(), batch_size=32, verbose=0)
    model.save(path)
    again = keras.saving.load_model(path)
    assert isinstance(again, FlowModel)
    assert (again.units, again.seed, again.check_finite) == ("nats", 5, False)
    assert again.memory == "recompute"
    x = data(4)
    np.testing.assert_array_equal(again(x), model(x))
    assert int(again.optimizer.iterations) == 2
    # Training goes on where it was.
    fits = [m.fit(data(), batch_size=64, verbose=0).history["nats"] for m in (model, again)]
    np.testing.assert_allclose(*fits, rtol=1e-6)


def test_keras_file_needs_a_builder(tmp_path):
    model = FlowModel(density())
    with pytest.raises(ValueError, match=r"FlowModel\.from_builder(.|\n)*'density'"):
        model.save(tmp_path / "model.keras")


def test_truncated_weights_are_refused(tmp_path):
    path = tmp_path / "model.weights.h5"
    FlowModel(density()).save_weights(path)
    path.write_bytes(path.read_bytes()[:1000])
    model = FlowModel(density(seed=2))
    before = weights(model)
    with pytest.raises((OSError, ValueError, KeyError)):
        model.load_weights(path)
    assert_same(weights(model), before)
