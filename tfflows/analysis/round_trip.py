"""How exactly a flow can be undone."""

import tensorflow as tf


def round_trip_error(bijector, x):
    """Returns `max |f^-1(f(x)) - x|` for each event of a batch.

    Args:
      bijector: any `tfb.Bijector`.
      x: a batch, `[..., *event]`.

    Returns:
      A `Tensor` `[...]`, in the units of `x`.
    """
    # Copies: otherwise either direction may answer from memory.
    y = tf.identity(bijector.forward(tf.identity(x)))
    error = tf.abs(bijector.inverse(y) - x)
    return tf.reduce_max(error, axis=list(range(-bijector.forward_min_event_ndims, 0)))
