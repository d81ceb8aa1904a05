"""What `Coupling` and `Autoregressive` share: a network, its context, and what it predicts."""

from typing import Any

import tensorflow as tf

from tfflows.bijectors.conditional import Conditional
from tfflows.bijectors.transforms import Transform, TransformLike, as_transform
from tfflows.evaluation.network_calls import call_network
from tfflows.numerics.parameters import as_known_shape
from tfflows.types import KnownShape, Network, TensorLike


class Predicted(Conditional):
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
    guidable = ("network",)

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
        self._transform = as_transform(transform)
        super().__init__(
            network,
            as_known_shape(event_shape, "event_shape"),
            conditional=conditional,
            context=context,
            context_ndims=context_ndims,
            **kwargs,
        )

    @property
    def transform(self) -> Transform:
        """What the parameters do to an entry."""
        return self._transform

    def _predict(self, x):
        """Returns the network's output, in the dtype of `x`."""
        context, ndims = self._bound_context(), len(self._shape)
        output = call_network(self._network, x, ndims, context, self._context_ndims)
        return tf.cast(output, x.dtype)  # A network may compute in lower precision.
