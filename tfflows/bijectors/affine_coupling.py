"""`AffineCoupling`: one half of an event moves the other."""

import numpy as np
import tensorflow as tf

from tfflows.bijectors._conditioner import call_network
from tfflows.bijectors.flow_bijector import FlowBijector

LOG_SCALES = {
    # Names of the bounded (and one unbounded) maps from a network's output h to log s.
    "tanh": lambda h: 2 * tf.tanh(h / 2),  # |log s| < 2; Hoogeboom et al. (2020).
    "sigmoid": lambda h: -tf.nn.softplus(-(h + 2)),  # s = sigmoid(h + 2) < 1; Glow.
    "exp": lambda h: h,  # Unbounded; RealNVP scales a tanh instead.
}


class AffineCoupling(FlowBijector):
    """Affine coupling layer, Dinh et al. (2017), equations 7 and 8.

    The event is split into `a` and `b`; with `(t, h) = network(a)` and `log s` from `scale`,

        forward:  (a, b) -> (a, s(h) * b + t)
        inverse:  (a, y) -> (a, (y - t) / s(h))
        log-det:  sum log s(h)

    With `split="channel"`, `a` is the first part of the last axis (`split_size` entries, by default
    half, rounded down) and the network returns twice as many channels as `b` has: first `t`, then
    `h`. With `split="checkerboard"`, `a` is every other pixel; the network sees the image with the
    pixels of `b` set to zero and returns twice as many channels as the image. With `scale=None` the
    coupling is additive (NICE) and the network returns `t` only.

    Args:
      network: a callable, for instance a Keras layer that is built: `network(a)`, or
        `network(a, context)` if `conditional`. It sees one batch dimension.
      event_shape: shape of an event, fully known.
      split: `"channel"` or `"checkerboard"`.
      split_size: number of channels of `a`, for `split="channel"`.
      reverse: swaps the roles of `a` and `b`: the last part moves the first.
      scale: `"tanh"` (`log s = 2 tanh(h/2)`), `"sigmoid"` (`s = sigmoid(h + 2)`), `"exp"`
        (`log s = h`), a callable that maps `h` to `log s`, or `None`.
      conditional: whether the network takes a context, which `tfflows.condition` binds.
      context: the context itself, `[..., *context_event]`; its batch dimensions are those of the
        bijector.
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
        self._shape = tf.TensorShape(event_shape).as_list()
        self._split_size = self._shape[-1] // 2 if split_size is None else split_size
        self._validate(split, scale)
        self._mask = _checkerboard(self._shape, reverse) if split == "checkerboard" else None
        self._reverse = reverse
        self._log_scale = LOG_SCALES.get(scale, scale)
        self._conditional = conditional
        self._context = context
        self._context_ndims = len(self._shape) if context_ndims is None else context_ndims
        self._network = self._track_network(network)
        super().__init__(
            forward_min_event_ndims=len(self._shape),
            event_shape=tuple(self._shape),
            batch_shape=() if context is None else context.shape[: -self._context_ndims],
            dtype=dtype,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    def _validate(self, split, scale):
        if split not in ("channel", "checkerboard"):
            raise ValueError(
                f'`split` must be "channel" or "checkerboard". Received: split={split!r}.'
            )
        if split == "channel" and not 0 < self._split_size < self._shape[-1]:
            raise ValueError(
                "`split_size` must leave a channel on both sides. "
                f"Received: split_size={self._split_size}, event_shape={self._shape}."
            )
        if scale is not None and not callable(scale) and scale not in LOG_SCALES:
            raise ValueError(
                f"`scale` must be None, a callable or one of {sorted(LOG_SCALES)}. "
                f"Received: scale={scale!r}."
            )

    @property
    def network(self):
        """The conditioner."""
        return self._network

    def _shift_and_log_scale(self, a, num_moved):
        """Evaluates the network; `num_moved` is the number of channels that are transformed."""
        if self._conditional and self._context is None:
            raise ValueError(
                f"`{type(self).__name__}` named {self.name!r} is conditional and has no context: "
                "bind one with `tfflows.condition(model, context)`."
            )
        output = call_network(
            self._network, a, len(self._shape), self._context, self._context_ndims
        )
        expected = num_moved * (1 if self._log_scale is None else 2)
        if output.shape[-1] != expected:
            raise ValueError(
                f"`network` of `{type(self).__name__}` must return {expected} channels to move "
                f"{num_moved}. Received: output.shape={tuple(output.shape)}."
            )
        output = tf.cast(output, a.dtype)  # A network may compute in lower precision.
        if self._log_scale is None:
            return output, tf.zeros_like(output)
        shift, h = tf.split(output, 2, axis=-1)
        return shift, self._log_scale(h)

    def _apply(self, x, affine):
        """Moves `b` by `affine(b, t, log_s)`; returns the event and the sum of `log_s`."""
        event_axes = list(range(-len(self._shape), 0))
        if self._mask is not None:
            mask = tf.constant(self._mask, x.dtype)
            shift, log_scale = self._shift_and_log_scale(x * mask, self._shape[-1])
            log_scale *= 1 - mask
            y = mask * x + (1 - mask) * affine(x, shift, log_scale)
            return y, tf.reduce_sum(log_scale, event_axes)
        size = self._split_size
        if self._reverse:
            b, a = tf.split(x, [self._shape[-1] - size, size], axis=-1)
        else:
            a, b = tf.split(x, [size, self._shape[-1] - size], axis=-1)
        shift, log_scale = self._shift_and_log_scale(a, b.shape[-1])
        b = affine(b, shift, log_scale)
        if self._reverse:
            a, b = b, a
        return tf.concat([a, b], axis=-1), tf.reduce_sum(log_scale, event_axes)

    def _forward_and_log_det(self, x):
        x = self._broadcast_over_context(x)
        return self._apply(x, lambda b, shift, log_scale: tf.exp(log_scale) * b + shift)

    def _inverse_and_log_det(self, y):
        y = self._broadcast_over_context(y)
        x, log_det = self._apply(y, lambda b, shift, log_scale: tf.exp(-log_scale) * (b - shift))
        return x, -log_det

    def _broadcast_over_context(self, x):
        """Gives `x` the batch dimensions of the context, where it has fewer."""
        if self._context is None:
            return x
        batch = tf.broadcast_static_shape(
            x.shape[: -len(self._shape)], self._context.shape[: -self._context_ndims]
        )
        if batch == x.shape[: -len(self._shape)]:
            return x
        return tf.broadcast_to(x, batch + self._shape)


def _checkerboard(shape, reverse):
    """Returns `[H, W, 1]` with 1 where row + column is even (odd if `reverse`)."""
    if len(shape) != 3:
        raise ValueError(
            f'split="checkerboard" needs events [H, W, C]. Received: event_shape={shape}.'
        )
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return ((rows + columns + reverse) % 2 == 0).astype(np.float32)[..., None]
