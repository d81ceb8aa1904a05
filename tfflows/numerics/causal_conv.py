"""Convolutions that see only pixels that come before, and how they are undone by substitution."""

import numpy as np
import tensorflow as tf

from tfflows.numerics import images
from tfflows.numerics.compiled import CompiledFunction


def causal_conv(x: tf.Tensor, kernel: tf.Tensor, column: int, reverse: bool = False) -> tf.Tensor:
    """Returns `M x`, the cross-correlation with a causal kernel.

        y[i, j] = sum_ab kernel[a, b]^T x[i + a - (kh - 1), j + b - column]

    Args:
      x: images `[N, H, W, C]`.
      kernel: `[kh, kw, C, C]`, the last axis is the output. The tap of the pixel itself is
        `[kh - 1, column]`, and those right of it are 0.
      column: see `kernel`.
      reverse: whether rows, columns and channels run in the opposite order.

    Returns:
      Images of the shape of `x`.
    """
    rows, columns = kernel.shape[:2]
    paddings = [[0, 0], [rows - 1, 0], [column, columns - 1 - column], [0, 0]]
    if reverse:
        kernel = tf.reverse(kernel, axis=[0, 1, 2, 3])
        paddings = [sides[::-1] for sides in paddings]
    return tf.nn.conv2d(tf.pad(x, paddings), kernel, 1, "VALID")


def solve_causal_conv(
    y: tf.Tensor, kernel: tf.Tensor, column: int, reverse: bool = False
) -> tf.Tensor:
    """Returns `M^-1 y`, by substitution.

    Pixel by pixel in reading order, a loop of `H W` steps that XLA compiles. A wavefront of all
    pixels that don't depend on each other would take `W + (kw - column) (H - 1)` steps, but with
    more to compute and to copy it is no faster on a CPU (`python -m benchmarks.substitution`).

    The gradients are those of the implicit function: `M^-T g` for `y`, again a substitution, and
    from it that of a convolution for the kernel.

    Args:
      y: images `[N, H, W, C]`.
      kernel: `[kh, kw, C, C]`, see `causal_conv`; the tap of the pixel itself is upper triangular.
      column: see `causal_conv`.
      reverse: see `causal_conv`.

    Returns:
      Images of the shape of `y`.
    """
    if not reverse:
        return _SOLVE(y, kernel, column=column, lower=False)[0]
    axes = [1, 2, 3]
    return tf.reverse(_SOLVE(tf.reverse(y, axes), kernel, column=column, lower=False)[0], axes)


def _solve(y, kernel, column, lower):
    """Returns `M^-1 y`, alone and for the gradient; `lower` is the triangle of the pixel's tap."""
    x = substitute(y, kernel, column, lower)
    return (x,), x


def _pull_back(inputs, x, gradients, column, lower):
    """Returns the gradients of the implicit function `M x = y`."""
    return _implicit(inputs, x, gradients, column, lower, substitute)


def _gradient(inputs, gradients, column, lower):
    """Returns the same, in a way that can be differentiated."""

    def solve(y, kernel, column, lower):
        return _SOLVE(y, kernel, column=column, lower=lower)[0]

    x = solve(*inputs, column, lower)
    return _implicit(inputs, x, gradients, column, lower, solve)


def _implicit(inputs, x, gradients, column, lower, solve):
    _, kernel = inputs
    rows, columns = kernel.shape[:2]
    # Transposed, M is the same convolution of mirrored images, with channels exchanged.
    mirrored = tf.reverse(gradients[0], axis=[1, 2])
    transposed = tf.transpose(kernel, [0, 1, 3, 2])
    g = tf.reverse(solve(mirrored, transposed, column, not lower), axis=[1, 2])
    kernel_gradient = tf.raw_ops.Conv2DBackpropFilter(
        input=tf.pad(x, [[0, 0], [rows - 1, 0], [column, columns - 1 - column], [0, 0]]),
        filter_sizes=kernel.shape,
        out_backprop=-g,
        strides=[1, 1, 1, 1],
        padding="VALID",
    )
    return g, kernel_gradient


# A loop of small operations, that XLA makes one kernel.
_SOLVE = CompiledFunction(_solve, _pull_back, _gradient)


@tf.function(autograph=False)  # In eager mode each step would be a dozen calls from Python.
def substitute(y: tf.Tensor, kernel: tf.Tensor, column: int, lower: bool) -> tf.Tensor:
    """Returns `M^-1 y` without a gradient of its own."""
    rows, columns, channels = kernel.shape[:3]
    height, width = images.size_of(y)
    eye = tf.eye(channels, dtype=y.dtype)
    center = tf.linalg.triangular_solve(kernel[-1, column], eye, lower=lower)
    y = tf.reshape(tf.reshape(y, [-1, channels]) @ center, tf.shape(y))  # One large product.
    taps = [(a, b) for a, b in np.ndindex(rows, columns) if a < rows - 1 or b < column]
    if not taps:
        return y
    y = tf.transpose(y, [1, 2, 3, 0])  # The products below are of the form [C, taps C] [taps C, N].
    weights = tf.concat([tf.transpose(kernel[a, b] @ center) for a, b in taps], axis=1)

    # Pixels in reading order, with zeros above the image and on its sides.
    stride = width + columns - 1
    size = (height + rows - 1) * stride
    pixels = tf.TensorArray(y.dtype, size, element_shape=y.shape[2:], clear_after_read=False)
    pixels = pixels.unstack(tf.zeros([size, *tf.unstack(tf.shape(y)[2:])], y.dtype))

    def step(index, pixels):
        i, j = index // width, index % width
        before = tf.concat([pixels.read((i + a) * stride + j + b) for a, b in taps], axis=0)
        place = (i + rows - 1) * stride + j + column
        return [index + 1, pixels.write(place, y[i, j] - weights @ before)]

    count = height * width
    _, pixels = tf.while_loop(
        lambda index, _: index < count, step, [tf.constant(0), pixels], maximum_iterations=count
    )
    x = tf.reshape(pixels.stack(), [height + rows - 1, stride, channels, -1])
    return tf.transpose(x[rows - 1 :, column : column + width], [3, 0, 1, 2])
