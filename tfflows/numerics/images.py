"""Images of any batch shape and, in graphs, of any size."""

import tensorflow as tf

from tfflows.numerics.shapes import with_shape


def as_rows(x: tf.Tensor) -> tf.Tensor:
    """Returns images `[..., H, W, C]` as `[N, H, W, C]`."""
    flat = tf.reshape(x, tf.concat([[-1], tf.shape(x)[-3:]], axis=0))
    return with_shape(flat, flat.shape[:1].concatenate(x.shape[-3:]))


def size_of(x: tf.Tensor) -> tuple[int | tf.Tensor, int | tf.Tensor]:
    """Returns height and width of `[..., H, W, C]`, each a Python `int` if it is known."""
    known, sizes = x.shape[-3:-1], tf.shape(x)[-3:-1]
    return tuple(sizes[i] if size is None else size for i, size in enumerate(known))


def num_pixels(x: tf.Tensor) -> tf.Tensor:
    """Returns `H W`, in the dtype of `x`."""
    height, width = size_of(x)
    return tf.cast(height * width, x.dtype)
