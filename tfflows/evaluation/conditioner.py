"""How a bijector calls its conditioner network."""

import copy

import keras
import tensorflow as tf

from tfflows._keras import NetworkVariables
from tfflows.evaluation.network_calls import apply
from tfflows.numerics.shapes import with_shape


def call_network(network, x, event_ndims, context=None, context_ndims=None):
    """Returns `network(x)` or `network(x, context)` for any batch shape.

    Networks see exactly one batch dimension: that of `x`, flattened. The batch dimensions of the
    context broadcast against those of `x`. A Keras layer is told whether it is called in training,
    and what it says beside its output is heard, see `calling_networks`.

    Args:
      network: a callable.
      x: `[..., *event]`, with `event_ndims` event dimensions.
      event_ndims: Python `int`.
      context: `None`, or `[..., *context_event]`.
      context_ndims: number of event dimensions of the context.
    """
    batch, event = tf.shape(x)[:-event_ndims], x.shape[-event_ndims:]
    flat = tf.reshape(x, [-1, *event])
    if context is None:
        output = apply(network, flat)
    else:
        context_event = context.shape[-context_ndims:]
        context = tf.broadcast_to(context, tf.concat([batch, context_event], axis=0))
        output = apply(network, flat, tf.reshape(context, [-1, *context_event]))
    if x.shape.rank == event_ndims + 1:
        return output
    output_event = output.shape[1:]
    result = tf.reshape(output, tf.concat([batch, output_event], axis=0))
    return with_shape(result, x.shape[:-event_ndims] + output_event)


class NetworkModule(tf.Module):
    """A `tf.Module` around a network, and with no other state, whose variables it has.

    Args:
      network: a callable; a Keras layer has to be built.

    Raises:
      ValueError: if it is a layer that is not built.
    """

    def __init__(self, network):
        super().__init__(name=getattr(network, "name", None))
        if isinstance(network, keras.layers.Layer):
            if not network.built:
                raise ValueError(
                    "`network` must be built, so that its variables are known. "
                    f"Received: network={network!r}, network.built=False."
                )
            self._network_variables = NetworkVariables(network)
        self._network = network

    def __deepcopy__(self, memo):
        return type(self)(copy.deepcopy(self._network, memo))

    @property
    def network(self):
        """The network."""
        return self._network

    def __call__(self, *args):
        """Calls the network."""
        return apply(self._network, *args)
