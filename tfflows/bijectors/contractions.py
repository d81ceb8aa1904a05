"""Elementwise contractions onto an interval, Liao and He (2021), section 6.2."""

import math
from typing import Any

import numpy as np
import tensorflow as tf

from tfflows.evaluation.flow_bijector import FlowBijector


class _Contraction(FlowBijector):
    """An elementwise bijector from the real line onto an open interval."""

    def __init__(self, event_ndims: int, parameters: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(forward_min_event_ndims=event_ndims, parameters=parameters, **kwargs)

    def _sum(self, log_slopes):
        return tf.reduce_sum(log_slopes, list(range(-self.forward_min_event_ndims, 0)))


class TanhContraction(_Contraction):
    """Hyperbolic tangent, Liao and He (2021), section 6.2.

        forward:  y = tanh(x),  onto (-1, 1)
        inverse:  x = atanh(y)
        log-det:  sum 2 (log 2 - |x| - softplus(-2 |x|)), accurate where `1 - tanh(x)^2` is 0

    The slope is at most 1. An image rounded to 1 has lost its `x`: `inverse` takes values outside
    the largest representable interval for its ends, so that samples of a flow stay finite.

    Args:
      event_ndims: rank of an event.
      validate_args: see `tfb.Bijector`.
      name: name of the bijector.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import bijectors

    y = bijectors.TanhContraction(event_ndims=0).forward(tf.constant([-5.0, 0.0, 5.0]))
    ```

    #### References

    Liao, He, *Jacobian Determinant of Normalizing Flows*, 2021, arXiv:2102.06539.
    """

    def __init__(
        self, *, event_ndims: int = 3, validate_args: bool = False, name: str = "tanh_contraction"
    ) -> None:
        super().__init__(event_ndims, dict(locals()), validate_args=validate_args, name=name)

    def _forward_and_log_det(self, x):
        size = tf.abs(x)
        log_slopes = 2 * (math.log(2) - size - tf.nn.softplus(-2 * size))
        return tf.tanh(x), self._sum(log_slopes)

    def _inverse_and_log_det(self, y):
        edge = 1 - np.finfo(y.dtype.as_numpy_dtype).epsneg
        y = tf.clip_by_value(y, -edge, edge)
        # Both factors are exact near the ends of the interval, 1 - y^2 is not.
        log_slopes = tf.math.log1p(-y) + tf.math.log1p(y)
        return tf.atanh(y), -self._sum(log_slopes)


class NormalCDFContraction(_Contraction):
    """Distribution function of the normal, Liao and He (2021), section 6.2.

        forward:  y = Phi(x),  onto (0, 1)
        inverse:  x = Phi^-1(y)
        log-det:  -sum (x^2 + log(2 pi)) / 2

    The slope is at most `1 / sqrt(2 pi) = 0.399`. Images near 0 keep their precision and those near
    1 lose it. `inverse` takes values outside the largest representable interval for its ends, so
    that samples of a flow stay finite.

    Args:
      event_ndims: rank of an event.
      validate_args: see `tfb.Bijector`.
      name: name of the bijector.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import bijectors

    y = bijectors.NormalCDFContraction(event_ndims=0).forward(tf.constant([-5.0, 0.0, 5.0]))
    ```

    #### References

    Liao, He, *Jacobian Determinant of Normalizing Flows*, 2021, arXiv:2102.06539.
    """

    def __init__(
        self,
        *,
        event_ndims: int = 3,
        validate_args: bool = False,
        name: str = "normal_cdf_contraction",
    ) -> None:
        super().__init__(event_ndims, dict(locals()), validate_args=validate_args, name=name)

    def _log_det(self, x):
        return -self._sum((x**2 + math.log(2 * math.pi)) / 2)

    def _forward_and_log_det(self, x):
        return tf.math.erfc(-x * math.sqrt(0.5)) / 2, self._log_det(x)

    def _inverse_and_log_det(self, y):
        info = np.finfo(y.dtype.as_numpy_dtype)
        x = tf.math.ndtri(tf.clip_by_value(y, info.tiny, 1 - info.epsneg))
        return x, -self._log_det(x)
