"""The solver of `u + f(u) = v`: values, gradients by finite differences, and its failures."""

import numpy as np
import pytest
import tensorflow as tf

from tfflows.numerics import fixed_point

MODES = {
    "eager": lambda f: f,
    "graph": tf.function,
    "xla": lambda f: tf.function(f, jit_compile=True),
}
modes = pytest.mark.parametrize("mode", MODES)


def triangular(seed=0, size=5):
    """Returns `f(u) = tanh(T u + b) / 2`, its diagonal in (-1/2, 1/2), and its variables."""
    rng = np.random.default_rng(seed)
    matrix = tf.Variable(np.tril(rng.normal(size=[size, size])))
    diagonal = np.tanh(np.diag(matrix.numpy()))
    matrix.assign(tf.linalg.set_diag(matrix, diagonal))
    bias = tf.Variable(rng.normal(size=[size]))

    def function(u, with_diagonal):
        h = tf.tanh(tf.linalg.matvec(tf.linalg.band_part(matrix, -1, 0), u) + bias)
        return (h / 2, tf.linalg.diag_part(matrix) * (1 - h**2) / 2) if with_diagonal else h / 2

    return function, [matrix, bias]


@modes
@pytest.mark.parametrize("with_diagonal", [False, True])
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)], ids=str)
def test_solves(mode, with_diagonal, batch):
    function, _ = triangular()
    v = tf.constant(3 * np.random.default_rng(1).normal(size=[*batch, 5]))
    run = MODES[mode](
        lambda v: fixed_point.solve(lambda u: function(u, with_diagonal), v, event_ndims=1)
    )
    u, count = run(v)
    np.testing.assert_allclose(u + function(u, False), v, rtol=0, atol=1e-13)
    assert count.shape == batch
    assert np.all(count > 1)


def test_newton_takes_fewer_steps():
    function, _ = triangular()
    v = tf.constant(np.random.default_rng(1).normal(size=[50, 5]))
    plain, newton = (
        fixed_point.solve(lambda u, d=d: function(u, d), v, event_ndims=1).num_iterations
        for d in (False, True)
    )
    assert np.mean(newton) < 0.7 * np.mean(plain)


def loss_and_gradients(v, context, with_diagonal):
    function, variables = triangular()
    weights = tf.constant(np.random.default_rng(2).normal(size=v.shape))

    def loss(v, context):
        def f(u):
            result = function(u * context, with_diagonal)
            return (result[0], context * result[1]) if with_diagonal else result

        u = fixed_point.solve(f, v, event_ndims=1).value
        return tf.reduce_sum(weights * u**2)

    def both(v, context):
        with tf.GradientTape() as tape:
            tape.watch([v, context])
            value = loss(v, context)
        return value, tape.gradient(value, [v, context, *variables])

    return loss, both, variables


@modes
@pytest.mark.parametrize("with_diagonal", [False, True])
def test_gradients_are_finite_differences(mode, with_diagonal):
    rng = np.random.default_rng(3)
    v, context = tf.constant(rng.normal(size=[2, 5])), tf.constant(rng.uniform(0.5, 1, [2, 5]))
    loss, both, variables = loss_and_gradients(v, context, with_diagonal)
    gradients = MODES[mode](both)(v, context)[1]
    for index, (gradient, place) in enumerate(
        zip(gradients, [v, context, *variables], strict=True)
    ):
        direction = rng.normal(size=place.shape)
        values = []
        for sign in (-1, 1):
            if index < 2:
                arguments = [v, context]
                arguments[index] = place + sign * 1e-5 * direction
                values.append(loss(*arguments))
            else:
                place.assign_add(sign * 1e-5 * direction)
                values.append(loss(v, context))
                place.assign_sub(sign * 1e-5 * direction)
        difference = (values[1] - values[0]) / 2e-5
        np.testing.assert_allclose(np.sum(gradient * direction), difference, rtol=1e-7, atol=1e-9)


def test_gradients_of_a_compiled_function_taken_outside():
    v, context = tf.ones([2, 5], tf.float64), tf.ones([2, 5], tf.float64)
    loss, both, variables = loss_and_gradients(v, context, True)
    expected = both(v, context)[1]
    with tf.GradientTape() as tape:
        tape.watch([v, context])
        value = tf.function(loss, jit_compile=True)(v, context)
    for actual, desired in zip(
        tape.gradient(value, [v, context, *variables]), expected, strict=True
    ):
        np.testing.assert_allclose(actual, desired, rtol=1e-10)


@modes
def test_second_derivative(mode):
    # u + u^3 / 3 = v, so u' = 1 / (1 + u^2) and u'' = -2 u u'^3.
    def second(v):
        with tf.GradientTape() as outer:
            outer.watch(v)
            with tf.GradientTape() as inner:
                inner.watch(v)
                u = fixed_point.solve(lambda u: (u**3 / 3, u**2), v, event_ndims=1).value
            first = inner.gradient(u, v)
        return u, first, outer.gradient(first, v)

    v = tf.constant([[0.3], [-0.5]], tf.float64)
    u, first, derivative = MODES[mode](second)(v)
    np.testing.assert_allclose(first, 1 / (1 + u**2), rtol=1e-12)
    np.testing.assert_allclose(derivative, -2 * u * first**3, rtol=1e-12)


@modes
@pytest.mark.parametrize("scale", [2.0, 1e30])
def test_an_element_that_does_not_converge_is_nan_and_the_others_are_not(mode, scale):
    factor = tf.Variable([[0.5], [scale], [-0.5]])

    def run(v):
        with tf.GradientTape() as tape:
            u, count = fixed_point.solve(lambda u: factor * u, v, event_ndims=1, max_iterations=60)
        return u, count, tape.gradient(u, factor)

    u, count, gradient = MODES[mode](run)(tf.ones([3, 2]))
    np.testing.assert_array_equal(np.isnan(u), [[False] * 2, [True] * 2, [False] * 2])
    np.testing.assert_array_equal(np.isnan(gradient), [[False], [True], [False]])
    np.testing.assert_allclose(u[0], 2 / 3, rtol=1e-6)
    assert count[1] == (60 if scale == 2 else 2)
    assert count[0] < 30


def test_elements_stop_by_themselves():
    factor = tf.constant([[0.01], [0.9]])

    def function(u):
        return factor * u

    both = fixed_point.solve(function, tf.ones([2, 1]), event_ndims=1)
    alone = fixed_point.solve(lambda u: 0.01 * u, tf.ones([1, 1]), event_ndims=1)
    np.testing.assert_array_equal(both.num_iterations[0], alone.num_iterations[0])
    np.testing.assert_array_equal(both.value[0], alone.value[0])
    assert both.num_iterations[1] > 10 * both.num_iterations[0]


def test_gradient_is_relative_to_its_size():
    with tf.GradientTape() as tape:
        v = tf.constant([[1.0]])
        tape.watch(v)
        u = 1e-20 * fixed_point.solve(lambda u: 0.5 * u, v, event_ndims=1).value
    np.testing.assert_allclose(tape.gradient(u, v), [[1e-20 / 1.5]], rtol=1e-5)


@pytest.mark.parametrize("mode", ["eager", "graph"])
@pytest.mark.parametrize("newton", [False, True])
def test_forward_mode_is_that_of_the_implicit_function(mode, newton):
    matrix = tf.constant([[0.3, 0.0], [0.7, -0.2]], tf.float64)
    v = tf.constant([[1.0, 2.0], [-0.5, 0.1]], tf.float64)
    tangent = tf.constant([[0.5, -1.0], [2.0, 0.3]], tf.float64)

    def function(u):
        inner = tf.linalg.matvec(matrix, u)
        value, slope = tf.sin(inner), tf.cos(inner)
        return (value, slope * tf.linalg.diag_part(matrix)) if newton else value

    def product(v, tangent):
        with tf.autodiff.ForwardAccumulator(v, tangent) as accumulator:
            with tf.GradientTape() as tape:
                tape.watch(v)
                u = fixed_point.solve(function, v, event_ndims=1).value
                loss = tf.reduce_sum(u**3)
            gradient = tape.gradient(loss, v)
        return accumulator.jvp(u), accumulator.jvp(gradient)

    def gradient(v):
        with tf.GradientTape() as tape:
            tape.watch(v)
            loss = tf.reduce_sum(fixed_point.solve(function, v, event_ndims=1).value ** 3)
        return tape.gradient(loss, v)

    run = tf.function(product, autograph=False) if mode == "graph" else product
    first, second = run(v, tangent)
    u = fixed_point.solve(function, v, event_ndims=1).value
    jacobian = tf.cos(tf.linalg.matvec(matrix, u))[..., tf.newaxis] * matrix
    expected = np.linalg.solve(np.eye(2) + jacobian, np.array(tangent)[..., np.newaxis])[..., 0]
    np.testing.assert_allclose(first, expected, rtol=1e-10)
    step = 1e-5
    expected = (gradient(v + step * tangent) - gradient(v - step * tangent)) / (2 * step)
    np.testing.assert_allclose(second, expected, rtol=1e-6)
