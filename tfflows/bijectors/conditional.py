"""What conditional layers share: a context, its shape, and its batch dimensions."""

from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfflows.evaluation.flow_bijector import FlowBijector
from tfflows.numerics.parameters import as_context
from tfflows.numerics.shapes import with_shape
from tfflows.types import Network, TensorLike


class Conditional(FlowBijector):
    """Base of the layers whose network may take a context.

    Args:
      network: the network, which knows the shape of the context if `build_network` built it.
      event_shape: shape of an event, fully known.
      conditional: whether the network takes a context, which `tfflows.condition` binds.
      context: the context itself, `[..., *context_event]`; its batch dimensions are those of the
        bijector.
      context_ndims: rank of the context's events; by default that of `event_shape`.
      **kwargs: other arguments of `FlowBijector`.
    """

    def __init__(
        self,
        network: Network,
        event_shape: list[int],
        *,
        conditional: bool,
        context: TensorLike | None,
        context_ndims: int | None,
        **kwargs: Any,
    ) -> None:
        self._shape = event_shape
        self._context = as_context(context, kwargs.get("dtype"))
        if context is not None:  # For TFP, whose batch shapes follow from the parameters.
            kwargs["parameters"] = {**kwargs["parameters"], "context": self._context}
        self._context_ndims = len(event_shape) if context_ndims is None else context_ndims
        self._network = self._track_network(network)
        super().__init__(
            forward_min_event_ndims=len(event_shape), event_shape=tuple(event_shape), **kwargs
        )

    @classmethod
    def _parameter_properties(cls, dtype):
        def event_ndims(self, x_event_ndims):
            return self._context_ndims + x_event_ndims - self.forward_min_event_ndims

        return {"context": tfp.util.ParameterProperties(event_ndims=event_ndims)}

    @property
    def network(self) -> Network:
        """What predicts the parameters."""
        return self._network

    @property
    def context_shape(self) -> list[int | None]:
        """Shape of an event of the context, `None` where any size will do."""
        return context_shape_of(self._network, self._context_ndims)

    def _bound_context(self):
        """Returns the context, which has to be there if the layer is conditional."""
        check_bound(self)
        return self._context

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

    def _flat_context(self, x):
        """Returns the context for events `x`, `[N, *context_event]`, in a list; empty if none."""
        if (context := self._bound_context()) is None:
            return []
        event = context.shape[-self._context_ndims :]
        batch = tf.shape(x)[: -len(self._shape)]
        context = tf.broadcast_to(context, tf.concat([batch, event], axis=0))
        return [tf.reshape(context, [-1, *event])]


def check_bound(layer: FlowBijector) -> None:
    """Raises a `ValueError` if a layer is conditional and has no context."""
    if layer.parameters.get("conditional") and layer.parameters.get("context") is None:
        raise ValueError(
            f"`{type(layer).__name__}` named {layer.name!r} is conditional and has no context: "
            "bind one with `tfflows.condition(model, context)`."
        )


def context_shape_of(network: Network | None, ndims: int) -> list[int | None]:
    """Returns the shape of the contexts that a network takes, as far as it is known.

    Args:
      network: a callable; `None` if it is not known.
      ndims: rank of an event of the context. Images may have any multiple of the sides.
    """
    shape = getattr(network, "context_shape", None)
    if shape is None or len(shape) != ndims:
        return [None] * ndims
    return [*shape] if ndims == 1 else [None] * (ndims - 1) + [shape[-1]]
