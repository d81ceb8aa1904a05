"""Programs of XLA in JAX: `tools/test_jax` runs these, in an environment that has it."""

import numpy as np
import pytest
import tensorflow as tf

import tfflows
import zoo
from tests.small_presets import small_arguments
from tfflows import programs

pytestmark = pytest.mark.jax
jax = pytest.importorskip("jax", reason="JAX is not installed: tools/test_jax")


def test_a_step_computes_in_jax_what_it_does_in_tensorflow():
    name = "realnvp.two_moons"
    model = tfflows.FlowModel(zoo.create(name, seed=1, **small_arguments(name)))
    model.compile("adam", jit_compile=True)
    x = np.random.default_rng(0).normal(size=[3, 2]).astype("float32")
    model.initialize(x)
    program = programs.loss_and_gradients(model, x)
    loaded = jax.export.deserialize(program.to_jax().serialize())
    assert set(loaded.platforms) == {"cpu", "cuda", "tpu"}
    found = jax.jit(loaded.call)(dict(program.captured), x, np.array([0, 7], np.int32))
    step = model._make_loss_and_gradients()
    loss, _, gradients, _ = step(tf.constant(x), tf.constant([0, 7]))
    np.testing.assert_allclose(found["loss"], loss, rtol=1e-5)
    paths = {id(v): path for path, v in tfflows.named_variables(model.distribution).items()}
    for variable, gradient in zip(model.trainable_weights, gradients, strict=True):
        scale = max(1.0, np.abs(gradient).max())
        value = found["gradients"][paths[id(variable)]]
        np.testing.assert_allclose(value, gradient, rtol=0, atol=1e-4 * scale)


def test_structures_constants_and_wide_types_come_through():
    weight = tf.constant([1.0, 2.0])
    program = programs.make_program(
        lambda a, b: {"y": tf.cast(a["x"], tf.float64) + 1, "rest": [weight * b, a["n"] + 1]},
        {"x": np.ones(2), "n": tf.TensorSpec([], tf.int64)},
        tf.ones([2]),
    )
    with jax.enable_x64(True):
        arguments = {"x": np.full(2, 1 / 3), "n": np.int64(2**40)}, np.ones(2, np.float32)
        found = program.to_jax().call(dict(program.captured), *arguments)
        assert found["rest"][1] == 2**40 + 1
    np.testing.assert_array_equal(found["y"], np.full(2, 4 / 3))
    np.testing.assert_array_equal(found["rest"][0], weight)


def test_decompositions_are_no_calls_that_jax_lacks():
    x = np.random.default_rng(0).normal(size=[3, 3]).astype("float32")
    program = programs.make_program(lambda x: (tf.linalg.inv(x), tf.linalg.qr(x)[1]), x)
    found = jax.jit(jax.export.deserialize(program.to_jax().serialize()).call)({}, x)
    np.testing.assert_allclose(found[0], np.linalg.inv(x), rtol=1e-4)
    np.testing.assert_allclose(np.abs(found[1]), np.abs(np.linalg.qr(x)[1]), rtol=1e-4, atol=1e-5)


def test_one_platform_may_be_enough():
    program = programs.make_program(tf.square, tf.ones([2]))
    assert program.to_jax(["cpu"]).platforms == ("cpu",)
    np.testing.assert_array_equal(program.to_jax(["cpu"]).call({}, np.full(2, 3, np.float32)), 9)


def test_what_stablehlo_does_not_have_is_replaced():
    def function(x):
        loop = tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, 2 * tf.tanh(y)), [0, x])
        return loop[1], tf.math.erf(x)

    x = np.linspace(-1, 1, 5, dtype="float32")
    program = programs.make_program(function, x)
    found = jax.jit(jax.export.deserialize(program.to_jax().serialize()).call)({}, x)
    for value, expected in zip(found, function(x), strict=True):
        np.testing.assert_allclose(value, expected, atol=1e-6)
