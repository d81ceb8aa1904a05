"""Programs of XLA, without JAX: what they capture, under which names, and what can't be one."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfflows
from tfflows import bijectors, networks, programs


def made():
    """A density with a Keras network, a part that is frozen, and a network's state."""
    network = keras.Sequential(
        [
            keras.Input([1]),
            keras.layers.SpectralNormalization(keras.layers.Dense(4)),
            keras.layers.Dense(2),
        ]
    )
    flow = bijectors.Sequential(
        [
            bijectors.ActNorm.trainable([2]),
            bijectors.Coupling(network, [2], bijectors.transforms.Affine()),
            bijectors.ActNorm.trainable([2]),
        ]
    )
    tfflows.set_trainable(flow.bijectors[2], False)
    base = tfflows.distributions.standard_normal([2])
    return tfp.distributions.TransformedDistribution(base, tfp.bijectors.Invert(flow))


@pytest.fixture(scope="module")
def model():
    model = tfflows.FlowModel(made(), units="nats")
    model.compile("adam")
    return model


@pytest.fixture(scope="module")
def step(model):
    return programs.loss_and_gradients(model, np.zeros([3, 2], "float32"))


def test_a_step_captures_all_variables_under_their_paths(model, step):
    variables = tfflows.named_variables(model.distribution)
    others = {name for name in step.captured if name.startswith("captured/")}
    assert set(step.captured) - others == set(variables)
    for path, variable in variables.items():
        np.testing.assert_array_equal(step.captured[path], variable)
    assert not any(step.captured[name].size > 1 for name in others)  # Constants.


def test_a_step_returns_gradients_and_updates_by_path(model, step):
    paths = {id(v): p for p, v in tfflows.named_variables(model.distribution).items()}
    trained = {paths[id(v)]: v for v in model.trainable_weights}
    gradients, updates = step.results["gradients"], step.results["updates"]
    assert set(gradients) == set(trained)
    assert not any("bijectors/2" in path for path in gradients)  # Frozen, and captured.
    assert any("bijectors/2" in path for path in step.captured)
    for path, variable in trained.items():
        assert gradients[path].shape == variable.shape
    assert updates
    assert set(updates) - set(gradients)  # The estimate of the norm; Keras also divides by it.
    assert set(updates) < set(step.captured)
    assert step.results["loss"].shape == []
    x, seed = step.arguments
    assert (x.shape, x.dtype, seed.shape, seed.dtype) == ([3, 2], tf.float32, [2], tf.int32)


def test_a_step_takes_weights_and_labels():
    network = networks.MaskedMLP(num_dims=2, num_params=2, context_size=3)
    networks.build_network(network, [2], context_shape=[3])
    affine = bijectors.transforms.Affine()
    flow = bijectors.Autoregressive(network, [2], affine, conditional=True, context_ndims=1)
    base = tfflows.distributions.standard_normal([2])
    density = tfp.distributions.TransformedDistribution(base, tfp.bijectors.Invert(flow))
    model = tfflows.FlowModel(density, context=keras.layers.Embedding(2, 3), units="nats")
    model.compile("adam")
    x = np.zeros([2, 2], "float32")
    program = programs.loss_and_gradients(model, x, np.array([0, 1]), np.ones(2, "float32"))
    assert [list(spec.shape) for spec in program.arguments] == [[2, 2], [2], [2], [2]]
    assert any(path.startswith("context/") for path in program.results["gradients"])


def test_a_model_that_is_not_compiled_is_refused():
    with pytest.raises(ValueError, match=r"`model` must be compiled"):
        programs.loss_and_gradients(tfflows.FlowModel(made()), np.zeros([3, 2], "float32"))


def test_structures_and_constants_are_kept():
    weight = tf.constant([1.0, 2.0])
    program = programs.make_program(
        lambda a, b: {"sum": a["x"] + b, "rest": [a["y"], tf.zeros([3]), weight * a["x"]]},
        {"x": np.ones(2, np.float32), "y": tf.TensorSpec([], tf.int32)},
        tf.ones([2]),
    )
    assert sorted(program.arguments[0]) == ["x", "y"]
    assert program.arguments[0]["y"].dtype == tf.int32
    assert [list(spec.shape) for spec in program.results["rest"]] == [[], [3], [2]]
    np.testing.assert_array_equal(program.captured["captured/0"], weight)
    assert not program.has_wide_types
    assert programs.make_program(tf.square, np.ones(2)).has_wide_types


def test_functions_that_can_be_no_program_are_refused_in_a_line():
    norm = bijectors.ActNorm.trainable([2])

    def assign(x):
        norm.parameters["shift"].assign(x)
        return x

    keys = tf.lookup.KeyValueTensorInitializer(tf.constant([1, 2]), tf.constant([3, 4]))
    table = tf.lookup.StaticHashTable(keys, 0)
    x = tf.TensorSpec([2])
    with pytest.raises(ValueError, match=r"`f` must not assign .* AssignVariableOp\.$"):
        programs.make_program(assign, x, name="f")
    with pytest.raises(ValueError, match=r"`f` must capture nothing but variables and tensors"):
        programs.make_program(table.lookup, tf.TensorSpec([2], tf.int32), name="f")
    with pytest.raises(ValueError, match=r"XLA must be able to compile `f`\. .*Lu") as raised:
        programs.make_program(lambda x: tf.linalg.lu(x)[0], tf.TensorSpec([2, 2]), name="f")
    assert "\n" not in str(raised.value)


def test_precision_of_products_is_that_of_the_program_alone():
    config = tf.config.experimental
    before = config.tensor_float_32_execution_enabled()
    specs = tf.TensorSpec([2, 3]), tf.TensorSpec([3, 4])
    exact, fast = (
        programs.make_program(tf.matmul, *specs, tensor_float_32=choice) for choice in (False, True)
    )
    highest = b"\n\x02\x02\x02"  # `operand_precision` of a `PrecisionConfig`, for both operands.
    assert highest in exact.hlo
    assert highest not in fast.hlo
    assert config.tensor_float_32_execution_enabled() == before


def test_without_jax_an_error_says_what_to_install(monkeypatch, step):
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(
        ImportError, match=r"JAX must be installed for .*: `python -m pip install .*jax"
    ):
        step.to_jax()


def test_integers_that_are_captured_are_constants():
    """`tfb.Permute` has its axis as a tensor, and XLA has to know it."""
    order = np.random.default_rng(0).permutation(300)
    flow = bijectors.Sequential(
        [tfp.bijectors.Permute(order, axis=-1), bijectors.ActNorm.trainable([300])]
    )
    count = tf.constant(7)
    weights = tf.constant(np.arange(300), tf.float32)

    def function(x):
        return weights * flow.forward(x), x, count

    program = programs.make_program(function, tf.TensorSpec([2, 300]), module=flow)
    assert set(program.captured) == {"bijectors/1/log_scale", "bijectors/1/shift", "captured/0"}
    np.testing.assert_array_equal(program.captured["captured/0"], weights)
    assert [result.shape for result in program.results] == [[2, 300], [2, 300], []]
