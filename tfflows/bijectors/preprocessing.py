"""Image preprocessing as bijectors: from dequantised pixels to the scale that networks like."""

import math

import tensorflow as tf

from tfflows.evaluation.flow_bijector import FlowBijector


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
