"""Convolutions that keep the size of images: with a kernel, its transpose, on a torus."""

import tensorflow as tf


def correlate(x: tf.Tensor, kernel: tf.Tensor, padding: str) -> tf.Tensor:
    """Returns `M x`, the cross-correlation of `x` with an odd kernel, of the shape of `x`.

    Args:
      x: `[N, H, W, C]`.
      kernel: `[kh, kw, C, C']`.
      padding: `"zero"` or `"periodic"`.
    """
    if padding == "zero":
        return tf.nn.conv2d(x, kernel, 1, "SAME")
    return tf.nn.conv2d(wrap(x, kernel), kernel, 1, "VALID")


def transpose(kernel: tf.Tensor) -> tf.Tensor:
    """Returns the kernel whose cross-correlation is `M^T`."""
    return tf.transpose(tf.reverse(kernel, axis=[0, 1]), [0, 1, 3, 2])


def wrap(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Pads images on a torus by half the size of the kernel."""
    rows, columns = kernel.shape[0] // 2, kernel.shape[1] // 2
    if rows:
        x = tf.concat([x[:, -rows:], x, x[:, :rows]], axis=1)
    if columns:
        x = tf.concat([x[:, :, -columns:], x, x[:, :, :columns]], axis=2)
    return x
