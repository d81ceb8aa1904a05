"""Splines: slopes, knots, tails, narrow bins, agreement with TFP."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfflows import bijectors, evaluation
from tfflows.bijectors import transforms
from tfflows.bijectors.rational_quadratic_activation import RationalQuadraticActivation
from tfflows.numerics import rational_quadratic

tfb = tfp.bijectors


def random_activation(rng, channels, bins, spread, dtype=tf.float64, **kwargs):
    """Returns an activation with normal parameters; large spreads give extreme shapes."""
    extra = kwargs.get("parameterization") == "paper"
    shapes = [(channels, bins + extra)] * 2 + [(channels, bins + 1)]
    values = [spread * rng.normal(size=shape) for shape in shapes]
    values.append(rng.normal(size=channels))
    return RationalQuadraticActivation(
        *(tf.constant(v, dtype) for v in values), event_ndims=1, **kwargs
    )


def log_slopes(activation, x):
    return rational_quadratic.forward(activation.spline(), x)[1]


def test_contractive_slopes_never_exceed_1():
    """Over a million draws of (ratio, slopes), each at many points of the bin."""
    rng = np.random.default_rng(0)
    draws = 0
    for spread in (0.3, 1.0, 3.0, 10.0):
        activation = random_activation(rng, 20_000, 15, spread)
        spline = activation.spline()
        draws += spline.ratios.shape.num_elements()
        right = spline.left + tf.reduce_sum(spline.widths, -1)
        for t in rng.uniform(-0.02, 1.02, 40):  # The tails as well.
            worst = tf.reduce_max(log_slopes(activation, spline.left + t * (right - spline.left)))
            assert worst <= 1e-9
    assert draws >= 1_000_000


def test_the_bound_on_the_knots_is_nearly_sharp():
    """With knot slopes a little under 2 d^2 - d the slope in the middle exceeds 1."""
    d = 0.9
    for slope, exceeds in ((2 * d * d - d, False), (2 * d * d - d - 0.01, True)):
        spline = rational_quadratic.Spline(
            *(tf.constant(v, tf.float64) for v in ([0.0], [0.0], [[1.0]], [[d]], [[slope, slope]]))
        )
        middle = rational_quadratic.forward(spline, tf.constant([[0.5]], tf.float64))[1]
        assert (float(middle[0, 0]) > 1e-12) == exceeds


def test_the_parameterization_of_the_paper_exceeds_1():
    ratios = tf.fill([1, 2], np.log(0.9 / 0.1))  # d = 0.9
    activation = RationalQuadraticActivation(
        tf.zeros([1, 2], tf.float64),
        tf.cast(ratios, tf.float64),
        tf.fill([1, 2], tf.constant(-12.0, tf.float64)),  # Slopes near 0.
        tf.zeros([1], tf.float64),
        parameterization="paper",
        event_ndims=1,
    )
    x = tf.constant(np.linspace(-1, 1, 1001)[:, None])
    assert np.exp(np.max(log_slopes(activation, x))) == pytest.approx(1.8, rel=1e-3)


def test_first_knot_of_the_paper_is_not_at_minus_w():
    activation = RationalQuadraticActivation.trainable(
        [None, None, 1], num_bins=3, parameterization="paper"
    )
    assert float(activation.spline().left[0]) == pytest.approx((2 / 4 - 1) * 3.0)


@pytest.mark.parametrize("slope", [0.1, 0.5, 0.75, 0.9, 1.0])
@pytest.mark.parametrize("tails", ["linear", "far"])
def test_starts_as_a_line(slope, tails):
    activation = RationalQuadraticActivation.trainable([2], slope=slope, tails=tails)
    x = tf.constant(np.linspace(-5, 5, 42).reshape(21, 2), tf.float32)
    tolerance = 1e-5 if tails == "linear" else 4e-2  # Floats near 1e5 are 0.008 apart.
    np.testing.assert_allclose(activation.forward(x), slope * x, atol=tolerance)
    log_det = activation.forward_log_det_jacobian(x, 1)
    np.testing.assert_allclose(log_det, 2 * np.log(slope), atol=1e-4)


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_knots_box_and_far_outside(dtype):
    rng = np.random.default_rng(1)
    activation = random_activation(rng, 4, 16, 1.0, dtype)
    spline = activation.spline()
    knots_x, knots_y = rational_quadratic._knots(spline)
    eps = np.finfo(dtype.as_numpy_dtype).eps
    # At every knot: the value is the knot's, from both sides, and the inverse comes back.
    for k in range(17):
        np.testing.assert_allclose(activation.forward(knots_x[:, k]), knots_y[:, k], atol=20 * eps)
        for side in (-1, 1):
            x = knots_x[:, k] + side * 1e-3
            back = activation.inverse(tf.identity(activation.forward(x)))
            np.testing.assert_allclose(back, x, atol=2000 * eps)
    far = tf.constant([-1e6, 1e6, -1e4, 1e4], dtype)
    with tf.GradientTape() as tape:
        tape.watch(far)
        y = activation.forward(far)
    np.testing.assert_allclose(activation.inverse(tf.identity(y)), far, rtol=20 * eps)
    slopes = np.array([spline.slopes[i, -1 if i % 2 else 0] for i in range(4)])
    np.testing.assert_allclose(tape.gradient(y, far), slopes, rtol=100 * eps)


def test_gradients_are_finite_at_knots_and_outside():
    activation = RationalQuadraticActivation.trainable([1], slope=0.7, num_bins=4)
    for variable in activation.trainable_variables:
        variable.assign_add(0.5 * tf.random.stateless_normal(variable.shape, [1, 2]))
    knots_x, knots_y = rational_quadratic._knots(activation.spline())
    for method, points in ((activation.forward, knots_x), (activation.inverse, knots_y)):
        points = tf.concat([tf.transpose(points), [[-1e6], [1e6], [0.0]]], 0)
        with tf.GradientTape() as tape:
            tape.watch(points)
            log_det = (
                activation.forward_log_det_jacobian(points, 1)
                if method == activation.forward
                else activation.inverse_log_det_jacobian(points, 1)
            )
            loss = tf.reduce_sum(method(points)) * 1e-6 + tf.reduce_sum(log_det)
        for gradient in tape.gradient(loss, [points, *activation.trainable_variables]):
            assert np.all(np.isfinite(gradient))


def test_narrow_bins_in_float32():
    """All the width in one bin: the others are at the least width, 1e-3 of the box."""
    widths = np.zeros([1, 8])
    widths[0, 3] = 30
    rng = np.random.default_rng(2)
    values = widths, rng.normal(size=[1, 8]), rng.normal(size=[1, 9]), np.zeros(1)
    pair = [
        RationalQuadraticActivation(*(tf.constant(v, d) for v in values), event_ndims=1)
        for d in (tf.float32, tf.float64)
    ]
    x = np.concatenate([np.linspace(-1, 1, 301), np.linspace(-1, -0.99, 100)])[:, None]
    y32, y64 = (b.forward(tf.constant(x, b.dtype)) for b in pair)
    np.testing.assert_allclose(y32, y64, atol=1e-6)
    np.testing.assert_allclose(pair[0].inverse(tf.identity(y32)), x, atol=2e-6)
    grads = [b.forward_log_det_jacobian(tf.constant(x, b.dtype), 1) for b in pair]
    np.testing.assert_allclose(*grads, atol=2e-3)


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


def test_coupling_is_exactly_the_identity_outside_of_the_box():
    rng = np.random.default_rng(7)
    h = tf.constant(3 * rng.normal(size=[200, 2 * 23]), tf.float32)
    x = np.float32(rng.uniform(3, 9, [200, 2]) * rng.choice([-1, 1], [200, 2]))
    x[:4] = [[3, -3], [1e38, -1e38], [np.inf, -np.inf], [3 + 1e-6, -3 - 1e-6]]
    flow = bijectors.Coupling(lambda a: h, [4], transforms.RationalQuadratic())

    def run(x, h, inverse):
        with tf.GradientTape() as tape:
            tape.watch([x, h])
            y, log_slope = flow.transform.move_channels(x, h, inverse)
            loss = 2 * tf.reduce_sum(y) + tf.reduce_sum(log_slope)
        return y, log_slope, *tape.gradient(loss, [x, h])

    for function in (run, tf.function(run)):  # Eager mode has other gradients than graphs.
        for inverse in (False, True):
            y, log_slope, g_x, g_h = function(tf.constant(x), h, inverse)
            np.testing.assert_array_equal(y, x)
            np.testing.assert_array_equal(log_slope, 0)
            np.testing.assert_array_equal(g_x, 2)
            np.testing.assert_array_equal(g_h, 0)
    # Not a number is not outside.
    assert np.all(np.isnan(run(tf.fill([200, 2], np.float32(np.nan)), h, False)[1]))


@pytest.mark.parametrize("parameterization", ["contractive", "paper"])
def test_no_sigmoid_or_softmax_underflows_to_a_slope_of_0(parameterization):
    rng, extra = np.random.default_rng(8), parameterization == "paper"
    shapes = [(300, 8 + extra)] * 2 + [(300, 9)]
    values = [tf.constant(200 * rng.normal(size=s), tf.float32) for s in shapes]
    values = [*values, tf.zeros([300])]
    x = tf.constant(rng.uniform(-2, 2, [20, 300]), tf.float32)
    for method in ("forward", "inverse"):
        with tf.GradientTape() as tape:
            tape.watch([x, *values])
            activation = RationalQuadraticActivation(
                *values, parameterization=parameterization, event_ndims=1
            )
            y, log_det = getattr(evaluation, f"{method}_and_log_det")(activation, x)
            loss = tf.reduce_sum(y) + tf.reduce_sum(log_det)
        for value in (y, log_det, *tape.gradient(loss, [x, *values])):
            assert np.all(np.isfinite(value))


def test_coupling_agrees_with_tfp():
    bins, rng = 6, np.random.default_rng(3)
    h = rng.normal(size=[5, 2 * (3 * bins - 1)])
    flow = bijectors.Coupling(
        lambda a: tf.constant(h),
        [3],
        transforms.RationalQuadratic(bins, 2.0),
        dtype=tf.float64,
    )
    x = tf.constant(rng.uniform(-3, 3, [5, 3]))
    widths, heights, slopes = np.split(h.reshape([5, 2, -1]), [bins, 2 * bins], axis=-1)
    free = 1 - 1e-3 * bins
    reference = tfb.RationalQuadraticSpline(
        bin_widths=2 * 2.0 * (1e-3 + free * tf.nn.softmax(widths)),
        bin_heights=2 * 2.0 * (1e-3 + free * tf.nn.softmax(heights)),
        knot_slopes=1e-3 + tf.nn.softplus(slopes + np.log(np.expm1(1 - 1e-3))),
        range_min=-2.0,
    )
    y = flow.forward(x)
    np.testing.assert_allclose(y[:, 1:], reference.forward(x[:, 1:]), atol=1e-10)
    np.testing.assert_allclose(
        flow.forward_log_det_jacobian(x, 1),
        reference.forward_log_det_jacobian(x[:, 1:], 1),
        atol=1e-9,
    )


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


@pytest.mark.parametrize("inverse", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("layer", "shapes"),
    [(coupling_layer, [(9, 3 * 14)]), (activation_layer, [(3, 5), (3, 5), (3, 6), (3,)])],
)
def test_closed_form_gradients_are_those_of_automatic_differentiation(layer, shapes, inverse):
    """Eager mode differentiates the formulas by itself, graphs have gradients in closed form."""
    rng = np.random.default_rng(4)
    x = rng.uniform(-4, 4, [9, 3])  # The tails as well.
    values = [tf.constant(v) for v in (x, *(rng.normal(size=shape) for shape in shapes))]
    expected = two_derivatives(layer, inverse, values)
    for jit in (False, True):
        compiled = tf.function(two_derivatives, jit_compile=jit)(layer, inverse, values)
        for actual, desired in zip(
            tf.nest.flatten(compiled), tf.nest.flatten(expected), strict=True
        ):
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


def test_coupling_is_the_identity_for_a_network_of_zeros():
    flow = bijectors.Coupling(lambda a: tf.zeros([4, 2 * 23]), [4], transforms.RationalQuadratic())
    x = tf.random.stateless_normal([4, 4], [1, 1]) * 3
    np.testing.assert_allclose(flow.forward(x), x, atol=1e-6)
    np.testing.assert_allclose(flow.forward_log_det_jacobian(x, 1), np.zeros(4), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"parameterization": "free"}, "`parameterization` must be one of"),
        ({"tails": "none"}, "`tails` must be one of"),
        ({"unnormalized_widths": tf.zeros([2, 5])}, "`unnormalized_widths` must have shape"),
        ({"unnormalized_slopes": tf.zeros([5])}, "`unnormalized_slopes` must have shape"),
        ({"log_width": tf.zeros([3])}, "`log_width` must have shape"),
    ],
)
def test_wrong_arguments(change, match):
    arguments = dict(
        unnormalized_widths=tf.zeros([2, 4]),
        unnormalized_ratios=tf.zeros([2, 4]),
        unnormalized_slopes=tf.zeros([2, 5]),
        log_width=tf.zeros([2]),
    )
    with pytest.raises(ValueError, match=match):
        RationalQuadraticActivation(**{**arguments, **change})


def test_wrong_slope_bins_and_bound():
    with pytest.raises(ValueError, match="`slope` must be in"):
        RationalQuadraticActivation.trainable([None, None, 2], slope=1.5)
    with pytest.raises(ValueError, match="`num_bins` must be"):
        bijectors.Coupling(lambda a: a, [4], transforms.RationalQuadratic(1))
    with pytest.raises(ValueError, match="`bound` must be positive"):
        bijectors.Coupling(lambda a: a, [4], transforms.RationalQuadratic(bound=0.0))
