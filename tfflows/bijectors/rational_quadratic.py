"""Monotonic rational-quadratic splines, the arithmetic behind two bijectors."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf


class Spline(NamedTuple):
    """Monotonic rational-quadratic splines, Gregory and Delbourgo (1982), with linear tails.

    Bin `i` has width `D_i`, ratio of height and width `d_i`, and the slopes `a_i` and `a_{i+1}` at
    its knots. With `xi = (x - x_i) / D_i`, equations 16 and 17 of paper B:

        y  = y_i + d_i D_i (d_i xi^2 + a_i xi (1 - xi)) / (d_i + r_i xi (1 - xi))
        y' = d_i^2 (a_{i+1} xi^2 + 2 d_i xi (1 - xi) + a_i (1 - xi)^2) / (d_i + r_i xi (1 - xi))^2

    with `r_i = a_i + a_{i+1} - 2 d_i`. Outside the knots it goes on with the slope of the last one.

    Widths, ratios and slopes are given as such, and not as differences of knots, so that narrow
    bins keep their precision.

    Attributes:
      left: `x_0`, `[*P]`.
      bottom: `y_0`, `[*P]`.
      widths: `D`, `[*P, I]`, positive.
      ratios: `d`, `[*P, I]`, positive.
      slopes: `a`, `[*P, I + 1]`, positive.

    #### References

    Gregory, Delbourgo, *Piecewise Rational Quadratic Interpolation to Monotonic Data*, IMA Journal
    of Numerical Analysis 2, 1982. Liao, He, *Jacobian Determinant of Normalizing Flows*, 2021,
    arXiv:2102.06539.
    """

    left: tf.Tensor
    bottom: tf.Tensor
    widths: tf.Tensor
    ratios: tf.Tensor
    slopes: tf.Tensor


class _Bin(NamedTuple):
    """The bin of each `x`: its first knot, width, ratio, and slopes at its knots."""

    x: tf.Tensor
    y: tf.Tensor
    width: tf.Tensor
    ratio: tf.Tensor
    first: tf.Tensor
    last: tf.Tensor


def forward(spline: Spline, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns `y` and `log y'`, each of the shape of `x`.

    Args:
      spline: its parameters, with `[*P]` the last dimensions of `x`, or all of them.
      x: `[..., *P]`.
    """
    shape, x = x.shape, _flat(spline, x)
    knots_x, knots_y = _knots(spline)
    inside = tf.clip_by_value(x, knots_x[..., 0], knots_x[..., -1])
    b = _bin(spline, knots_x, knots_y, _index(knots_x, inside))
    xi = tf.clip_by_value((inside - b.x) / b.width, 0, 1)
    # The last knot is `x_0` plus all widths, and not to rounding `b.x` plus the last one.
    xi = tf.where(x >= knots_x[..., -1], tf.ones_like(xi), xi)
    y, log_slope = _evaluate(b, xi)
    # Outside the knots the slope is that of the last one, and `inside` the place of the knot.
    return _restore(y + tf.exp(log_slope) * (x - inside), log_slope, shape)


def inverse(spline: Spline, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns `x` and `log x'`; the arguments are those of `forward`."""
    shape, y = y.shape, _flat(spline, y)
    knots_x, knots_y = _knots(spline)
    inside = tf.clip_by_value(y, knots_y[..., 0], knots_y[..., -1])
    b = _bin(spline, knots_x, knots_y, _index(knots_y, inside))
    xi = _invert(b, tf.clip_by_value((inside - b.y) / (b.ratio * b.width), 0, 1))
    xi = tf.where(y >= knots_y[..., -1], tf.ones_like(xi), xi)
    _, log_slope = _evaluate(b, xi)
    x = b.x + b.width * xi + tf.exp(-log_slope) * (y - inside)
    return _restore(x, -log_slope, shape)


def _flat(spline, x):
    """Gives `x` one dimension before `[*P]`."""
    return tf.reshape(x, tf.concat([[-1], tf.shape(spline.left)], axis=0))


def _restore(value, log_slope, shape):
    """Undoes `_flat`, for static shapes with at most one unknown size."""
    sizes = [-1 if size is None else size for size in shape]
    return tf.reshape(value, sizes), tf.reshape(log_slope, sizes)


def _knots(spline):
    """Returns the knots `x_i` and `y_i`, `[*P, I + 1]`."""
    bins = spline.widths.shape[-1]
    # Sums by a product with a triangular matrix: `tf.cumsum` is far slower.
    sums = tf.constant(np.triu(np.ones([bins, bins + 1]), 1), spline.widths.dtype)
    knots_x = spline.left[..., tf.newaxis] + _matmul(spline.widths, sums)
    return knots_x, spline.bottom[..., tf.newaxis] + _matmul(spline.ratios * spline.widths, sums)


def _matmul(x, matrix):
    """Returns `x @ matrix` as one product of two matrices."""
    flat = tf.matmul(tf.reshape(x, [-1, matrix.shape[0]]), matrix)
    return tf.reshape(flat, tf.concat([tf.shape(x)[:-1], matrix.shape[1:]], axis=0))


def _index(knots, x):
    """Returns the number of the bin of each `x`, `[-1, prod P]`."""
    bins = knots.shape[-1] - 1
    inner = tf.stop_gradient(tf.reshape(knots[..., 1:-1], [-1, bins - 1]))
    x = tf.stop_gradient(tf.reshape(x, [-1, tf.shape(inner)[0]]))
    # One row of `inner` for each of the `prod P` splines.
    found = tf.searchsorted(inner, tf.transpose(x), side="right")
    return tf.transpose(found)


def _bin(spline, knots_x, knots_y, index):
    """Gathers the parameters of bins `index`, `[-1, prod P]`, into the shape of the input."""
    bins = spline.widths.shape[-1]
    row = tf.range(tf.shape(index)[-1])
    by_bin, by_knot = index + bins * row, index + (bins + 1) * row
    shape = tf.concat([[-1], tf.shape(spline.left)], axis=0)

    def gather(values, index):
        return tf.reshape(tf.gather(tf.reshape(values, [-1]), index), shape)

    return _Bin(
        gather(knots_x, by_knot),
        gather(knots_y, by_knot),
        gather(spline.widths, by_bin),
        gather(spline.ratios, by_bin),
        gather(spline.slopes, by_knot),
        gather(spline.slopes, by_knot + 1),
    )


def _evaluate(b, xi):
    """Returns `y` and `log y'` at `xi` in [0, 1]."""
    rest = 1 - xi
    product = xi * rest
    denominator = b.ratio + (b.first + b.last - 2 * b.ratio) * product
    y = b.y + b.ratio * b.width * (b.ratio * xi**2 + b.first * product) / denominator
    numerator = b.last * xi**2 + 2 * b.ratio * product + b.first * rest**2
    return y, tf.math.log(numerator) + 2 * tf.math.log(b.ratio / denominator)


def _invert(b, eta):
    """Returns `xi` for the relative height `eta` in [0, 1].

    `xi` is the root of `a xi^2 + b xi - d eta = 0` in [0, 1], `b = a_0 - eta r`. Counted from the
    other knot, `b` becomes `2 d - b`. So at one of the knots `b >= d > 0`, where the root
    `2 d eta / (b + sqrt(b^2 + 4 a d eta))` is free of cancellation.
    """
    excess = b.first + b.last - 2 * b.ratio
    turned = b.first - eta * excess < b.ratio
    first = tf.where(turned, b.last, b.first)
    height = tf.where(turned, 1 - eta, eta)
    linear = first - height * excess
    quadratic = b.ratio - first + height * excess
    product = b.ratio * height
    root = tf.sqrt(linear**2 + 4 * quadratic * product)
    xi = tf.clip_by_value(2 * product / (linear + root), 0, 1)
    return tf.where(turned, 1 - xi, xi)
