"""`MaskedConvNet`: the autoregressive network of the Sylvester flow of Hoogeboom et al. (2020)."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfflows.networks.building import Conditioner, Dense, context_layer
from tfflows.numerics.norms import capped_kernel
from tfflows.types import Shape

# Row and column of the taps of a 3x3 kernel that come before a pixel, and of the pixel itself.
_TAPS = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1))
_SUPPORT = np.arange(9).reshape(3, 3) < len(_TAPS)
_BLOCKS = 4  # A block triangular product of so many blocks takes 5/8 of the operations.


@keras.saving.register_keras_serializable(package="tfflows")
class MaskedConvNet(Conditioner):
    """Masked 3x3 - ReLU - masked 1x1 - ReLU - masked 3x3, Hoogeboom et al. (2020), section 4.

    Maps `[N, H, W, C]` to `[N, H, W, num_heads C]`. In the order of pixels row by row, and of the
    channels in a pixel, what a head returns for an entry depends on the entries before it alone.

    **Masks.** The channels of each layer are `C` groups of the same size. At the pixel itself,
    group `i` sees the groups `<= i`, and those `< i` in the last layer.

    **Norm.** Every convolution, one a head, has an operator norm of at most `max_norm`:
    `kernel / max(1, bound / max_norm)`, where `bound` is certified for images of any size
    (`numerics.conv_norm_bound`).

    The 3x3 kernels have the five taps that are not masked. The layer computes in the precision of
    its policy, the bounds in that of its variables.

    Args:
      num_channels: `C`.
      width: channels of the hidden layers, a multiple of `C`.
      num_heads: number of outputs for each entry.
      zero_heads: those that start at zero.
      max_norm: largest operator norm of each convolution.
      context_size: size of a context `[N, K]`, of which dense layers shift the first hidden
        channels and the outputs of the heads; `None` for no context.
      seed: seed of the initial values.
      **kwargs: other arguments of `keras.layers.Layer`, such as `dtype`.

    Raises:
      ValueError: if `width` is no multiple of `C`.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import networks

    network = networks.MaskedConvNet(num_channels=3, width=12, seed=1)
    networks.build_network(network, [8, 8, 3])
    network(tf.ones([2, 8, 8, 3])).shape  # [2, 8, 8, 12]
    ```

    #### References

    Hoogeboom, Garcia Satorras, Tomczak, Welling, *The Convolution Exponential and Generalized
    Sylvester Flows*, NeurIPS 2020, arXiv:2006.01910.
    """

    def __init__(
        self,
        num_channels: int,
        *,
        width: int = 528,
        num_heads: int = 4,
        zero_heads: Sequence[int] = (0, 1),
        max_norm: float = 1.5,
        context_size: int | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        arguments: dict[str, Any] = {"num_channels": num_channels, "width": width}
        arguments |= {"num_heads": num_heads, "zero_heads": tuple(zero_heads)}
        arguments |= {"max_norm": max_norm, "seed": seed, "context_size": context_size}
        super().__init__(arguments, **kwargs)
        if width % num_channels or width < 1:
            raise ValueError(
                "`width` must be a multiple of the number of channels, which are as many groups. "
                f"Received: width={width}, num_channels={num_channels}."
            )
        self._channels, self._width, self._heads = num_channels, width, num_heads
        self._zero_heads, self._max_norm, self._seed = zero_heads, max_norm, seed
        self.context_layers: list[keras.layers.Layer] = []
        if context_size is not None:
            first = context_layer(width, seed, self.dtype_policy)
            last = Dense(
                num_heads * num_channels,
                use_bias=False,
                kernel_initializer="zeros",
                dtype=self.dtype_policy,
            )
            self.context_layers = [first, last]
        group = np.repeat(np.arange(num_channels), width // num_channels)
        own = np.arange(num_channels)
        self._masks = [
            _tap_mask(own[:, np.newaxis] <= group),
            (group[:, np.newaxis] <= group)[np.newaxis],
            _tap_mask(group[:, np.newaxis] < own),
        ]

    def build(self, input_shape: Shape) -> None:
        """Makes the variables."""
        if input_shape[-1] != self._channels:
            raise ValueError(
                f"`MaskedConvNet` expected {self._channels} channels. "
                f"Received: input_shape={tuple(input_shape)}."
            )
        seeds = np.random.default_rng(self._seed).integers(2**31, size=2 + self._heads)
        names = ["first", "second", *[f"head_{i}" for i in range(self._heads)]]
        self.kernels, self.biases = [], []
        for i, name in enumerate(names):
            # The default of PyTorch, whose variance the paper has: 1 / (3 fan_in).
            initializer = keras.initializers.VarianceScaling(
                1 / 3, "fan_in", "untruncated_normal", int(seeds[i])
            )
            if i - 2 in self._zero_heads:
                initializer = "zeros"
            shape = self._masks[min(i, 2)].shape
            # Autocast would hand out variables in low precision, to the bounds too.
            self.kernels.append(
                self.add_weight(shape, initializer, name=f"{name}_kernel", autocast=False)
            )
            self.biases.append(
                self.add_weight(shape[-1:], "zeros", name=f"{name}_bias", autocast=False)
            )

    def call(self, x: tf.Tensor, context: tf.Tensor | None = None) -> tf.Tensor:
        """Maps `[N, H, W, C]` to `[N, H, W, num_heads C]`, one head after the other."""
        return self.prepare()(x, context)

    def prepare(self) -> Callable[..., tf.Tensor]:
        """Returns the layer as a function whose kernels are already capped.

        The caps cost as much as a small batch: what calls the network many times with the same
        variables, such as the inverse of a flow, should compute them once.
        """
        kernels = [tf.cast(kernel, self.compute_dtype) for kernel in self.capped_kernels()]
        biases = [tf.cast(bias, self.compute_dtype) for bias in self.biases]
        first = tf.reshape(kernels[0], [-1, self._width])
        second = self._blocks(kernels[1][0], biases[1])
        heads = tf.reshape(
            tf.transpose(tf.stack(kernels[2:]), [2, 1, 0, 3]), [self._width, -1]
        )  # [n, taps heads C]
        head_bias = tf.concat(biases[2:], axis=0)

        def network(x, context=None):
            x = tf.cast(x, self.compute_dtype)
            height, width = x.shape[1:3]
            shifts = self._shifts(context)
            # Products of matrices: they leave out the masked taps, and are faster than small
            # convolutions. TensorFlow makes product, bias and ReLU one operation.
            h = tf.nn.bias_add(tf.matmul(_neighbours(x), first), biases[0])
            if shifts:
                h = tf.reshape(h, [-1, height * width, self._width]) + shifts[0][:, None]
                h = tf.reshape(h, [-1, self._width])
            h = tf.nn.relu(h)
            parts = [
                tf.nn.relu(tf.nn.bias_add(tf.matmul(h[:, : k.shape[0]], k), bias))
                for k, bias in second
            ]
            h = tf.concat(parts, axis=-1)
            taps = tf.reshape(tf.matmul(h, heads), [-1, height, width, heads.shape[-1]])
            output = _sum_of_neighbours(taps) + head_bias
            return output + shifts[1][:, None, None] if shifts else output

        return network

    def _shifts(self, context):
        """Returns what a context adds to hidden channels and heads; nothing without one."""
        if not self.context_layers:
            return []
        context = tf.cast(context, self.compute_dtype)
        return [layer(context) for layer in self.context_layers]

    def capped_kernels(self) -> list[tf.Tensor]:
        """Returns the masked and scaled kernels, `[taps, inputs, outputs]`, one a convolution."""
        capped = []
        for i, variable in enumerate(self.kernels):
            kernel = tf.convert_to_tensor(variable)
            kernel *= tf.constant(self._masks[min(i, 2)], kernel.dtype)
            support = None if i == 1 else _SUPPORT
            whole = capped_kernel(full_kernel(kernel), self._max_norm, support)
            capped.append(tf.reshape(whole, [-1, *kernel.shape[1:]])[: kernel.shape[0]])
        return capped

    def _blocks(self, kernel, bias):
        """Returns the columns of a triangular matrix in blocks, without the zeros under them."""
        ends = [self._channels * (i + 1) // _BLOCKS for i in range(_BLOCKS)]
        ends = [end * (self._width // self._channels) for end in sorted(set(ends) - {0})]
        starts = [0, *ends[:-1]]
        return [
            (kernel[:end, start:end], bias[start:end])
            for start, end in zip(starts, ends, strict=True)
        ]


def full_kernel(taps: tf.Tensor) -> tf.Tensor:
    """Returns a kernel `[kh, kw, inputs, outputs]`, given its first taps `[T, inputs, outputs]`."""
    if taps.shape[0] == 1:
        return taps[tf.newaxis]
    padded = tf.pad(taps, [[0, 9 - taps.shape[0]], [0, 0], [0, 0]])
    return tf.reshape(padded, [3, 3, *taps.shape[1:]])


def _tap_mask(center):
    """Returns the mask of all taps, given that of the last."""
    return np.concatenate([np.ones([len(_TAPS) - 1, *center.shape], bool), center[np.newaxis]])


def _shifted(x, row, column):
    """Returns images moved so that a tap comes to lie on its pixel; 0 from outside."""
    if (row, column) == _TAPS[-1]:
        return x
    height, width = x.shape[1:3]
    padded = tf.pad(x, [[0, 0], [1 - row, 0], [max(1 - column, 0), max(column - 1, 0)], [0, 0]])
    return padded[:, :height, max(column - 1, 0) :][:, :, :width]


def _neighbours(x):
    """Returns what the taps see, `[N H W, taps C]`."""
    windows = tf.concat([_shifted(x, *tap) for tap in _TAPS], axis=-1)
    return tf.reshape(windows, [-1, windows.shape[-1]])


def _sum_of_neighbours(x):
    """Returns the sum over taps, given what each makes of its pixel, `[N, H, W, taps C']`."""
    # Split first: the gradient of a slice is as large as what it was cut from.
    parts = tf.split(x, len(_TAPS), axis=-1)
    return tf.add_n([_shifted(part, *tap) for part, tap in zip(parts, _TAPS, strict=True)])
