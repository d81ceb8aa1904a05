"""How exactly a flow can be undone, and at what cost."""

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from tfflows.analysis.layers import record_layers
from tfflows.evaluation.parts import dtype_of
from tfflows.numerics.parameters import as_data
from tfflows.types import TensorLike


def round_trip_error(bijector: tfb.Bijector, x: TensorLike) -> tf.Tensor:
    """Returns `max |f^-1(f(x)) - x|` for each event of a batch.

    Args:
      bijector: any `tfb.Bijector`.
      x: a batch, `[..., *event]`.

    Returns:
      A `Tensor` `[...]`, in the units of `x`; NaN where the inverse is NaN.
    """
    x = as_data(x, dtype_of(bijector))
    # Copies: otherwise either direction may answer from memory.
    y = tf.identity(bijector.forward(tf.identity(x)))
    error = tf.abs(bijector.inverse(y) - x)
    axes = list(range(-bijector.forward_min_event_ndims, 0))
    largest, failed = tf.reduce_max(error, axes), tf.reduce_any(tf.math.is_nan(error), axes)
    # XLA's maximum on CPU passes over NaNs.
    return tf.where(failed, tf.constant(np.nan, error.dtype), largest)


def inverse_iterations(bijector: tfb.Bijector, x: TensorLike) -> tf.Tensor:
    """Returns how many iterations the inverse of each layer that iterates takes, by event.

    Args:
      bijector: any `tfb.Bijector`.
      x: a batch, `[N, *event]`, whose image is inverted.

    Returns:
      An `int32` `Tensor` `[layers, N]`, in the order of `forward`; `[0, N]` if no layer iterates.
    """
    counts = [
        record.bijector.inverse_iterations(record.output)
        for record in record_layers(bijector, x)
        if hasattr(record.bijector, "inverse_iterations")
    ]
    return tf.stack(counts) if counts else tf.zeros([0, len(x)], tf.int32)
