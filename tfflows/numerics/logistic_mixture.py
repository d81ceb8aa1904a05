"""Distribution functions of mixtures of logistics, seen on the scale of a logit (Flow++)."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfflows import _tensorflow
from tfflows.numerics.compiled import CompiledFunction

MAX_LOG_SCALE = 5.0
# Gradients of the inverse are divided by no less: where the map is flat, `y` does not tell `x`.
LEAST_LOG_SLOPE = -60.0
MAX_STEPS = 200  # Of the inverse, which takes about ten: a bound that is not met.


def transform(x: tf.Tensor, raw: tf.Tensor, inverse: bool) -> tuple[tf.Tensor, tf.Tensor]:
    """Moves entries by mixtures of logistics of their own, Ho et al. (2019), section 3.2.

        y = logit F(x),   F(x) = sum_k p_k sigmoid((x - m_k) exp(-s_k))

    With `(u, v, w)` the `K`, `K` and `K` numbers of an entry:

        p = softmax(u),   m_k = c_k + v_k,   s_k = 5 tanh(w_k / 5)

    `c` are the midpoints of `K` equal parts of [-1, 1]: components that are equal at the start
    would stay so. Zeros are nearly the identity: `y` differs from `x` by less than log sinh 1 =
    0.162, slopes are in [2 tanh(1/2), 1] = [0.924, 1].

    Args:
      x: `[..., D]`.
      raw: `[..., D, 3 K]`.
      inverse: whether to invert.

    Returns:
      The moved entries and the logarithms of the slopes, or their negatives.

    #### References

    Ho, Chen, Srinivas, Duan, Abbeel, *Flow++: Improving Flow-Based Generative Models with
    Variational Dequantization and Architecture Design*, ICML 2019, arXiv:1902.00275.
    """
    return _TRANSFORM(x, raw, inverse=inverse)


class _Mixture(NamedTuple):
    """Of components `[..., K]`: logarithms of weights, means, logarithms of scales, 1 / scales."""

    log_weights: tf.Tensor
    means: tf.Tensor
    log_scales: tf.Tensor
    rates: tf.Tensor


def _mixture(raw):
    logits, means, log_scales = tf.split(raw, 3, axis=-1)
    count = means.shape[-1]
    means += tf.constant((2 * np.arange(count) + 1) / count - 1, raw.dtype)
    log_scales = MAX_LOG_SCALE * tf.tanh(log_scales / MAX_LOG_SCALE)
    return _Mixture(tf.nn.log_softmax(logits), means, log_scales, tf.exp(-log_scales))


class _Terms(NamedTuple):
    """What values and gradients are made of; `z = (x - m) exp(-s)`.

    Attributes:
      z: `[..., K]`.
      below: `log(p_k sigmoid(z_k)) - log F`, the part of each component in `F`.
      above: `log(p_k sigmoid(-z_k)) - log(1 - F)`, its part in `1 - F`.
      density: `log(p_k sigmoid(z_k) sigmoid(-z_k) / (F (1 - F)))`, its part in the slope, times
        `exp(s_k)`.
      log_cdf: `log F`, `[...]`.
      log_survival: `log(1 - F)`.
    """

    z: tf.Tensor
    below: tf.Tensor
    above: tf.Tensor
    density: tf.Tensor
    log_cdf: tf.Tensor
    log_survival: tf.Tensor


def _terms(x, mixture):
    z = (x[..., tf.newaxis] - mixture.means) * mixture.rates
    lower, upper = tf.math.log_sigmoid(z), tf.math.log_sigmoid(-z)
    below, above = mixture.log_weights + lower, mixture.log_weights + upper
    log_cdf, log_survival = (tf.reduce_logsumexp(part, axis=-1) for part in (below, above))
    below, above = below - log_cdf[..., tf.newaxis], above - log_survival[..., tf.newaxis]
    # Far out the smaller of `F` and `1 - F` is tiny, and its components as tiny: their ratio is
    # precise, and the other factors are near 1.
    density = tf.where(
        (log_cdf > log_survival)[..., tf.newaxis],
        above + lower - log_cdf[..., tf.newaxis],
        below + upper - log_survival[..., tf.newaxis],
    )
    return _Terms(z, below, above, density, log_cdf, log_survival)


def _evaluate(x, mixture):
    """Returns `y` and the logarithm of the slope."""
    terms = _terms(x, mixture)
    log_slope = tf.reduce_logsumexp(terms.density - mixture.log_scales, axis=-1)
    return terms.log_cdf - terms.log_survival, log_slope


def _transform(value, raw, *, inverse):
    """Returns the moved entries and the logarithms of the slopes, and what `_pull_back` needs: `x`.

    Args:
      value: `[..., D]`.
      raw: `[..., D, 3 K]`.
      inverse: whether to invert.
    """
    mixture = _mixture(raw)
    if not inverse:
        return _evaluate(value, mixture), value
    with _tensorflow.stop_recording():
        x = _solve(value, mixture)
    x = tf.stop_gradient(x)
    for _ in range(2):
        # Steps of Newton's method that change derivatives alone: the first makes those of first
        # order right, the second those of second order.
        y, log_slope = _evaluate(x, mixture)
        error = y - value
        x -= (error - tf.stop_gradient(error)) / _divisor(log_slope)
    return (x, -_evaluate(x, mixture)[1]), x


def _solve(y, mixture):
    """Returns `x` with `logit F(x) = y`, by Newton's method in a bracket.

    **Bracket.** At the least of `m_k + exp(s_k) y` all `z_k <= y`, so `F <= sigmoid(y)`; at the
    largest all `z_k >= y`, so `F >= sigmoid(y)`. In between `F` rises.

    A step that leaves the bracket, or is more than half as long as the one before, is one to its
    middle instead.

    **End.** As the logarithm of the slope changes by no more than `2 max exp(-s)` in one unit of
    `x`, what a short step leaves is about its square times `max exp(-s)`, or less. An entry stops
    with the step that leaves no more than rounding, or where its step or error in `y` is no more.
    """
    quantiles = mixture.means + y[..., tf.newaxis] / mixture.rates
    low, high = tf.reduce_min(quantiles, axis=-1), tf.reduce_max(quantiles, axis=-1)
    steepest = tf.reduce_max(mixture.rates, axis=-1)
    rounding = 4 * np.finfo(y.dtype.as_numpy_dtype).eps

    def proceed(i, low, high, x, last, is_moving):
        return (i < MAX_STEPS) & tf.reduce_any(is_moving)

    def step(i, low, high, x, last, is_moving):
        value, log_slope = _evaluate(x, mixture)
        error = y - value
        low, high = tf.where(error > 0, x, low), tf.where(error > 0, high, x)
        change = error * tf.exp(-log_slope)
        size, new = tf.abs(change), x + change
        allowed = rounding * tf.abs(x)
        is_moving &= (tf.abs(error) > rounding * tf.maximum(tf.abs(y), 1)) & (size > allowed)
        is_good = (low < new) & (new < high) & (size <= last / 2)
        new = tf.where(is_moving, tf.where(is_good, new, low + (high - low) / 2), x)
        is_moving &= ~(is_good & (size**2 * steepest <= allowed))
        return i + 1, low, high, new, tf.abs(new - x), is_moving

    start = (
        tf.constant(0),
        low,
        high,
        low + (high - low) / 2,
        high - low,
        tf.ones_like(y, tf.bool),
    )
    return tf.while_loop(proceed, step, start)[3]


def _divisor(log_slope):
    """Returns the slope, or the least number that a gradient is divided by."""
    return tf.exp(tf.maximum(log_slope, LEAST_LOG_SLOPE))


def _pull_back(inputs, x, gradients, *, inverse):
    """Returns the gradients with respect to both inputs.

    With `y = f(x; h)` and `l = log f'(x; h)`, the inverse is `x(y; h)` and `-l(x(y; h); h)`, where
    `dx = (dy - f_h dh) / f'`. So its gradients are those of `f` and `l` for other `g`, `g_log`.
    """
    mixture = _mixture(inputs[1])
    terms = _terms(x, mixture)
    log_density = terms.density - mixture.log_scales
    log_slope = tf.reduce_logsumexp(log_density, axis=-1)
    part = tf.exp(log_density - log_slope[..., tf.newaxis])
    below, above, y_z = (tf.exp(t) for t in (terms.below, terms.above, terms.density))
    y = terms.log_cdf - terms.log_survival
    # Derivatives of `l`, by `z` and by `x`.
    l_z = y_z * tf.tanh(y / 2)[..., tf.newaxis] - part * tf.tanh(terms.z / 2)
    g, g_log = gradients
    if inverse:
        g_y = (g - g_log * tf.reduce_sum(l_z * mixture.rates, axis=-1)) / _divisor(log_slope)
        g, g_log = -g_y, -g_log
    g, g_log = g[..., tf.newaxis], g_log[..., tf.newaxis]
    g_z = g * y_z + g_log * l_z
    g_means = -g_z * mixture.rates
    parts = [
        g * (below - above) + g_log * (part - below - above + tf.exp(mixture.log_weights)),
        g_means,
        -(g_z * terms.z + g_log * part) * (1 - (mixture.log_scales / MAX_LOG_SCALE) ** 2),
    ]
    return g_y if inverse else -tf.reduce_sum(g_means, axis=-1), tf.concat(parts, axis=-1)


_TRANSFORM = CompiledFunction(_transform, _pull_back)
