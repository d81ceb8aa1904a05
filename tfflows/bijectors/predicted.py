"""What `Coupling` and `Autoregressive` share: a network, its context, and what it predicts."""

from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfflows.bijectors.transforms import Transform, TransformLike, as_transform
from tfflows.evaluation.flow_bijector import FlowBijector
from tfflows.evaluation.network_calls import call_network
from tfflows.numerics.parameters import as_context
from tfflows.numerics.shapes import with_shape
from tfflows.types import KnownShape, Network, TensorLike


class Predicted(FlowBijector):
    """Base of the layers whose entries are moved by parameters that a network predicts.

    Args:
      network: a callable, for instance a Keras layer that is built: `network(x)`, or
        `network(x, context)` if `conditional`. It sees one batch dimension.
      event_shape: shape of an event, fully known.
      transform: a `transforms.Transform`, or a function, see `transforms.Scalar`.
      conditional: whether the network takes a context, which `tfflows.condition` binds.
      context: the context itself, `[..., *context_event]`; its batch dimensions are those of the
        bijector.
      context_ndims: rank of the context's events; by default that of `event_shape`.
      **kwargs: other arguments of `FlowBijector`.
    """

    is_unit = True

    def __init__(
        self,
        network: Network,
        event_shape: KnownShape,
        transform: TransformLike,
        *,
        conditional: bool,
        context: TensorLike | None,
        context_ndims: int | None,
        **kwargs: Any,
    ) -> None:
        self._shape = tf.TensorShape(event_shape).as_list()
        self._transform = as_transform(transform)
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
    def transform(self) -> Transform:
        """What the parameters do to an entry."""
        return self._transform

    def _predict(self, x):
        """Returns the network's output, in the dtype of `x`."""
        if self._conditional and self._context is None:
            raise ValueError(
                f"`{type(self).__name__}` named {self.name!r} is conditional and has no context: "
                "bind one with `tfflows.condition(model, context)`."
            )
        ndims = len(self._shape)
        output = call_network(self._network, x, ndims, self._context, self._context_ndims)
        return tf.cast(output, x.dtype)  # A network may compute in lower precision.

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
