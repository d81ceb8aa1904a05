"""`PeriodicConv`: an invertible convolution on a torus."""

from collections.abc import Sequence
from typing import Self

import numpy as np
import tensorflow as tf

from tfflows.evaluation.constants import of_weights
from tfflows.evaluation.flow_bijector import FlowBijector
from tfflows.numerics import convolution, images, linalg
from tfflows.numerics.parameters import as_event_shape, as_parameter, check_kernel, normal_variable
from tfflows.numerics.rows import with_rows
from tfflows.numerics.shapes import with_shape
from tfflows.types import DTypeLike, Seed, Shape, TensorLike


class PeriodicConv(FlowBijector):
    """Invertible convolution with circular padding, Hoogeboom et al. (2019).

    The cross-correlation `M` of an image on a torus with a kernel multiplies each frequency
    `w = 2 pi (k / H, l / W)` of the image with a complex `C x C` matrix,

        S(w) = sum_ab kernel[a, b] exp(i w . (a - kh // 2, b - kw // 2)),

        forward:  y = M x,  for row vectors yhat(w) = xhat(w) S(w)
        inverse:  xhat(w) = yhat(w) S(w)^-1
        log-det:  sum_w log|det S(w)|

    all exact. `forward` is computed as a convolution, the inverse with the FFT, the determinants by
    QR decompositions. Images and kernels are real, `S(-w)` is the conjugate of `S(w)`, so half of
    the frequencies do.

    Nothing keeps `S(w)` from becoming singular but the log-det, which is infinite there. At first
    the kernel is close to the identity and well conditioned.

    Args:
      kernel: `[kh, kw, C, C]`, `kh` and `kw` odd; as in `tf.nn.conv2d` the last axis is the output.
      validate_args: see `tfb.Bijector`.
      name: name of the bijector.

    Raises:
      ValueError: if the kernel is not square in its channels or has an even size, or an image is
        smaller than half of it.

    #### Example

    ```python
    import tensorflow as tf
    import tfflows

    flow = tfflows.bijectors.PeriodicConv.trainable([16, 16, 12], seed=1)
    x = tf.random.normal([8, 16, 16, 12])
    shifted = flow.forward(tf.roll(x, 3, axis=1))  # tf.roll(flow.forward(x), 3, axis=1)
    ```

    #### References

    Hoogeboom, van den Berg, Welling, *Emerging Convolutions for Generative Normalizing Flows*, ICML
    2019, arXiv:1901.11137. Finzi, Izmailov, Maddox, Kirichenko, Wilson, *Invertible Convolutional
    Networks*, ICML workshop on invertible neural networks, 2019. Karami, Schuurmans,
    Sohl-Dickstein, Dinh, Duckworth, *Invertible Convolutional Flow*, NeurIPS 2019.
    """

    def __init__(
        self, kernel: TensorLike, *, validate_args: bool = False, name: str = "periodic_conv"
    ) -> None:
        parameters = dict(locals())
        self._kernel = as_parameter(kernel)
        check_kernel(self._kernel)
        super().__init__(
            forward_min_event_ndims=3,
            event_shape=(None, None, self._kernel.shape[-1]),
            is_constant_jacobian=True,
            dtype=self._kernel.dtype,
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
        seed: Seed = None,
        dtype: DTypeLike = tf.float32,
        name: str = "periodic_conv",
    ) -> Self:
        """Returns a convolution with a trainable kernel, the identity + `N(0, 1) / (kh kw C)`.

        Args:
          event_shape: `[H, W, C]`; height and width may be `None`.
          kernel_size: odd `int`, or a pair.
          seed: Python `int` or a stateless seed.
          dtype: dtype of the kernel.
          name: name of the bijector.
        """
        num_channels = as_event_shape(event_shape)[-1]
        kh, kw = [kernel_size] * 2 if isinstance(kernel_size, int) else kernel_size
        kernel = normal_variable(
            [kh, kw, num_channels, num_channels],
            1 / (kh * kw * num_channels),
            seed,
            dtype,
            f"{name}_kernel",
        )
        identity = np.zeros(kernel.shape)
        identity[kh // 2, kw // 2] = np.eye(num_channels)
        kernel.assign_add(identity)
        return cls(kernel, name=name)

    def _transfer(self, height, width):
        """Returns `S(w)` `[H, W // 2 + 1, C, C]` for the frequencies of `tf.signal.rfft2d`."""
        kernel = tf.convert_to_tensor(self._kernel)
        kh, kw, channels, _ = kernel.shape
        frequencies = (tf.range(n, dtype=tf.float64) for n in (height, width // 2 + 1))
        rows, columns = (
            tf.tensordot(f / tf.cast(n, f.dtype), tf.range(k, dtype=f.dtype) - k // 2, axes=0)
            for f, n, k in zip(frequencies, (height, width), (kh, kw), strict=True)
        )
        phase = 2 * np.pi * (rows[:, tf.newaxis, :, tf.newaxis] + columns[:, tf.newaxis, :])
        phase = tf.reshape(phase, [-1, kh * kw])
        taps = tf.reshape(kernel, [kh * kw, channels**2])
        real, imaginary = (tf.cast(f(phase), taps.dtype) @ taps for f in (tf.cos, tf.sin))
        return tf.reshape(tf.complex(real, imaginary), [height, width // 2 + 1, channels, channels])

    @of_weights
    def _log_det(self, height, width):
        """Returns `log|det M|`."""
        return self._sum_of_log_dets(self._transfer(height, width), width)

    @of_weights
    def _inverse(self, height, width):
        """Returns `S(w)^-1`, see `_transfer`, and `log|det M|`."""
        transfer = self._transfer(height, width)
        return linalg.inverse(transfer), self._sum_of_log_dets(transfer, width)

    def _sum_of_log_dets(self, transfer, width):
        # Each frequency but 0 and that of alternating columns stands for its conjugate too.
        number = tf.range(width // 2 + 1)
        count = tf.where((number == 0) | (2 * number == width), 1, 2)
        log_dets = linalg.log_abs_det(transfer)
        return tf.reduce_sum(tf.cast(count, log_dets.dtype) * log_dets)

    def _check_size(self, height, width):
        kh, kw = self._kernel.shape[:2]
        if kh // 2 > (height or kh) or kw // 2 > (width or kw):  # Those that are known.
            raise ValueError(
                "`PeriodicConv` needs images no smaller than half the kernel. "
                f"Received: kernel size {(kh, kw)}, image size {(height, width)}."
            )

    def _forward_and_log_det(self, x):
        height, width = images.size_of(x)
        self._check_size(*x.shape[-3:-1])
        flat = images.as_rows(x)
        kernel = tf.convert_to_tensor(self._kernel)
        y = with_rows(lambda x: convolution.correlate(x, kernel, "periodic"), flat)
        return tf.reshape(y, tf.shape(x)), self._log_det(height, width)

    def _inverse_and_log_det(self, y):
        height, width = images.size_of(y)
        self._check_size(*y.shape[-3:-1])
        inverse, log_det = self._inverse(height, width)

        def solve(y):
            spectrum = tf.signal.rfft2d(tf.transpose(y, [0, 3, 1, 2]))
            solved = tf.einsum("nchw,hwco->nohw", spectrum, inverse)
            x = tf.signal.irfft2d(solved, fft_length=[height, width])
            return tf.transpose(x, [0, 2, 3, 1])

        x = tf.reshape(with_rows(solve, images.as_rows(y)), tf.shape(y))
        return with_shape(x, y.shape), -log_det
