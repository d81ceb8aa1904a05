"""`AffineCoupling`: one half of an event scales and shifts the other."""

import math

import tensorflow as tf

from tfflows.bijectors.coupling import Coupling

LEAST_LOG_SCALE = math.log(1e-9)

LOG_SCALES = {
    # Names of the bounded (and one unbounded) maps from a network's output h to log s.
    "tanh": lambda h: 2 * tf.tanh(h / 2),  # |log s| < 2; Hoogeboom et al. (2020).
    # s = sigmoid(h + 2) < 1; Glow. Below the least it would underflow to 0, which has no inverse.
    "sigmoid": lambda h: tf.maximum(-tf.nn.softplus(-(h + 2)), LEAST_LOG_SCALE),
    "exp": lambda h: h,  # Unbounded; RealNVP scales a tanh instead.
}


class AffineCoupling(Coupling):
    """Affine coupling layer, Dinh et al. (2017), equations 7 and 8.

    The event is split into `a` and `b`; with `(t, h) = network(a)` and `log s` from `scale`,

        forward:  (a, b) -> (a, s(h) * b + t)
        inverse:  (a, y) -> (a, (y - t) / s(h))
        log-det:  sum log s(h)

    The network returns twice as many channels as `b` has: first `t`, then `h`. With `scale=None`
    the coupling is additive (NICE) and the network returns `t` only.

    Args:
      network: see `Coupling`.
      event_shape: shape of an event, fully known.
      split: `"channel"` or `"checkerboard"`, see `Coupling`.
      split_size: number of channels of `a`, for `split="channel"`.
      reverse: swaps the roles of `a` and `b`: the last part moves the first.
      scale: `"tanh"` (`log s = 2 tanh(h/2)`), `"sigmoid"` (`s = sigmoid(h + 2)`, at least 1e-9),
        `"exp"` (`log s = h`, which over- and underflows for large `h`), a callable that maps `h` to
        `log s`, or `None`. A callable with an attribute `num_inputs` (`MexicanHatScale`) gets that
        many channels of `h` for each of `b`.
      conditional: whether the network takes a context, which `tfflows.condition` binds.
      context: the context itself, see `Coupling`.
      context_ndims: rank of the context's events; by default that of `event_shape`.
      dtype: dtype of the events.
      validate_args: see `tfb.Bijector`.
      name: name of the bijector.

    Raises:
      ValueError: if the network is not built, its output has the wrong shape, or the context is
        missing.

    #### References

    Dinh, Sohl-Dickstein, Bengio, *Density Estimation using Real NVP*, ICLR 2017, arXiv:1605.08803.
    """

    def __init__(
        self,
        network,
        event_shape,
        split="channel",
        split_size=None,
        reverse=False,
        scale="tanh",
        conditional=False,
        context=None,
        context_ndims=None,
        dtype=tf.float32,
        validate_args=False,
        name="affine_coupling",
    ):
        parameters = dict(locals())
        if scale is not None and not callable(scale) and scale not in LOG_SCALES:
            raise ValueError(
                f"`scale` must be None, a callable or one of {sorted(LOG_SCALES)}. "
                f"Received: scale={scale!r}."
            )
        self._log_scale = LOG_SCALES.get(scale, scale) if isinstance(scale, str) else scale
        super().__init__(
            network,
            event_shape,
            1 if scale is None else 1 + getattr(scale, "num_inputs", 1),
            split=split,
            split_size=split_size,
            reverse=reverse,
            conditional=conditional,
            context=context,
            context_ndims=context_ndims,
            dtype=dtype,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    def _move(self, b, h, inverse):
        if self._log_scale is None:
            return (b - h if inverse else b + h), tf.zeros_like(h)
        channels = b.shape[-1]
        shift, h = tf.split(h, [channels, h.shape[-1] - channels], axis=-1)
        log_scale = self._log_scale(h)
        if inverse:
            return tf.exp(-log_scale) * (b - shift), -log_scale
        return tf.exp(log_scale) * b + shift, log_scale
