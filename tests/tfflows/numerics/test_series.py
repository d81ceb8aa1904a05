"""Series of exponentials: terms, values and gradients against the dense exponential, errors."""

import math

import numpy as np
import pytest
import scipy.linalg
import tensorflow as tf

from tfflows.numerics import convolution, series

SHAPE = (4, 5, 2)


def dense_matrix(kernel, padding):
    """The matrix of the cross-correlation on flattened images of `SHAPE`."""
    basis = np.eye(math.prod(SHAPE)).reshape(-1, *SHAPE)
    return convolution.correlate(basis, kernel, padding).numpy().reshape(len(basis), -1).T


def random_kernel(rng, size, norm, padding="zero"):
    kernel = rng.standard_normal((*size, SHAPE[-1], SHAPE[-1]))
    return kernel * norm / np.linalg.norm(dense_matrix(kernel, padding), 2)


def images(rng, count=3):
    return rng.standard_normal((count, *SHAPE))


def relative_error(actual, expected):
    return np.linalg.norm(np.asarray(actual, float) - expected) / np.linalg.norm(expected)


def plain_series(x, kernel, terms, padding="zero"):
    return series.exponential_action(lambda t: convolution.correlate(t, kernel, padding), x, terms)


def value_and_gradients(function, *arguments, seed):
    arguments = [tf.constant(a) for a in arguments]
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        value = function(*arguments)
    return value, *tape.gradient(value, arguments, tf.constant(seed))


@pytest.mark.parametrize("norm", [0.0, 0.01, 0.5, 0.95, 1.0, 3.0, 20.0])
@pytest.mark.parametrize("tolerance", [1e-2, 1e-6, 1e-13])
def test_num_terms_is_the_least_that_meets_the_tolerance(norm, tolerance):
    def error(n):
        tail = sum(norm**i / math.factorial(i) for i in range(n + 1, n + 80))
        return math.exp(norm) * tail

    terms = series.num_terms(norm, tf.float64, tolerance)
    assert error(terms) <= tolerance * (1 + 1e-9)
    assert terms == 1 or error(terms - 1) > tolerance


def test_num_terms_of_the_paper():
    assert series.num_terms(0.95, tf.float32) == 9
    assert series.num_terms(0.95, tf.float32) < series.num_terms(0.95, tf.float64)


@pytest.mark.parametrize("norm, tolerance", [(-1.0, None), (math.inf, None), (1.0, 0.0)])
def test_num_terms_refuses(norm, tolerance):
    with pytest.raises(ValueError, match="Received"):
        series.num_terms(norm, tf.float32, tolerance)


def test_exponential_action_of_a_matrix():
    matrix = np.random.default_rng(0).standard_normal((4, 4))
    x = np.arange(4.0)
    y = series.exponential_action(lambda v: tf.linalg.matvec(matrix, v), tf.constant(x), 60)
    np.testing.assert_allclose(y, scipy.linalg.expm(matrix) @ x, rtol=1e-10)


@pytest.mark.parametrize("padding", ["zero", "periodic"])
@pytest.mark.parametrize("size, norm", [((1, 1), 0.01), ((3, 3), 0.95), ((3, 5), 2.5)])
@pytest.mark.parametrize("dtype, tolerance", [("float32", 3e-6), ("float64", 2e-12)])
def test_value_and_gradients_match_the_dense_exponential(padding, size, norm, dtype, tolerance):
    rng = np.random.default_rng(1)
    kernel, x, g = random_kernel(rng, size, norm, padding), images(rng), images(rng)
    matrix = dense_matrix(kernel, padding)
    power = scipy.linalg.expm(matrix)
    # The gradient with respect to the matrix is the adjoint of the Frechet derivative.
    outer = g.reshape(3, -1).T @ x.reshape(3, -1)
    frechet = scipy.linalg.expm_frechet(matrix.T, outer, compute_expm=False)
    expected = np.zeros_like(kernel)
    for index in np.ndindex(kernel.shape):
        unit = np.zeros_like(kernel)
        unit[index] = 1.0
        expected[index] = np.sum(frechet * dense_matrix(unit, padding))

    steps = math.ceil(norm)
    terms = series.num_terms(norm / steps, dtype)

    def function(x, kernel, inverse=False):
        return series.conv_exponential(
            x, kernel, inverse=inverse, padding=padding, terms=terms, steps=steps
        )

    arguments = [a.astype(dtype) for a in (x, kernel)]
    y, gx, gk = value_and_gradients(function, *arguments, seed=g.astype(dtype))
    assert relative_error(y, (x.reshape(3, -1) @ power.T).reshape(x.shape)) < tolerance
    assert relative_error(gx, (g.reshape(3, -1) @ power).reshape(x.shape)) < tolerance
    # The gradient of the truncated series lacks one term more than the series does.
    missing = (norm / steps) ** terms / math.factorial(terms)
    assert relative_error(gk, expected) < tolerance + 2 * missing
    inverse = scipy.linalg.expm(-matrix)
    expected = (x.reshape(3, -1) @ inverse.T).reshape(x.shape)
    assert relative_error(function(*arguments, inverse=True), expected) < tolerance


@pytest.mark.parametrize("terms, norm", [(1, 0.5), (3, 0.5), (9, 0.95), (40, 6.0)])
def test_gradients_are_those_of_the_truncated_series(terms, norm):
    rng = np.random.default_rng(2)
    arguments = images(rng), random_kernel(rng, (3, 3), norm)
    seed = images(rng)
    expected = value_and_gradients(lambda x, k: plain_series(x, k, terms), *arguments, seed=seed)

    def function(x, kernel):
        return series.conv_exponential(x, kernel, terms=terms)

    for actual, want in zip(
        value_and_gradients(function, *arguments, seed=seed), expected, strict=True
    ):
        assert relative_error(actual, want.numpy()) < 1e-12


@pytest.mark.parametrize("jit_compile", [False, True])
def test_dynamic_steps_equal_static_steps(jit_compile):
    rng = np.random.default_rng(3)
    x, kernel, seed = images(rng), random_kernel(rng, (3, 3), 2.9), images(rng)
    expected = value_and_gradients(
        lambda x, k: series.conv_exponential(x, k, terms=6, steps=3), x, kernel, seed=seed
    )

    @tf.function(jit_compile=jit_compile)
    def dynamic(x, kernel, seed, steps):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            y = series.conv_exponential(x, kernel, terms=6, steps=steps)
        return y, *tape.gradient(y, [x, kernel], seed)

    actual = dynamic(*map(tf.constant, (x, kernel, seed)), tf.constant(3))
    for a, b in zip(actual, expected, strict=True):
        assert relative_error(a, b.numpy()) < 1e-12


@pytest.mark.parametrize("in_graph", [False, True])
def test_second_derivatives(in_graph):
    rng = np.random.default_rng(4)
    x, kernel = images(rng), random_kernel(rng, (3, 3), 0.9)
    directions = images(rng), rng.standard_normal(kernel.shape)

    def hessian_product(evaluate):
        def compute(x, kernel):
            with tf.GradientTape() as outer:
                outer.watch([x, kernel])
                with tf.GradientTape() as inner:
                    inner.watch([x, kernel])
                    loss = tf.reduce_sum(tf.sin(evaluate(x, kernel)))
                first = inner.gradient(loss, [x, kernel])
                pairs = zip(first, directions, strict=True)
                total = tf.add_n([tf.reduce_sum(a * b) for a, b in pairs])
            return outer.gradient(total, [x, kernel])

        compute = tf.function(compute) if in_graph else compute
        return compute(tf.constant(x), tf.constant(kernel))

    actual = hessian_product(lambda x, k: series.conv_exponential(x, k, terms=7))
    expected = hessian_product(lambda x, k: plain_series(x, k, 7))
    for a, b in zip(actual, expected, strict=True):
        assert relative_error(a, b.numpy()) < 1e-11


def test_unknown_and_empty_batch():
    kernel = random_kernel(np.random.default_rng(5), (3, 3), 0.9)

    @tf.function(input_signature=[tf.TensorSpec([None, *SHAPE], tf.float64)])
    def gradients(x):
        variable = tf.constant(kernel)
        with tf.GradientTape() as tape:
            tape.watch(variable)
            y = series.conv_exponential(x, variable, terms=9)
        return tape.gradient(y, variable)

    assert gradients(np.ones((2, *SHAPE))).shape == kernel.shape
    np.testing.assert_array_equal(gradients(np.ones((0, *SHAPE))), np.zeros_like(kernel))


@pytest.mark.parametrize(
    "shape, options, message",
    [
        ((4, 4, 2, 2), {"terms": 3}, "odd spatial sizes"),
        ((3, 3, 2, 2), {"terms": 3, "padding": "same"}, "`padding` must be"),
        ((3, 3, 2, 2), {"terms": 0}, "`terms` must be"),
    ],
)
def test_refuses(shape, options, message):
    with pytest.raises(ValueError, match=message):
        series.conv_exponential(tf.zeros((1, *SHAPE)), tf.zeros(shape), **options)
