"""Monotonic rational-quadratic splines, the arithmetic behind two bijectors.

A spline is evaluated in two steps: find the bin of each `x`, then evaluate the bin. `evaluate` and
its gradient `pull_back_bin` are shared; `transform` and `pull_back` are for splines that many
entries share. `entry_splines`, with a spline for each entry, finds bins itself.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf


class Spline(NamedTuple):
    """Monotonic rational-quadratic splines, Gregory and Delbourgo (1982), with linear tails.

    Bin `i` has width `D_i`, ratio of height and width `d_i`, and the slopes `a_i` and `a_{i+1}` at
    its knots. With `xi = (x - x_i) / D_i`, Liao and He (2021), equations 16 and 17:

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


class Bin(NamedTuple):
    """The bin of each entry: its first knot, width, height, and slopes at its knots."""

    x: tf.Tensor
    y: tf.Tensor
    width: tf.Tensor
    height: tf.Tensor
    first: tf.Tensor
    last: tf.Tensor


class Place(NamedTuple):
    """Where in its bin each `x` is: `x = x_i + D_i xi + beyond`, `beyond` 0 inside the bin."""

    xi: tf.Tensor
    beyond: tf.Tensor


def forward(spline: Spline, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns `y` and `log y'`, each of the shape of `x`.

    Args:
      spline: its parameters, with `[*P]` the last dimensions of `x`, or all of them.
      x: `[..., *P]`.
    """
    return transform(spline, x, inverse=False)[0]


def inverse(spline: Spline, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns `x` and `log x'`; the arguments are those of `forward`."""
    return transform(spline, y, inverse=True)[0]


def transform(
    spline: Spline, value: tf.Tensor, inverse: bool
) -> tuple[tuple[tf.Tensor, tf.Tensor], tuple[tf.Tensor, Bin, Place]]:
    """Returns `forward`, or `inverse`, and what `pull_back` needs: row of the table, bin, place."""
    bins = spline.widths.shape[-1]
    knots_x, knots_y = _knots(spline)
    # One column for each of the `prod P` splines.
    inner = tf.reshape((knots_y if inverse else knots_x)[..., 1:-1], [-1, bins - 1])
    columns = tf.shape(inner)[0]
    flat = tf.reshape(value, [-1, columns])
    number = tf.reduce_sum(tf.cast(flat[..., tf.newaxis] >= inner, tf.int32), axis=-1)
    row = tf.reshape(number + bins * tf.range(columns), tf.shape(value))
    # Column by column: XLA would find the row anew for each column of gathered rows.
    b = Bin(*(tf.gather(column, row) for column in tf.unstack(table(spline), axis=-1)))
    outputs, place = evaluate(b, value, inverse)
    return outputs, (row, b, place)


def pull_back(
    splines: int,
    bins: int,
    residuals: tuple[tf.Tensor, Bin, Place],
    gradients: tuple[tf.Tensor, tf.Tensor],
    inverse: bool,
    accelerated: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the gradients with respect to the `table` of all bins, and to the input.

    Args:
      splines: number of splines, `prod P`.
      bins: `I`.
      residuals: as `transform` returns them.
      gradients: with respect to the two outputs of `transform`.
      inverse: as in `transform`.
      accelerated: whether to suit an accelerator, see `evaluation.for_accelerator`.
    """
    row, b, place = residuals
    columns, value = pull_back_bin(b, place, *gradients, inverse)
    # Column by column: XLA would find all columns anew for each of them.
    if accelerated:
        # Each spline adds up all that it moved, 0 where that is in another bin.
        rows = tf.reshape(tf.range(splines * bins), [splines, bins])
        is_in = tf.reshape(row, [-1, splines, 1]) == rows
        flat = [tf.reshape(column, [-1, splines, 1]) for column in columns]
        zero = tf.zeros([], value.dtype)
        sums = [tf.reduce_sum(tf.where(is_in, column, zero), axis=0) for column in flat]
        return tf.stack([tf.reshape(s, [-1]) for s in sums], axis=-1), value
    row, flat = tf.reshape(row, [-1]), [tf.reshape(column, [-1]) for column in columns]
    sums = [tf.math.unsorted_segment_sum(column, row, splines * bins) for column in flat]
    return tf.stack(sums, axis=-1), value


def table(spline: Spline) -> tf.Tensor:
    """Returns all bins, `[I prod P, 6]` in the order of `Bin`."""
    knots_x, knots_y = (knots[..., :-1] for knots in _knots(spline))
    heights, slopes = spline.ratios * spline.widths, spline.slopes
    columns = Bin(knots_x, knots_y, spline.widths, heights, slopes[..., :-1], slopes[..., 1:])
    return tf.reshape(tf.stack(columns, axis=-1), [-1, len(columns)])


def _knots(spline):
    """Returns the knots `x_i` and `y_i`, `[*P, I + 1]`."""
    heights = spline.ratios * spline.widths
    knots_x = spline.left[..., tf.newaxis] + sums_before(spline.widths)
    return knots_x, spline.bottom[..., tf.newaxis] + sums_before(heights)


def sums_before(x: tf.Tensor) -> tf.Tensor:
    """Returns the sums of the first 0, 1, ..., I entries of `[..., I]`.

    A product of two matrices, one of them triangular: `tf.cumsum` is far slower.
    """
    size = x.shape[-1]
    triangle = tf.constant(np.triu(np.ones([size, size + 1]), 1), x.dtype)
    flat = tf.matmul(tf.reshape(x, [-1, size]), triangle)
    return tf.reshape(flat, tf.concat([tf.shape(x)[:-1], [size + 1]], axis=0))


def evaluate(b: Bin, value: tf.Tensor, inverse: bool) -> tuple[tuple[tf.Tensor, tf.Tensor], Place]:
    """Returns the result and the log of its slope, and the `Place`.

    Below the first and above the last knot of a bin it goes on with the slope of that knot: in the
    outermost bins these are the tails, elsewhere no more than a rounding.
    """
    if inverse:
        eta = (value - b.y) / b.height
        clipped = tf.clip_by_value(eta, 0, 1)
        xi = _invert(b, clipped)
        _, slope, log_slope = _evaluate(b, xi)
        beyond = b.height * (eta - clipped) / slope
        return (b.x + b.width * xi + beyond, -log_slope), Place(xi, beyond)
    position = (value - b.x) / b.width
    xi = tf.clip_by_value(position, 0, 1)
    beyond = b.width * (position - xi)
    y, slope, log_slope = _evaluate(b, xi)
    return (y + slope * beyond, log_slope), Place(xi, beyond)


def _evaluate(b, xi):
    """Returns `y`, `y'` and `log y'` at `xi` in [0, 1]."""
    ratio = b.height / b.width
    rest = 1 - xi
    product = xi * rest
    denominator = ratio * (1 - 2 * product) + (b.first + b.last) * product
    y = b.y + b.height * (ratio * xi**2 + b.first * product) / denominator
    numerator = b.last * xi**2 + 2 * ratio * product + b.first * rest**2
    factor = ratio / denominator
    # The slope by itself: samples have no use for logarithms.
    return y, numerator * factor**2, tf.math.log(numerator) + 2 * tf.math.log(factor)


def _invert(b, eta):
    """Returns `xi` for the relative height `eta` in [0, 1].

    With `p = a_0 (1 - eta) - a_1 eta`, `xi` is the root in [0, 1] of

        (d - p - 2 d eta) xi^2 + (p + 2 d eta) xi - d eta = 0

    whose discriminant is a sum of squares, `p^2 + 4 d^2 eta (1 - eta)`. Counted from the other
    knot, `p` becomes `-p`. So at one of the knots `p >= 0`, where nothing cancels in the root
    `2 d eta / (p + 2 d eta + sqrt(p^2 + 4 d^2 eta (1 - eta)))`.
    """
    ratio = b.height / b.width
    p = b.first * (1 - eta) - b.last * eta
    turned = p < 0
    twice = 2 * ratio * tf.where(turned, 1 - eta, eta)
    p = tf.where(turned, -p, p)
    xi = twice / (p + twice + tf.sqrt(p**2 + 4 * ratio**2 * eta * (1 - eta)))
    return tf.where(turned, 1 - xi, xi)


def pull_back_bin(
    b: Bin, place: Place, g: tf.Tensor, g_log: tf.Tensor, inverse: bool
) -> tuple[Bin, tf.Tensor]:
    """Returns the gradients with respect to the bin, a `Bin`, and to the input of `evaluate`.

    With `y = f(x; p)` and `l = log f'(x; p)`, the inverse is `x(y; p)` and `-l(x(y; p); p)`, where
    `dx = (dy - f_p dp) / f'`. So its gradients are those of `f` and `l` for other `g`, `g_log`.

    Args:
      b: the bin.
      place: as `evaluate` returns it.
      g: gradient with respect to the first output of `evaluate`.
      g_log: gradient with respect to the second.
      inverse: as in `evaluate`.
    """
    xi, beyond = place
    rest, turn = 1 - xi, 1 - 2 * xi
    product = xi * rest
    ratio = b.height / b.width
    excess = b.first + b.last - 2 * ratio
    # One over the denominator of `y`.
    over = 1 / (ratio * (1 - 2 * product) + (b.first + b.last) * product)
    height = (ratio * xi**2 + b.first * product) * over  # Relative to the bin's.
    numerator = b.last * xi**2 + 2 * ratio * product + b.first * rest**2
    over_numerator = 1 / numerator
    slope = numerator * (ratio * over) ** 2
    # The derivative of `l` by `x`, 0 in the tails.
    l_x = 2 * (
        (b.last * xi + ratio * turn - b.first * rest) * over_numerator - excess * turn * over
    )
    l_x = tf.where(tf.equal(beyond, 0), l_x / b.width, tf.zeros_like(l_x))
    if inverse:
        g, g_log = (g_log * l_x - g) / slope, -g_log
    # In the tails `y` is that of the knot, plus `exp(l) beyond`.
    g_log_all = g_log + g * slope * beyond
    g_x = g * slope + g_log * l_x
    common = 2 * g_log_all * product * over
    scaled = g * b.height * over
    g_first = scaled * product * (1 - height) + g_log_all * rest**2 * over_numerator - common
    g_last = g_log_all * xi**2 * over_numerator - scaled * product * height - common
    denominator_ratio = 1 - 2 * product  # Its derivative by the ratio.
    g_ratio = scaled * (xi**2 - height * denominator_ratio)
    g_ratio += 2 * g_log_all * (product * over_numerator + 1 / ratio - denominator_ratio * over)
    g_height = g * height + g_ratio / b.width
    g_width = -xi * g_x - g_ratio * ratio / b.width
    return Bin(-g_x, g, g_width, g_height, g_first, g_last), -g if inverse else g_x
