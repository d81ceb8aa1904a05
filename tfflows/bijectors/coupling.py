"""`Coupling`: what all coupling layers share, the split, the conditioner and its context."""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfflows.evaluation.flow_bijector import FlowBijector
from tfflows.evaluation.network_calls import call_network
from tfflows.numerics.parameters import as_context
from tfflows.numerics.shapes import with_shape


class Coupling(FlowBijector):
    """Base of the layers in which one part of an event moves the other, Dinh et al. (2015).

    The event is split into `a` and `b`; with `h = network(a)`,

        forward:  (a, b) -> (a, g(b; h)),   g monotonic in every entry of b
        log-det:  sum log g'(b; h)

    A subclass writes `_move(b, h, inverse)`, which returns `g(b; h)`, or its inverse, and
    `log g'(b; h)`, or its negative, for every entry, and says how many parameters `h` an entry has.

    Args:
      network: a callable, for instance a Keras layer that is built: `network(a)`, or
        `network(a, context)` if `conditional`. It sees one batch dimension.
      event_shape: shape of an event, fully known.
      num_parameters: channels of `h` for each channel of `b`.
      split: `"channel"`: `a` is the first part of the last axis; `"checkerboard"`: `a` is every
        other pixel, the network sees the image with the pixels of `b` set to zero and returns
        parameters for all.
      split_size: number of channels of `a`, for `split="channel"`; by default half, rounded down.
      reverse: swaps the roles of `a` and `b`: the last part moves the first.
      conditional: whether the network takes a context, which `tfflows.condition` binds.
      context: the context itself, `[..., *context_event]`; its batch dimensions are those of the
        bijector.
      context_ndims: rank of the context's events; by default that of `event_shape`.
      **kwargs: other arguments of `FlowBijector`.

    Raises:
      ValueError: if the network is not built, its output has the wrong shape, or the context is
        missing.

    #### References

    Dinh, Krueger, Bengio, *NICE: Non-linear Independent Components Estimation*, ICLR 2015 workshop,
    arXiv:1410.8516.
    """

    is_unit = True

    def __init__(
        self,
        network,
        event_shape,
        num_parameters,
        *,
        split="channel",
        split_size=None,
        reverse=False,
        conditional=False,
        context=None,
        context_ndims=None,
        **kwargs,
    ):
        self._shape = tf.TensorShape(event_shape).as_list()
        self._num_parameters = num_parameters
        self._split_size = self._shape[-1] // 2 if split_size is None else split_size
        self._validate_split(split)
        self._mask = _checkerboard(self._shape, reverse) if split == "checkerboard" else None
        self._reverse = reverse
        self._conditional = conditional
        self._context = as_context(context, kwargs.get("dtype"))
        if context is not None:  # For TFP, whose batch shapes follow from the parameters.
            kwargs["parameters"] = {**kwargs["parameters"], "context": self._context}
        self._context_ndims = len(self._shape) if context_ndims is None else context_ndims
        self._network = self._track_network(network)
        super().__init__(
            forward_min_event_ndims=len(self._shape),
            event_shape=tuple(self._shape),
            **kwargs,
        )

    def _validate_split(self, split):
        if split not in ("channel", "checkerboard"):
            raise ValueError(
                f'`split` must be "channel" or "checkerboard". Received: split={split!r}.'
            )
        if split == "channel" and not 0 < self._split_size < self._shape[-1]:
            raise ValueError(
                "`split_size` must leave a channel on both sides. "
                f"Received: split_size={self._split_size}, event_shape={self._shape}."
            )

    @classmethod
    def _parameter_properties(cls, dtype):
        def event_ndims(self, x_event_ndims):
            return self._context_ndims + x_event_ndims - self.forward_min_event_ndims

        return {"context": tfp.util.ParameterProperties(event_ndims=event_ndims)}

    @property
    def network(self):
        """The conditioner."""
        return self._network

    def _move(self, b, h, inverse):
        """Moves `b` by the parameters `h`; returns the result and the log-det of every entry."""
        raise NotImplementedError(f"{type(self).__name__} moves nothing.")

    def _parameters_of(self, a, num_moved):
        """Evaluates the network for `num_moved` channels."""
        if self._conditional and self._context is None:
            raise ValueError(
                f"`{type(self).__name__}` named {self.name!r} is conditional and has no context: "
                "bind one with `tfflows.condition(model, context)`."
            )
        output = call_network(
            self._network, a, len(self._shape), self._context, self._context_ndims
        )
        expected = num_moved * self._num_parameters
        if output.shape[-1] != expected:
            raise ValueError(
                f"`network` of `{type(self).__name__}` must return {expected} channels to move "
                f"{num_moved}. Received: output.shape={tuple(output.shape)}."
            )
        return tf.cast(output, a.dtype)  # A network may compute in lower precision.

    def _apply(self, x, inverse):
        """Moves `b`; returns the event and the log-det."""
        x = self._broadcast_over_context(x)
        event_axes = list(range(-len(self._shape), 0))
        if self._mask is not None:
            mask = tf.constant(self._mask, x.dtype)
            h = self._parameters_of(x * mask, self._shape[-1])
            moved, log_det = self._move(x, h, inverse)
            y = mask * x + (1 - mask) * moved
            return y, tf.reduce_sum((1 - mask) * log_det, event_axes)
        size = self._split_size
        if self._reverse:
            b, a = tf.split(x, [self._shape[-1] - size, size], axis=-1)
        else:
            a, b = tf.split(x, [size, self._shape[-1] - size], axis=-1)
        b, log_det = self._move(b, self._parameters_of(a, b.shape[-1]), inverse)
        parts = [b, a] if self._reverse else [a, b]
        return tf.concat(parts, axis=-1), tf.reduce_sum(log_det, event_axes)

    def _forward_and_log_det(self, x):
        return self._apply(x, inverse=False)

    def _inverse_and_log_det(self, y):
        return self._apply(y, inverse=True)

    def _broadcast_over_context(self, x):
        """Gives `x` the batch dimensions of the context, where it has fewer."""
        if self._context is None:
            return x
        have, given = x.shape[: -len(self._shape)], self._context.shape[: -self._context_ndims]
        batch = tf.broadcast_static_shape(have, given)
        if batch == have and given.is_fully_defined():
            return x
        if batch.is_fully_defined():
            return tf.broadcast_to(x, batch + self._shape)
        dynamic = tf.broadcast_dynamic_shape(
            tf.shape(x)[: -len(self._shape)], tf.shape(self._context)[: -self._context_ndims]
        )
        x = tf.broadcast_to(x, tf.concat([dynamic, self._shape], axis=0))
        return with_shape(x, batch + self._shape)


def _checkerboard(shape, reverse):
    """Returns `[H, W, 1]` with 1 where row + column is even (odd if `reverse`)."""
    if len(shape) != 3:
        raise ValueError(
            f'split="checkerboard" needs events [H, W, C]. Received: event_shape={shape}.'
        )
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return ((rows + columns + reverse) % 2 == 0).astype(np.float32)[..., None]
