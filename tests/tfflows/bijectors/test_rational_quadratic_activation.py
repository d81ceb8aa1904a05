"""RationalQuadraticActivation: slopes, knots, tails, narrow bins, errors."""

import numpy as np
import pytest
import tensorflow as tf

from tfflows import bijectors, evaluation
from tfflows.bijectors import transforms
from tfflows.bijectors.rational_quadratic_activation import RationalQuadraticActivation
from tfflows.numerics import rational_quadratic


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
        for t in rng.uniform(-0.02, 1.02, [4, 10, 1]):  # The tails as well.
            worst = tf.reduce_max(log_slopes(activation, spline.left + t * (right - spline.left)))
            assert worst <= 1e-9
    assert draws >= 1_000_000


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
