"""`ConvTriangularTanh`: `R_1 tanh(R_2 u + b)` with autoregressive convolutions for `R_1`, `R_2`."""

import numpy as np
import tensorflow as tf

from tfflows.numerics.parameters import as_data, as_parameter, normal_variable, stateless_seed
from tfflows.numerics.rows import with_rows

_LARGEST = 0.999  # Of an entry on a diagonal: 1 + d stays above 0.001 when tanh is rounded to 1.


class ConvTriangularTanh(tf.Module):
    """The classic Sylvester form on images, what is left without the generalisation of paper A.

        f(u) = R_1 tanh(R_2 u + b),   d(u) = diag(R_1) diag(R_2) tanh'(R_2 u + b)

    Van den Berg et al. (2018) have triangular matrices `R`. Here they are 3x3 convolutions with
    zero padding that are triangular in the order of pixels row by row, and of the channels in a
    pixel: entries see those before them, and themselves by `0.999 tanh` of the kernel's diagonal.
    In contrast to `ConvSylvester`, nothing of the tanh's scales and shifts depends on `u`.

    For `Sylvester(basis, ConvTriangularTanh(...))`, as an ablation.

    Args:
      r1: `[3, 3, C, C]`; what a triangular map does not have is not used.
      r2: the same.
      bias: `[C]`.

    Raises:
      ValueError: if a shape is not the above.

    #### References

    Van den Berg, Hasenclever, Tomczak, Welling, *Sylvester Normalizing Flows for Variational
    Inference*, UAI 2018, arXiv:1803.05649.
    """

    def __init__(self, r1, r2, bias):
        super().__init__()
        self._r1, self._r2, self._bias = (as_parameter(p) for p in (r1, r2, bias))
        channels = self._bias.shape[-1]
        for name in ("r1", "r2"):
            shape = tuple(getattr(self, f"_{name}").shape)
            if shape != (3, 3, channels, channels):
                raise ValueError(
                    f"`{name}` must have shape [3, 3, C, C] for `bias` of shape [C]. "
                    f"Received: {name}.shape={shape}, bias.shape={tuple(self._bias.shape)}."
                )
        self.dtype = self._bias.dtype

    @classmethod
    def trainable(cls, num_channels, seed=None, dtype=tf.float32, name="conv_triangular_tanh"):
        """Returns the function with variables: `R_1 = 0`, `R_2` with `N(0, 1)` on its diagonal.

        The rest of `R_2` is `N(0, 1) / (9 C)`.

        Args:
          num_channels: `C`.
          seed: Python `int` or a stateless seed.
          dtype: dtype of the variables.
          name: prefix of their names.
        """
        shape = [3, 3, num_channels, num_channels]
        spread = np.full(shape, 1 / (9 * num_channels))
        spread[1, 1] += (1 - spread[1, 1]) * np.eye(num_channels)
        r2 = normal_variable(
            shape, tf.constant(spread, dtype), stateless_seed(seed), dtype, f"{name}_r2"
        )
        r1 = tf.Variable(tf.zeros(shape, dtype), name=f"{name}_r1")
        return cls(r1, r2, tf.Variable(tf.zeros([num_channels], dtype), name=f"{name}_bias"))

    def prepared(self):
        """Returns the function `u -> (f(u), d(u))`."""
        (r1, diagonal1), (r2, diagonal2) = _triangular(self._r1), _triangular(self._r2)
        bias = tf.convert_to_tensor(self._bias)

        def function(u):
            u = as_data(u, self.dtype)
            flat = tf.reshape(u, [-1, *u.shape[-3:]])
            value, diagonal = with_rows(evaluate, flat)
            return tf.reshape(value, tf.shape(u)), tf.reshape(diagonal, tf.shape(u))

        def evaluate(u):
            h = tf.tanh(tf.nn.conv2d(u, r2, 1, "SAME") + bias)
            return tf.nn.conv2d(h, r1, 1, "SAME"), diagonal1 * diagonal2 * (1 - h**2)

        return function

    def __call__(self, u):
        """Returns `f(u)` and `d(u)`."""
        return self.prepared()(u)


def _triangular(parameter):
    """Returns the kernel of `R`, masked, and its diagonal, in (-1, 1), one value a channel."""
    kernel = tf.convert_to_tensor(parameter)
    channels = kernel.shape[-1]
    mask = np.zeros(kernel.shape)
    mask[0], mask[1, 0] = 1, 1
    mask[1, 1] = np.triu(np.ones([channels, channels]), 1)  # Rows are inputs.
    diagonal = _LARGEST * tf.tanh(tf.linalg.diag_part(kernel[1, 1]))
    center = tf.pad(
        tf.linalg.diag(diagonal)[tf.newaxis, tf.newaxis], [[1, 1], [1, 1], [0, 0], [0, 0]]
    )
    return kernel * tf.constant(mask, kernel.dtype) + center, diagonal
