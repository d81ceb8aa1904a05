"""Preprocessing as bijectors: from pixels, and columns of tables, to the scale of networks."""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfflows.evaluation.flow_bijector import FlowBijector

SIMPLEX_TOLERANCE = 1e-3  # Of the sum of the columns of a simplex, relative: they are rounded.


class NormalizeImage(FlowBijector):
    """Maps pixels in `[0, num_levels]` to `[-1/2, 1/2]`.

        forward:  y = x / num_levels - 1/2      (256 levels: (x - 128) / 256)
        log-det:  -D log(num_levels),  D = H W C

    Args:
      num_levels: number of values of a pixel.
      validate_args: see `tfb.Bijector`.
      name: name of the bijector.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import bijectors

    bijectors.NormalizeImage(256).forward(tf.fill([8, 8, 1], 128.0))  # zeros
    ```
    """

    def __init__(
        self, num_levels: int = 256, *, validate_args: bool = False, name: str = "normalize_image"
    ) -> None:
        parameters = dict(locals())
        self._num_levels = num_levels
        super().__init__(
            forward_min_event_ndims=0,
            is_constant_jacobian=True,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    def _forward_and_log_det(self, x):
        log_det = tf.constant(-math.log(self._num_levels), x.dtype)
        return x / self._num_levels - 0.5, log_det

    def _inverse_and_log_det(self, y):
        log_det = tf.constant(math.log(self._num_levels), y.dtype)
        return (y + 0.5) * self._num_levels, log_det


class LogitImage(FlowBijector):
    """Maps pixels in `[0, num_levels]` to the real line, RealNVP section 4.1.

        p = alpha + (1 - 2 alpha) x / num_levels
        forward:  y = log p - log(1 - p)
        log-det:  sum log(1 - 2 alpha) - log(num_levels) - log p - log(1 - p)

    The inverse is the sigmoid; for `|y|` beyond `log(1/alpha - 1)` it leaves `[0, num_levels]`, by
    at most `num_levels alpha / (1 - 2 alpha)`.

    Args:
      num_levels: number of values of a pixel.
      alpha: distance from 0 and 1, so that the logit stays finite.
      validate_args: see `tfb.Bijector`.
      name: name of the bijector.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import bijectors

    bijectors.LogitImage(256).forward(tf.fill([8, 8, 1], 128.0))  # zeros
    ```

    #### References

    Dinh, Sohl-Dickstein, Bengio, *Density Estimation using Real NVP*, ICLR 2017, arXiv:1605.08803.
    """

    def __init__(
        self,
        num_levels: int = 256,
        *,
        alpha: float = 0.05,
        validate_args: bool = False,
        name: str = "logit_image",
    ) -> None:
        parameters = dict(locals())
        if not 0 < alpha < 0.5:
            raise ValueError(f"`alpha` must lie in (0, 1/2). Received: alpha={alpha}.")
        self._num_levels = num_levels
        self._alpha = alpha
        super().__init__(
            forward_min_event_ndims=0,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    def _log_det_at(self, y):
        """Returns the forward log-det in terms of the output: -log p - log(1-p) from softplus."""
        constant = math.log1p(-2 * self._alpha) - math.log(self._num_levels)
        return constant + tf.nn.softplus(-y) + tf.nn.softplus(y)

    def _forward_and_log_det(self, x):
        p = self._alpha + (1 - 2 * self._alpha) * x / self._num_levels
        y = tf.math.log(p) - tf.math.log1p(-p)
        return y, self._log_det_at(y)

    def _inverse_and_log_det(self, y):
        x = (tf.sigmoid(y) - self._alpha) * (self._num_levels / (1 - 2 * self._alpha))
        return x, -self._log_det_at(y)


class NormalizeColumns(FlowBijector):
    """Maps the columns of a table, of any units and bounds, to the real line at scale 1.

    With `l` and `h` the bounds of a column,

        y = x                            unbounded
        y = log(x - l)                   bounded below
        y = -log(h - x)                  bounded above
        y = log(x - l) - log(h - x)      both: the logit
        y_i = log x_i - log x_K          K columns that are positive and sum to h: a simplex

        forward:  z = (y - loc) / scale
        log-det:  sum log |dy/dx| - log scale

    The last column of a simplex, which follows from the others, leaves: the density is that of the
    others, as the one of `tfd.Dirichlet` is. Outside of the bounds, and off the simplex, log-det
    is -inf, so that a density is 0 there.

    Args:
      loc: what `y` is centred at, `[D]`.
      scale: what it is divided by, `[D]`; loc and scale of the columns that leave don't matter.
      low: lower bounds `[D]`, `-inf` where there are none; `None` for none at all.
      high: upper bounds `[D]`, `inf` where there are none; of a column of a simplex, their sum.
      simplexes: the numbers of the columns of each simplex.
      validate_args: see `tfb.Bijector`.
      name: name of the bijector.

    Raises:
      ValueError: if sizes or bounds don't fit, or a scale is not positive.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import bijectors

    # A temperature, and an income.
    columns = bijectors.NormalizeColumns([20.0, 10.0], [5.0, 0.5], low=[-float("inf"), 0.0])
    columns.forward(tf.constant([[25.0, 20_000.0]]))  # [[1.0, -0.193]]
    ```

    #### References

    Aitchison, *The Statistical Analysis of Compositional Data*, 1982 (the log-ratios of a simplex).
    """

    def __init__(
        self,
        loc: Sequence[float],
        scale: Sequence[float],
        *,
        low: Sequence[float] | None = None,
        high: Sequence[float] | None = None,
        simplexes: Sequence[Sequence[int]] = (),
        validate_args: bool = False,
        name: str = "normalize_columns",
    ) -> None:
        parameters = dict(locals())
        size = len(loc)
        least = np.full(size, -np.inf) if low is None else np.asarray(low, np.float64)
        most = np.full(size, np.inf) if high is None else np.asarray(high, np.float64)
        self._simplexes = tuple(tuple(simplex) for simplex in simplexes)
        _check_columns(loc, scale, least, most, self._simplexes)
        self._groups = np.full(size, len(simplexes))
        for number, simplex in enumerate(self._simplexes):
            self._groups[list(simplex)] = number
        composed = self._groups < len(simplexes)
        self._totals = tuple(most[simplex[0]] for simplex in self._simplexes)
        self._has_low = np.isfinite(least) | composed
        self._has_high = np.isfinite(most) & ~composed
        self._low = np.where(np.isfinite(least) & ~composed, least, 0.0)
        self._high = np.where(self._has_high, most, 0.0)
        self._width = np.where(self._has_low & self._has_high, self._high - self._low, 1.0)
        last = [simplex[-1] for simplex in self._simplexes]
        self._kept = np.setdiff1d(np.arange(size), last)
        self._last = np.array([*last, 0])[self._groups]
        self._loc = np.asarray(loc, np.float64)[self._kept]
        self._scale = np.asarray(scale, np.float64)[self._kept]
        is_linear = not (self._has_low.any() or self._has_high.any())
        super().__init__(
            forward_min_event_ndims=1,
            is_constant_jacobian=is_linear,
            event_shape=(size,),
            inverse_event_shape=(len(self._kept),),
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    def _forward_event_shape(self, shape):
        return self._resized(shape, len(self._kept))

    def _inverse_event_shape(self, shape):
        return self._resized(shape, len(self._groups))

    @staticmethod
    def _resized(shape, size):
        return shape if shape.rank is None else tf.TensorShape([*shape[:-1], size])

    def _forward_event_shape_tensor(self, shape):
        return tf.concat([shape[:-1], [len(self._kept)]], axis=0)

    def _inverse_event_shape_tensor(self, shape):
        return tf.concat([shape[:-1], [len(self._groups)]], axis=0)

    def _log_det(self, a, b, dtype):
        """Returns the log-det in terms of `a = log(x - l)` and `b = log(h - x)`, 0 without."""
        constant = np.log(self._width).sum() + np.log(self._totals).sum()
        constant -= np.log(self._scale).sum()
        log_det = tf.constant(constant, dtype)
        return log_det if self.is_constant_jacobian else log_det - tf.reduce_sum(a + b, axis=-1)

    def _forward_and_log_det(self, x):
        a = b = None
        if not self.is_constant_jacobian:
            a = _log_distance(x - tf.constant(self._low, x.dtype), self._has_low, self._low)
            b = _log_distance(tf.constant(self._high, x.dtype) - x, self._has_high, self._high)
        log_det = self._log_det(a, b, x.dtype)
        if not self.is_constant_jacobian:
            log_det = tf.where(self._is_outside(x), tf.constant(-np.inf, x.dtype), log_det)
            x = tf.where(self._has_low | self._has_high, a - b, x)
        if self._simplexes:
            composed = self._groups[self._kept] < len(self._simplexes)
            last = tf.gather(x, self._last[self._kept], axis=-1)
            x = tf.gather(x, self._kept, axis=-1) - tf.where(composed, last, tf.zeros_like(last))
        return (x - self._loc.astype(x.dtype.name)) / self._scale.astype(x.dtype.name), log_det

    def _is_outside(self, x):
        outside = (x < tf.constant(self._low, x.dtype)) & self._has_low
        outside |= (x > tf.constant(self._high, x.dtype)) & self._has_high
        outside = tf.reduce_any(outside, axis=-1)
        for simplex, total in zip(self._simplexes, self._totals, strict=True):
            found = tf.reduce_sum(tf.gather(x, simplex, axis=-1), axis=-1)
            outside |= tf.abs(found - total) > SIMPLEX_TOLERANCE * total
        return outside

    def _inverse_and_log_det(self, z):
        y = z * self._scale.astype(z.dtype.name) + self._loc.astype(z.dtype.name)
        if self.is_constant_jacobian:
            return y, -self._log_det(None, None, z.dtype)
        if self._simplexes:
            y = self._log_parts(y)
        y_low, y_high = (tf.where(bounded, y, tf.zeros_like(y)) for bounded in self._only())
        both = self._has_low & self._has_high
        logit = tf.where(both, y, tf.zeros_like(y))
        log_width = tf.constant(np.log(self._width), y.dtype)
        zeros = tf.zeros_like(y)
        a = y_low + tf.where(both, log_width - tf.nn.softplus(-logit), zeros)
        b = tf.where(both, log_width - tf.nn.softplus(logit), zeros) - y_high
        low, high = (tf.constant(bound, y.dtype) for bound in (self._low, self._high))
        x = tf.where(self._has_low, low + tf.exp(a), tf.where(self._has_high, high - tf.exp(b), y))
        return x, -self._log_det(a, b, z.dtype)

    def _only(self):
        return self._has_low & ~self._has_high, self._has_high & ~self._has_low

    def _log_parts(self, y):
        """Returns all columns, those of a simplex in logarithms, given those that are kept."""
        places = np.full(len(self._groups), len(self._kept))
        places[self._kept] = np.arange(len(self._kept))
        y = tf.concat([y, tf.zeros_like(y[..., :1])], axis=-1)
        y = tf.gather(y, places, axis=-1)
        totals = [
            tf.reduce_logsumexp(tf.gather(y, simplex, axis=-1), axis=-1) - np.log(total)
            for simplex, total in zip(self._simplexes, self._totals, strict=True)
        ]
        totals = tf.stack([*totals, tf.zeros_like(totals[0])], axis=-1)
        return y - tf.gather(totals, self._groups, axis=-1)


def _log_distance(distance, is_bounded, bound):
    """Returns the logarithm of the distance from a bound, 0 where there is none.

    Rounded to the bound, a value counts as half of the distance to the next one.
    """
    dtype = distance.dtype
    least = np.maximum(np.spacing(np.abs(bound).astype(dtype.name)) / 2, np.finfo(dtype.name).tiny)
    distance = tf.where(is_bounded, distance, tf.ones_like(distance))
    return tf.math.log(tf.maximum(distance, tf.constant(least, dtype)))


def _check_columns(loc, scale, low, high, simplexes):
    """Raises an error if there is no such table."""
    size = len(loc)
    if not size or any(np.shape(value) != (size,) for value in (scale, low, high)):
        raise ValueError(
            "`loc`, `scale`, `low` and `high` must have a number for each column. "
            f"Received: shapes {[np.shape(value) for value in (loc, scale, low, high)]}."
        )
    if not (
        np.all(np.isfinite(loc)) and np.all(np.isfinite(scale)) and np.all(np.greater(scale, 0))
    ):
        raise ValueError(
            "`loc` must be finite, `scale` positive and finite. "
            f"Received: loc={list(loc)}, scale={list(scale)}."
        )
    if not np.all(low < high):
        raise ValueError(
            f"`low` must be less than `high`. Received: low={list(low)}, high={list(high)}."
        )
    members = [column for simplex in simplexes for column in simplex]
    if (
        any(len(simplex) < 2 for simplex in simplexes)
        or len(set(members)) < len(members)
        or not all(0 <= column < size for column in members)
        or any(
            len({*high[list(simplex)]}) > 1 or not 0 < high[simplex[0]] < np.inf
            for simplex in simplexes
        )
    ):
        raise ValueError(
            "`simplexes` must be lists of two or more columns, each in one of them, whose `high` "
            f"is their sum. Received: simplexes={simplexes}, high={list(high)}."
        )
