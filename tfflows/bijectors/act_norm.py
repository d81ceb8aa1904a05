"""`ActNorm`: an affine map per channel, initialised from data."""

import warnings
from typing import Self

import tensorflow as tf
import tensorflow_probability as tfp

from tfflows.evaluation.constants import of_weights
from tfflows.evaluation.flow_bijector import FlowBijector
from tfflows.numerics.parameters import as_data, as_event_shape, as_parameter, check_finite
from tfflows.types import DTypeLike, Shape, TensorLike


class ActNorm(FlowBijector):
    """Activation normalisation, Kingma and Dhariwal (2018), section 3.1.

        forward:  y = exp(log_scale) * (x + shift)
        inverse:  x = exp(-log_scale) * y - shift
        log-det:  S * sum_c log_scale[c],  S the number of positions (H W for images)

    Args:
      shift: `[..., C]`.
      log_scale: `[..., C]`.
      event_ndims: rank of an event, whose last dimension is the channel: 3 for `[H, W, C]`.
      validate_args: see `tfb.Bijector`.
      name: name of the bijector.

    #### Example

    ```python
    import tensorflow as tf
    import tfflows

    x = 3. + 2. * tf.random.normal([100, 8, 8, 3])
    norm = tfflows.bijectors.ActNorm.trainable([None, None, 3])
    norm.initialize(x)
    y = norm.forward(x)  # mean 0 and variance 1 in every channel
    ```

    #### References

    Kingma, Dhariwal, *Glow: Generative Flow with Invertible 1x1 Convolutions*, NeurIPS 2018,
    arXiv:1807.03039.
    """

    def __init__(
        self,
        shift: TensorLike,
        log_scale: TensorLike,
        *,
        event_ndims: int = 3,
        validate_args: bool = False,
        name: str = "act_norm",
    ) -> None:
        parameters = dict(locals())
        self._shift = as_parameter(shift)
        self._log_scale = as_parameter(log_scale)
        channels = self._shift.shape[-1]
        if self._log_scale.shape[-1] != channels:
            raise ValueError(
                "`shift` and `log_scale` must have the same number of channels. Received: "
                f"shift.shape={self._shift.shape}, log_scale.shape={self._log_scale.shape}."
            )
        super().__init__(
            forward_min_event_ndims=event_ndims,
            event_shape=(None,) * (event_ndims - 1) + (channels,),
            is_constant_jacobian=True,
            dtype=self._shift.dtype,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    @classmethod
    def trainable(
        cls, event_shape: Shape, *, dtype: DTypeLike = tf.float32, name: str = "act_norm"
    ) -> Self:
        """Returns an `ActNorm` with variables, the identity until `initialize`.

        Args:
          event_shape: `[..., C]`; sizes before the last may be `None`.
          dtype: dtype of the variables.
          name: name of the bijector.
        """
        event_shape = as_event_shape(event_shape)
        channels = event_shape[-1:]
        return cls(
            shift=tf.Variable(tf.zeros(channels, dtype), name=f"{name}_shift"),
            log_scale=tf.Variable(tf.zeros(channels, dtype), name=f"{name}_log_scale"),
            event_ndims=len(event_shape),
            name=name,
        )

    @classmethod
    def _parameter_properties(cls, dtype):
        vector = tfp.util.ParameterProperties(event_ndims=1)
        return {"shift": vector, "log_scale": vector}

    def initialize(self, x: TensorLike, epsilon: float = 1e-6) -> None:
        """Sets the variables so that `forward(x)` has mean 0 and variance 1 in every channel.

        A channel that is constant in the batch has no such scale. It gets that of the channel which
        varies most, or 1, and a warning names it.

        Args:
          x: a batch, `[..., C]`, in eager mode.
          epsilon: a channel is constant if its standard deviation is at most `epsilon` times the
            largest one, or times the channel's largest value.

        Raises:
          ValueError: if the parameters are not variables, or a row of the batch is not finite.
        """
        if not isinstance(self._shift, tf.Variable) or not isinstance(self._log_scale, tf.Variable):
            raise ValueError(
                "`ActNorm.initialize` needs `shift` and `log_scale` to be `tf.Variable`s. "
                f"Received: shift={self._shift!r}, log_scale={self._log_scale!r}."
            )
        x = as_data(x, self.dtype)
        check_finite(x, f"what reaches {self.name!r}")
        axes = list(range(x.shape.rank - 1))
        # Seen from one value: the mean of many equal ones is not that value, but for rounding.
        first = x[(0,) * len(axes)]
        size, spread = (tf.reduce_max(tf.abs(v), axes) for v in (x, x - first))
        mean, variance = tf.nn.moments(tf.math.divide_no_nan(x - first, spread), axes)
        mean, deviation = first + spread * mean, spread * tf.sqrt(variance)
        most = tf.reduce_max(deviation)
        constant = deviation <= epsilon * tf.maximum(size, most)
        if tf.reduce_any(constant):
            most = tf.where(tf.reduce_all(constant), tf.ones_like(most), most)
            channels = tf.where(constant)[:, 0].numpy().tolist()
            warnings.warn(
                f"Channel(s) {', '.join(map(str, channels[:5]))}, {len(channels)} in all, of what "
                f"reaches {self.name!r} are constant in the batch. They get the scale of the "
                f"channel that varies most, {1 / most:.3g}. What is constant in all data has no "
                "density: leave it out or add noise.",
                stacklevel=2,
            )
            deviation = tf.where(constant, most, deviation)
        self._shift.assign(-mean)
        self._log_scale.assign(-tf.math.log(deviation))

    def _over_event(self, parameter):
        """Reshapes `[..., C]` to `[..., 1, 1, C]`, so that batch meets batch dimensions."""
        ones = [tf.newaxis] * (self.forward_min_event_ndims - 1)
        return tf.convert_to_tensor(parameter)[..., *ones, :]

    def _log_det(self, x):
        shape = tf.shape(x)[-self.forward_min_event_ndims : -1]
        positions = tf.cast(tf.reduce_prod(shape), x.dtype)
        return positions * self._sum_of_log_scales()

    @of_weights
    def _sum_of_log_scales(self):
        return tf.reduce_sum(self._log_scale, axis=-1)

    @of_weights
    def _scale(self):
        return tf.exp(self._over_event(self._log_scale))

    @of_weights
    def _inverse_scale(self):
        return tf.exp(-self._over_event(self._log_scale))

    def _forward_and_log_det(self, x):
        return self._scale() * (x + self._over_event(self._shift)), self._log_det(x)

    def _inverse_and_log_det(self, y):
        return self._inverse_scale() * y - self._over_event(self._shift), -self._log_det(y)
