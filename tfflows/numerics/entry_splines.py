"""Rational-quadratic splines of which every entry has its own (RQ-NSF), each way one kernel."""

import math
from typing import NamedTuple

import tensorflow as tf

from tfflows.numerics.compiled import CompiledFunction
from tfflows.numerics.rational_quadratic import (
    Bin,
    Place,
    evaluate,
    pull_back_bin,
    sums_before,
)

MIN_BIN = 1e-3  # Of a width or a height, relative to the box.
MIN_SLOPE = 1e-3


def transform(
    x: tf.Tensor, raw: tf.Tensor, bound: float, inverse: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """Moves entries by splines of their own, Durkan et al. (2019), section 3.

    With `I` bins on `[-B, B]`, the identity outside, and `(u, v, s)` the `I`, `I` and `I - 1`
    numbers of an entry:

        widths  2 B softmax(u), heights 2 B softmax(v), each at least 1e-3 of the box
        slopes  1e-3 + softplus(s + c) at the inner knots, with c such that s = 0 is a slope of 1;
                1 at the outer knots

    Zeros are the identity.

    Args:
      x: `[..., D]`.
      raw: `[..., D, 3 I - 1]`.
      bound: `B`.
      inverse: whether to invert.

    Returns:
      The moved entries and the logarithms of the slopes, or their negatives.

    #### References

    Durkan, Bekasov, Murray, Papamakarios, *Neural Spline Flows*, NeurIPS 2019, arXiv:1906.04032.
    """
    return _TRANSFORM(x, raw, bound=float(bound), inverse=inverse)


class _Residuals(NamedTuple):
    """What `_pull_back` needs: the number of each bin, and what it is made of.

    `before` are the sums of the softmax before the bin, of widths and of heights; `log_sum` are the
    logarithms of the denominators.
    """

    number: tf.Tensor
    bin: Bin
    place: Place
    before: tuple[tf.Tensor, tf.Tensor]
    log_sum: tuple[tf.Tensor, tf.Tensor]


def _transform(b, h, *, bound, inverse):
    """Returns the moved `b` and the logarithms of the slopes, and `_Residuals`.

    Nothing is done to all bins that can be done to the one that is found. Outside of the box the
    spline is evaluated at 0, where it is finite, and not used.

    Args:
      b: `[..., D]`.
      h: `[..., D, 3 I - 1]`.
      bound: `B`.
      inverse: whether to invert.
    """
    bins = (h.shape[-1] + 1) // 3
    least, free = 2 * bound * MIN_BIN, 2 * bound * (1 - MIN_BIN * bins)
    outside = tf.abs(b) >= bound
    outer, b = b, tf.where(outside, tf.zeros([], b.dtype), b)
    raw = tf.split(h, [bins, bins, bins - 1], axis=-1)
    largest = [tf.reduce_max(r, axis=-1) for r in raw[:2]]
    exps = [tf.exp(r - m[..., tf.newaxis]) for r, m in zip(raw, largest, strict=False)]
    sums = [tf.reduce_sum(e, axis=-1) for e in exps]

    searched, total = exps[inverse], sums[inverse][..., tf.newaxis]
    knots = least * tf.range(bins + 1, dtype=b.dtype) - bound
    knots += free / total * sums_before(searched)
    number = tf.cast(b[..., tf.newaxis] >= knots[..., 1:-1], tf.int32)
    number = tf.reduce_sum(number, axis=-1)

    def pick(mask, values):
        return tf.reduce_sum(tf.where(mask, values, tf.zeros([], b.dtype)), axis=-1)

    is_bin, is_before = _masks(number, bins)
    before = [pick(is_before, e) / s for e, s in zip(exps, sums, strict=True)]
    sizes = [least + free * pick(is_bin, e) / s for e, s in zip(exps, sums, strict=True)]
    corner = least * tf.cast(number, b.dtype) - bound
    one, shift = tf.ones_like(b), math.log(math.expm1(1 - MIN_SLOPE))
    first, last = (
        tf.where(number == edge, one, MIN_SLOPE + tf.nn.softplus(pick(mask, raw[2]) + shift))
        for edge, mask in ((0, is_bin[..., 1:]), (bins - 1, is_bin[..., :-1]))
    )
    found = Bin(*(corner + free * s for s in before), *sizes, first, last)
    (moved, log_slope), place = evaluate(found, b, inverse)
    outputs = tf.where(outside, outer, moved), tf.where(outside, tf.zeros_like(b), log_slope)
    log_sums = [m + tf.math.log(s) for m, s in zip(largest, sums, strict=True)]
    return outputs, _Residuals(number, found, place, tuple(before), tuple(log_sums))


def _pull_back(inputs, residuals, gradients, *, bound, inverse):
    """Returns the gradients with respect to `b` and `h`, in one pass over `h`."""
    h, found, outside = inputs[1], residuals.bin, tf.abs(inputs[0]) >= bound
    bins = (h.shape[-1] + 1) // 3
    least, free = 2 * bound * MIN_BIN, 2 * bound * (1 - MIN_BIN * bins)
    inside = [tf.where(outside, tf.zeros_like(g), g) for g in gradients]
    g, g_b = pull_back_bin(found, residuals.place, *inside, inverse)
    g_b = tf.where(outside, gradients[0], g_b)
    is_bin, is_before = _masks(residuals.number, bins)
    zero = tf.zeros([], h.dtype)

    def softmax(raw, log_sum, before, size, g_before, g_size):
        """Gradient with respect to `raw`, given those of the sum before and the size of the bin."""
        mean = g_before * before + g_size * (size - least) / free
        g_each = tf.where(is_bin, g_size[..., tf.newaxis], zero)
        g_each = tf.where(is_before, g_before[..., tf.newaxis], g_each) - mean[..., tf.newaxis]
        return free * tf.exp(raw - log_sum[..., tf.newaxis]) * g_each

    def softplus(slope, g_slope):
        """The derivative of softplus from its value."""
        return (-tf.math.expm1(MIN_SLOPE - slope) * g_slope)[..., tf.newaxis]

    widths, heights, _ = tf.split(h, [bins, bins, bins - 1], axis=-1)
    slopes = tf.where(is_bin[..., :-1], softplus(found.last, g.last), zero)
    slopes = tf.where(is_bin[..., 1:], softplus(found.first, g.first), slopes)
    (x_before, y_before), (x_sum, y_sum) = residuals.before, residuals.log_sum
    parts = [
        softmax(widths, x_sum, x_before, found.width, g.x, g.width),
        softmax(heights, y_sum, y_before, found.height, g.y, g.height),
        slopes,
    ]
    return g_b, tf.concat(parts, axis=-1)


def _masks(number, bins):
    """Returns which of all bins is the one of that number, and which are before it."""
    each, number = tf.range(bins), number[..., tf.newaxis]
    return tf.equal(each, number), each < number


_TRANSFORM = CompiledFunction(_transform, _pull_back)
