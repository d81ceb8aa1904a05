"""Splines: their bound, inverses that keep their precision, closed-form gradients, graphs."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tfflows import bijectors, evaluation
from tfflows.bijectors import transforms
from tfflows.bijectors.rational_quadratic_activation import RationalQuadraticActivation
from tfflows.numerics import rational_quadratic


def test_the_bound_on_the_knots_is_nearly_sharp():
    """With knot slopes a little under 2 d^2 - d the slope in the middle exceeds 1."""
    d = 0.9
    for slope, exceeds in ((2 * d * d - d, False), (2 * d * d - d - 0.01, True)):
        spline = rational_quadratic.Spline(
            *(tf.constant(v, tf.float64) for v in ([0.0], [0.0], [[1.0]], [[d]], [[slope, slope]]))
        )
        middle = rational_quadratic.forward(spline, tf.constant([[0.5]], tf.float64))[1]
        assert (float(middle[0, 0]) > 1e-12) == exceeds


def test_inverse_keeps_its_precision_where_the_usual_formula_cancels():
    """A flat bin between steep knots: b^2 - 4ac has a root next to -b."""
    spline = rational_quadratic.Spline(
        *(tf.constant(v, tf.float32) for v in ([0.0], [0.0], [[1.0]], [[0.01]], [[1.0, 1.0]]))
    )
    x = tf.constant(np.linspace(0.0, 1.0, 1001)[:, None], tf.float32)
    y, log_slope = rational_quadratic.forward(spline, x)
    back, _ = rational_quadratic.inverse(spline, y)
    # What one rounding of `y` costs, and no more than a few times that.
    allowed = 1e-6 + 4 * 6e-8 * np.abs(y) / np.exp(log_slope)
    assert np.all(np.abs(back - x) <= allowed)


def assert_inverts_a_nearby_value(inverse, y, rounding):
    """Checks that in float32 `x` is the inverse, in float64, of a `y` that differs by rounding.

    The error of `x` itself may be large: it is that of `y`, divided by the slope.
    """
    x, log_slope = inverse(tf.constant(y, tf.float32))
    assert np.all(np.isfinite(x))
    assert np.all(np.isfinite(log_slope))
    low, high = (inverse(tf.constant(np.float64(y) + d))[0] for d in (-rounding, rounding))
    spare = 2e-6 + 1e-6 * np.abs(x)  # Roundings of the knots and of `x`.
    assert np.all(low - spare <= np.float64(x))
    assert np.all(np.float64(x) <= high + spare)
    return x, log_slope


@pytest.mark.parametrize("parameterization", ["contractive", "paper"])
@pytest.mark.parametrize("extreme", ["flat_tail", "all"])
def test_inverse_of_extreme_activations_in_float32(parameterization, extreme):
    rng, channels, bins = np.random.default_rng(5), 1000, 16
    extra = parameterization == "paper"
    sizes = (bins + extra, bins + extra, bins + 1)
    spread = 4.0 if extreme == "all" else 1.0
    values = [np.float32(spread * rng.normal(size=(channels, size))) for size in sizes]
    if extreme == "flat_tail":
        values[2][:, 0] = rng.uniform(-12, -10, channels)
    values.append(np.zeros(channels, np.float32))
    splines = {
        dtype: RationalQuadraticActivation(
            *(tf.constant(v, dtype) for v in values),
            parameterization=parameterization,
            event_ndims=1,
        ).spline()
        for dtype in (tf.float32, tf.float64)
    }
    x = [np.full(channels, x) for x in (-1.0, -1.5, -5.0, 5.0)]
    x = np.stack([*x, *rng.uniform(-1, 1, [16, channels])])
    y, _ = rational_quadratic.forward(splines[tf.float32], tf.constant(x, tf.float32))
    back, log_slope = assert_inverts_a_nearby_value(
        lambda y: rational_quadratic.inverse(splines[y.dtype], y), y.numpy(), 4e-6
    )
    again, log_slope_again = rational_quadratic.forward(splines[tf.float32], back)
    np.testing.assert_allclose(again, y, atol=4e-6)
    if extreme == "flat_tail":
        np.testing.assert_allclose(log_slope, -log_slope_again, atol=1e-3)


@pytest.mark.parametrize("spread", [1.0, 2.0, 3.0, 10.0])
def test_inverse_of_extreme_couplings_in_float32(spread):
    rng, bins = np.random.default_rng(6), 8
    h = np.float32(spread * rng.normal(size=[1000, 2 * (3 * bins - 1)]))

    def inverse(y):
        flow = bijectors.Coupling(
            lambda a: h, [4], transforms.RationalQuadratic(bins), dtype=y.dtype
        )
        x, log_slope = flow.transform.move_channels(y, tf.constant(h, y.dtype), inverse=True)
        return x, log_slope

    y = np.float32(rng.uniform(-3, 3, [1000, 2]))
    assert_inverts_a_nearby_value(inverse, y, 4e-6)


def two_derivatives(layer, inverse, values):
    """Returns outputs, gradients, and gradients of a function of the gradients."""
    with tf.GradientTape() as outer:
        outer.watch(values)
        with tf.GradientTape() as tape:
            tape.watch(values)
            outputs = layer(values, inverse)
            loss = sum(tf.reduce_sum(tf.sin(output)) for output in outputs)
        gradients = tape.gradient(loss, values)
        loss = sum(tf.reduce_sum(tf.sin(gradient)) for gradient in gradients)
    return outputs, gradients, outer.gradient(loss, values)


def coupling_layer(values, inverse):
    flow = bijectors.Coupling(lambda a: a, [2], transforms.RationalQuadratic(5), dtype=tf.float64)
    return flow.transform.move_channels(*values, inverse)


def activation_layer(values, inverse):
    layer = RationalQuadraticActivation(*values[1:], event_ndims=1)
    return (layer._inverse_and_log_det if inverse else layer._forward_and_log_det)(values[0])


SHAPES = {coupling_layer: [(9, 3 * 14)], activation_layer: [(3, 5), (3, 5), (3, 6), (3,)]}
QUICK = [(coupling_layer, False, True), (activation_layer, False, False)]


@pytest.mark.parametrize(
    ("layer", "inverse", "jit"),
    [
        pytest.param(*case, marks=[] if case in QUICK else pytest.mark.slow)
        for case in itertools.product(SHAPES, (False, True), (False, True))
    ],
)
def test_closed_form_gradients_are_those_of_automatic_differentiation(layer, inverse, jit):
    """Eager mode differentiates the formulas by itself, graphs have gradients in closed form."""
    shapes = SHAPES[layer]
    rng = np.random.default_rng(4)
    x = rng.uniform(-4, 4, [9, 3])  # The tails as well.
    values = [tf.constant(v) for v in (x, *(rng.normal(size=shape) for shape in shapes))]
    expected = two_derivatives(layer, inverse, values)
    compiled = tf.function(two_derivatives, jit_compile=jit)(layer, inverse, values)
    for actual, desired in zip(tf.nest.flatten(compiled), tf.nest.flatten(expected), strict=True):
        np.testing.assert_allclose(actual, desired, rtol=1e-9, atol=1e-9)


def test_kernel_in_graphs_of_all_kinds():
    flow = bijectors.Coupling(lambda a: tf.tile(a, [1, 14]), [2], transforms.RationalQuadratic(5))
    x = tf.random.stateless_normal([6, 2], [1, 1])
    expected = flow.forward(x)

    # A batch of unknown size, and one of another size.
    any_size = tf.function(flow.forward, input_signature=[tf.TensorSpec([None, 2])])
    np.testing.assert_allclose(any_size(x), expected, atol=1e-6)
    np.testing.assert_allclose(any_size(x[:4]), expected[:4], atol=1e-6)

    data = tf.data.Dataset.from_tensors(x).map(flow.forward)
    np.testing.assert_allclose(next(iter(data)), expected, atol=1e-6)

    strategy = tf.distribute.MirroredStrategy(["CPU:0"])

    @tf.function
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = flow.forward(x)
        return tape.gradient(y, x)

    with tf.GradientTape() as tape:
        tape.watch(x)
        y = flow.forward(x)
    distributed = tf.function(lambda: strategy.run(gradient, args=(x,)))()
    np.testing.assert_allclose(distributed, tape.gradient(y, x), atol=1e-5)


def test_gradients_of_an_accelerator_are_reductions():
    """The same sums; a CPU adds them up where they belong, where a GPU's threads would wait."""
    layer = RationalQuadraticActivation.trainable([4], slope=0.6, num_bins=5)
    x = tf.constant(np.random.default_rng(1).uniform(-4, 4, [30, 4]), tf.float32)
    found, scatters = [], []

    def gradients(x):
        with tf.GradientTape() as tape:
            y, log_det = evaluation.forward_and_log_det(layer, x)
            loss = tf.reduce_sum(tf.sin(y)) + tf.reduce_sum(log_det)
        return tape.gradient(loss, layer.trainable_variables)

    for on in (False, True):
        compiled = tf.function(gradients, jit_compile=True)
        with evaluation.for_accelerator(on):
            found.append(compiled(x))
        hlo = compiled.experimental_get_compiler_ir(x)(stage="hlo")
        scatters.append(hlo.count(" scatter("))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    assert scatters == [6, 0]
