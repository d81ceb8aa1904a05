"""How exactly a flow can be undone."""

import numpy as np
import tensorflow as tf


def round_trip_error(bijector, x):
    """Returns `max |f^-1(f(x)) - x|` for each event of a batch.

    Args:
      bijector: any `tfb.Bijector`.
      x: a batch, `[..., *event]`.

    Returns:
      A `Tensor` `[...]`, in the units of `x`; NaN where the inverse is NaN.
    """
    # Copies: otherwise either direction may answer from memory.
    y = tf.identity(bijector.forward(tf.identity(x)))
    error = tf.abs(bijector.inverse(y) - x)
    axes = list(range(-bijector.forward_min_event_ndims, 0))
    largest, failed = tf.reduce_max(error, axes), tf.reduce_any(tf.math.is_nan(error), axes)
    # XLA's maximum on CPU passes over NaNs.
    return tf.where(failed, tf.constant(np.nan, error.dtype), largest)
