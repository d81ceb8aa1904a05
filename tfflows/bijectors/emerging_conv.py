"""`EmergingConv`: two autoregressive convolutions of opposite orders."""

from collections.abc import Sequence
from typing import Self

import numpy as np
import tensorflow as tf

from tfflows.evaluation.constants import of_weights
from tfflows.evaluation.flow_bijector import FlowBijector
from tfflows.numerics import images
from tfflows.numerics.causal_conv import causal_conv, solve_causal_conv
from tfflows.numerics.parameters import as_event_shape, as_parameter, normal_variable
from tfflows.numerics.rows import with_rows
from tfflows.types import DTypeLike, Seed, Shape, TensorLike


class EmergingConv(FlowBijector):
    """Emerging convolution, Hoogeboom et al. (2019).

        forward:  y = M_2 M_1 x
        inverse:  x = M_1^-1 M_2^-1 y
        log-det:  H W sum_c (log d_1c + log d_2c)

    `M_1` is a cross-correlation in which channel `c` of pixel `(i, j)` depends on itself, times
    `d_1c`, on the channels before `c` of the same pixel, and on pixels before it in reading order.
    `M_2` is one in the opposite order of rows, columns and channels. Both are triangular; together
    they see pixels on all sides. The paper puts a 1x1 convolution in front (`InvertibleConv1x1`).

    For a kernel size `(m, n)`, both odd, the pixels before are, according to `mask`,

        "square":  the m // 2 rows above and n // 2 columns left, and no pixel further right: of
                   3x3 a square of 2x2. M_2 M_1 has the receptive field of an m x n convolution.
        "raster":  all of the m x n window that comes earlier in reading order.

    **Inverse.** Substitution, pixel by pixel and for all images at once, in a loop that XLA
    compiles also in graphs that are not compiled. Its gradients, of any order, are those of the
    implicit function, of the same cost.

    Args:
      kernels: `[2, m // 2 + 1, k, C, C]`, for `M_1` and `M_2`, with `k = n // 2 + 1` ("square") or
        `k = n` ("raster"). The last axis is the output, the tap of a pixel itself is the last
        ("square") or the middle one ("raster") of the last row, and has `log d` on its diagonal.
        Entries that would break the order are not used. `M_2` works on images with rows, columns
        and channels reversed.
      mask: `"square"` or `"raster"`.
      validate_args: see `tfb.Bijector`.
      name: name of the bijector.

    Raises:
      ValueError: if the shape of `kernels` or the `mask` is not one of the above.

    #### Example

    ```python
    import tensorflow as tf
    import tfflows

    flow = tfflows.bijectors.EmergingConv.trainable([16, 16, 12], seed=1)
    x = tf.random.normal([8, 16, 16, 12])
    flow.inverse(tf.identity(flow.forward(x)))  # x, in 256 steps for each of the two
    ```

    #### References

    Hoogeboom, van den Berg, Welling, *Emerging Convolutions for Generative Normalizing Flows*, ICML
    2019, arXiv:1901.11137.
    """

    def __init__(
        self,
        kernels: TensorLike,
        *,
        mask: str = "square",
        validate_args: bool = False,
        name: str = "emerging_conv",
    ) -> None:
        parameters = dict(locals())
        self._kernels = as_parameter(kernels)
        shape = self._kernels.shape
        if mask not in ("square", "raster"):
            raise ValueError(f'`mask` must be "square" or "raster". Received: mask={mask!r}.')
        if shape.rank != 5 or shape[0] != 2 or shape[-1] != shape[-2]:
            raise ValueError(
                "`kernels` must have shape [2, rows, columns, C, C]. "
                f"Received: kernels.shape={tuple(shape)}."
            )
        if mask == "raster" and shape[2] % 2 == 0:
            raise ValueError(
                '`kernels` must have an odd number of columns for mask="raster". '
                f"Received: kernels.shape={tuple(shape)}."
            )
        self._column = shape[2] - 1 if mask == "square" else shape[2] // 2
        super().__init__(
            forward_min_event_ndims=3,
            event_shape=(None, None, shape[-1]),
            is_constant_jacobian=True,
            dtype=self._kernels.dtype,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    @classmethod
    def trainable(
        cls,
        event_shape: Shape,
        *,
        kernel_size: int | Sequence[int] = 3,
        mask: str = "square",
        seed: Seed = None,
        dtype: DTypeLike = tf.float32,
        name: str = "emerging_conv",
    ) -> Self:
        """Returns an `EmergingConv` close to the identity, with a trainable variable.

        At first the kernels are `N(0, 1) / (taps C)`, and `d = exp` of that.

        Args:
          event_shape: `[H, W, C]`; height and width may be `None`.
          kernel_size: odd `int`, or a pair `(m, n)`.
          mask: see the class.
          seed: Python `int` or a stateless seed.
          dtype: dtype of the variable.
          name: name of the bijector.

        Raises:
          ValueError: if `kernel_size` is even.
        """
        num_channels = as_event_shape(event_shape)[-1]
        size = [kernel_size] * 2 if isinstance(kernel_size, int) else list(kernel_size)
        if any(length % 2 == 0 for length in size):
            raise ValueError(f"`kernel_size` must be odd. Received: kernel_size={kernel_size}.")
        rows, columns = size[0] // 2 + 1, size[1] if mask == "raster" else size[1] // 2 + 1
        kernels = normal_variable(
            [2, rows, columns, num_channels, num_channels],
            1 / (rows * columns * num_channels),
            seed,
            dtype,
            f"{name}_kernels",
        )
        return cls(kernels, mask=mask, name=name)

    @of_weights
    def _masked_kernels(self):
        """Returns the two kernels, triangular, and `sum_c log d_1c + log d_2c`."""
        kernels = tf.convert_to_tensor(self._kernels)
        _, rows, columns, channels, _ = kernels.shape
        before = np.ones([rows, columns, channels, channels])
        before[-1, self._column] = np.triu(before[-1, self._column], 1)
        before[-1, self._column + 1 :] = 0
        itself = np.zeros([rows, columns, 1, 1])
        itself[-1, self._column] = 1
        log_diagonal = tf.linalg.diag_part(kernels[:, -1, self._column])
        diagonal = tf.linalg.diag(tf.exp(log_diagonal))[:, None, None]
        masked = kernels * before + diagonal * itself
        return masked[0], masked[1], tf.reduce_sum(log_diagonal)

    def _log_det(self, x, log_diagonal):
        return images.num_pixels(x) * log_diagonal

    def _forward_and_log_det(self, x):
        first, second, log_diagonal = self._masked_kernels()

        def evaluate(x):
            y = causal_conv(x, first, self._column)
            return causal_conv(y, second, self._column, reverse=True)

        y = with_rows(evaluate, images.as_rows(x))
        return tf.reshape(y, tf.shape(x)), self._log_det(x, log_diagonal)

    def _inverse_and_log_det(self, y):
        first, second, log_diagonal = self._masked_kernels()

        def solve(y):
            x = solve_causal_conv(y, second, self._column, reverse=True)
            return solve_causal_conv(x, first, self._column)

        x = with_rows(solve, images.as_rows(y))
        return tf.reshape(x, tf.shape(y)), -self._log_det(y, log_diagonal)
