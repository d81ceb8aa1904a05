"""Mixtures of logistics: against SciPy, extremes, inverse, gradients, a start that can be left."""

import itertools

import hypothesis
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfflows.numerics import logistic_mixture


def oracle(x, raw):
    """The map of one entry and its slope, as the paper has them, one component after the other."""
    count = len(raw) // 3
    logits, means, log_scales = raw[:count], raw[count : 2 * count], raw[2 * count :]
    weights = np.exp(logits) / np.sum(np.exp(logits))
    cdf = survival = density = 0.0
    for k in range(count):
        mean = means[k] + (2 * k + 1) / count - 1
        scale = np.exp(5 * np.tanh(log_scales[k] / 5))
        below = scipy.special.expit((x - mean) / scale)
        above = scipy.special.expit(-(x - mean) / scale)
        cdf += weights[k] * below
        survival += weights[k] * above
        density += weights[k] * below * above / scale
    return np.log(cdf) - np.log(survival), density / (cdf * survival)


def draws(shape, spread, dtype=tf.float64, seed=5):
    """Returns entries and numbers of mixtures of four components."""
    rng = np.random.default_rng(seed)
    x, raw = 3 * rng.normal(size=shape), spread * rng.normal(size=[*shape, 12])
    return tf.constant(x, dtype), tf.constant(raw, dtype)


def test_map_and_slope_are_those_of_scipy():
    x, raw = draws([200], 1.5)
    y, log_slope = logistic_mixture.transform(x, raw, inverse=False)
    expected = np.array([oracle(*pair) for pair in zip(x.numpy(), raw.numpy(), strict=True)])
    np.testing.assert_allclose(y, expected[:, 0], rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(log_slope, np.log(expected[:, 1]), rtol=1e-11, atol=1e-12)
    x, log_slope = logistic_mixture.transform(tf.constant(expected[:, 0]), raw, inverse=True)
    back = np.array([oracle(*pair) for pair in zip(x.numpy(), raw.numpy(), strict=True)])
    np.testing.assert_allclose(back[:, 0], expected[:, 0], rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(log_slope, -np.log(back[:, 1]), rtol=1e-11, atol=1e-12)


def run(x, raw, inverse):
    with tf.GradientTape() as tape:
        tape.watch([x, raw])
        outputs = logistic_mixture.transform(x, raw, inverse)
        loss = tf.reduce_sum(outputs[0]) + tf.reduce_sum(outputs[1])
    return outputs, tape.gradient(loss, [x, raw])


@pytest.mark.parametrize("size", [1e2, 1e4, 1e30])
@pytest.mark.parametrize("inverse", [False, True])
def test_everything_is_finite_in_float32(size, inverse):
    ends = np.array([-1.0, 0.0, 1.0])
    raw = np.array(list(itertools.product(ends, repeat=6))) * size
    x = np.array([-1e4, -100, -1, -1e-3, 0, 1e-3, 1, 100, 1e4])
    x, raw = np.repeat(x, len(raw)), np.tile(raw, [len(x), 1])
    x, raw = (tf.constant(value, tf.float32) for value in (x, raw))
    for function in (run, tf.function(run)):  # Eager mode has other gradients than graphs.
        for value in tf.nest.flatten(function(x, raw, inverse)):
            assert np.all(np.isfinite(value))


def test_tails_keep_their_precision():
    """Far out the map is linear, with the scale of the widest component."""
    x, raw = draws([400], 1.0)
    x = 1e4 * tf.sign(x) * tf.random.stateless_uniform([400], [0, 1], 0.1, 1, x.dtype)
    x, raw = (tf.cast(value, tf.float32) for value in (x, raw))
    found = run(x, raw, inverse=False)
    expected = run(tf.cast(x, tf.float64), tf.cast(raw, tf.float64), inverse=False)
    for one, other in zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=3e-5, atol=3e-5)
    widest = 5 * np.tanh(np.max(raw[:, 8:], axis=-1) / 5)
    np.testing.assert_allclose(found[0][1], -widest, atol=1e-5)


NUMBERS = st.floats(-1e3, 1e3)


@hypothesis.settings(max_examples=50)
@hypothesis.given(
    hnp.arrays(np.float64, (7,), elements=NUMBERS),
    hnp.arrays(np.float64, (7, 12), elements=NUMBERS),
)
def test_inverse_of_anything(y, raw):
    y, raw = tf.constant(y), tf.constant(raw)
    x, log_slope = logistic_mixture.transform(y, raw, inverse=True)
    again, log_slope_again = logistic_mixture.transform(x, raw, inverse=False)
    np.testing.assert_array_equal(log_slope, -log_slope_again)
    # What the rounding of `x` and of the means costs, where the map is steep.
    rounding = 1e-15 * (np.abs(x) + 1e3) * np.exp(log_slope_again)
    assert np.all(np.abs(again - y) <= 1e-13 * np.maximum(np.abs(y), 1) + 4 * rounding)


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
@pytest.mark.parametrize("jit", [False, True])
def test_inverse_in_graphs(dtype, jit):
    x, raw = draws([2, 3, 5], 1.0, dtype)
    y, log_slope = logistic_mixture.transform(x, raw, inverse=False)
    inverse = tf.function(logistic_mixture.transform, jit_compile=jit)
    back, back_log_slope = inverse(y, raw, inverse=True)
    tolerance = 2e-5 if dtype == tf.float32 else 1e-13
    np.testing.assert_allclose(back, x, atol=tolerance)
    np.testing.assert_allclose(back_log_slope, -log_slope, atol=tolerance)
    # What is not a number ends the loop as well, and no other entry's.
    broken = tf.tensor_scatter_nd_update(y, [[0, 0, 0], [1, 2, 3]], [np.nan, np.inf])
    found = inverse(broken, raw, inverse=True)[0].numpy()
    kept = np.ones([2, 3, 5], bool)
    kept[0, 0, 0] = kept[1, 2, 3] = False
    np.testing.assert_array_equal(found[kept], back[kept])
    assert np.isnan(found[0, 0, 0])


def two_derivatives(values, inverse):
    """Returns outputs, gradients, and gradients of a function of the gradients."""
    with tf.GradientTape() as outer:
        outer.watch(values)
        with tf.GradientTape() as tape:
            tape.watch(values)
            outputs = logistic_mixture.transform(*values, inverse)
            loss = sum(tf.reduce_sum(tf.sin(output)) for output in outputs)
        gradients = tape.gradient(loss, values)
        total = sum(tf.reduce_sum(tf.sin(gradient)) for gradient in gradients)
    return [loss, *outputs], [total, *gradients], outer.gradient(total, values)


@pytest.mark.parametrize("inverse", [False, True])
def test_two_derivatives_are_those_of_differences(inverse):
    values, step = draws([9], 1.0), 1e-6
    values = [tf.clip_by_value(value, -2, 2) for value in values]  # Not too steep for differences.
    rng = np.random.default_rng(3)
    tangents = [rng.normal(size=value.shape) for value in values]
    ends = [
        two_derivatives([v + s * step * t for v, t in zip(values, tangents, strict=True)], inverse)
        for s in (1, -1)
    ]
    (_, *_), (_, *first), second = two_derivatives(values, inverse)
    for order, gradients in ((0, first), (1, second)):
        difference = (ends[0][order][0] - ends[1][order][0]) / (2 * step)
        actual = sum(np.sum(g * t) for g, t in zip(gradients, tangents, strict=True))
        np.testing.assert_allclose(actual, difference, rtol=1e-6)


@pytest.mark.parametrize(
    ("inverse", "jit"),
    [
        (False, True),
        (True, False),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((False, False), (True, True))),
    ],
)
def test_gradients_in_graphs_are_those_of_eager_mode(inverse, jit):
    """Eager mode differentiates the formulas by itself, graphs have gradients in closed form."""
    values = draws([9, 3], 1.0)
    expected = two_derivatives(values, inverse)
    compiled = tf.function(two_derivatives, jit_compile=jit)(values, inverse)
    for actual, desired in zip(tf.nest.flatten(compiled), tf.nest.flatten(expected), strict=True):
        np.testing.assert_allclose(actual, desired, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 100])
def test_zeros_are_nearly_the_identity(count):
    x, raw = tf.constant(np.linspace(-9, 9, 1001)), tf.zeros([1001, 3 * count], tf.float64)
    y, log_slope = logistic_mixture.transform(x, raw, inverse=False)
    bound = 0.0 if count == 1 else np.log(np.sinh(1))
    assert np.max(np.abs(y - x)) <= bound + 1e-14
    assert np.max(log_slope) <= 1e-14
    assert np.min(log_slope) >= (0.0 if count == 1 else np.log(2 * np.tanh(0.5))) - 1e-14
    np.testing.assert_allclose(y, -tf.reverse(y, [0]), atol=1e-14)


def descend(count, steps=200):
    """Returns the loss of mixtures of a logistic's density with tops at -2 and 2."""
    x = np.linspace(-0.2, 0.2, 20)
    x, raw = tf.constant(np.r_[x - 2, x + 2]), np.zeros([1, 3 * count])
    for _ in range(steps):
        with tf.GradientTape() as tape:
            given = tf.constant(raw)
            tape.watch(given)
            y, log_slope = logistic_mixture.transform(x, tf.tile(given, [40, 1]), inverse=False)
            loss = tf.reduce_mean(y + 2 * tf.nn.softplus(-y) - log_slope)
        raw -= 0.05 * np.sign(tape.gradient(loss, given))  # Adam's first steps are such.
    return float(loss)


def test_components_part_in_training():
    """Equal components move alike, as one logistic would."""
    assert descend(count=4) < descend(count=1) - 2
