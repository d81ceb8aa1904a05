"""Diagonal normal bases, fixed and learned."""

import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

from tfflows.types import DTypeLike, KnownShape


def standard_normal(event_shape: KnownShape, dtype: DTypeLike = tf.float32) -> tfd.Sample:
    """Returns `N(0, I)` over events of shape `event_shape`."""
    return tfd.Sample(tfd.Normal(tf.zeros([], dtype), tf.ones([], dtype)), event_shape)


def trainable_normal(
    event_shape: KnownShape,
    *,
    per_channel: bool = True,
    dtype: DTypeLike = tf.float32,
    name: str = "base",
) -> tfd.Independent:
    """Returns a diagonal normal with learned mean and scale, a standard normal at first.

    Args:
      event_shape: shape of an event, the channel last.
      per_channel: whether mean and scale are shared over all positions of a channel.
      dtype: dtype of the variables.
      name: name of the distribution and prefix of the variables' names.
    """
    shape = list(event_shape)
    shared = [1] * (len(shape) - 1) + shape[-1:] if per_channel else shape
    loc = tf.Variable(tf.zeros(shared, dtype), name=f"{name}_loc")
    log_scale = tf.Variable(tf.zeros(shared, dtype), name=f"{name}_log_scale")
    if per_channel:
        # Deferred, so that every use sees the variables as they then are.
        loc = tfp.util.DeferredTensor(loc, lambda v: tf.broadcast_to(v, shape), shape=shape)
    scale = tfp.util.DeferredTensor(log_scale, tf.exp)
    return tfd.Independent(tfd.Normal(loc, scale), len(shape), name=name)
