"""`LipschitzNet`: a network whose Lipschitz constant is certified, for residual flows."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfflows.networks.building import Conditioner, context_layer
from tfflows.numerics import linalg
from tfflows.numerics.norms import capped_kernel
from tfflows.types import Shape


@keras.saving.register_keras_serializable(package="tfflows")
class LipSwish(keras.layers.Layer):
    """`x sigmoid(beta x) / 1.1` with a learned `beta > 0`, Chen et al. (2019), section 3.4.

    The slope of `x sigmoid(beta x)` lies in [-0.0999, 1.0999] for every `beta`, so that this
    activation changes no faster than its input. `beta` is the softplus of a variable that starts
    at 0.5. The constructor takes the arguments of `keras.layers.Layer`.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import networks

    networks.LipSwish()(tf.constant([-1.0, 0.0, 1.0])).shape  # [3]
    ```

    #### References

    Chen, Behrmann, Duvenaud, Jacobsen, *Residual Flows for Invertible Generative Modeling*, NeurIPS
    2019, arXiv:1906.02735.
    """

    def build(self, input_shape: Shape) -> None:
        """Makes the variable."""
        del input_shape
        self.raw_beta = self.add_weight(
            shape=(), initializer=keras.initializers.Constant(0.5), name="raw_beta"
        )

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Returns the activation of each entry."""
        return x * keras.ops.sigmoid(keras.ops.softplus(self.raw_beta) * x) / 1.1


@keras.saving.register_keras_serializable(package="tfflows")
class CappedConv2D(keras.layers.Conv2D):
    """A convolution with stride 1 and zero padding, of operator norm at most `max_norm`.

    The kernel is divided by `max(1, bound / max_norm)`, where `bound` is certified for images of
    any size (`numerics.conv_norm_bound`). Kernels of size 1 make it a dense layer of
    each position.

    Args:
      filters: channels of the output.
      kernel_size: odd `int`, or a pair.
      max_norm: the largest operator norm, a Python `float`.
      **kwargs: other arguments of `keras.layers.Conv2D`, but for `padding`, `data_format` and
        `strides`.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import networks

    layer = networks.CappedConv2D(filters=4, kernel_size=3, max_norm=0.9)
    layer(tf.ones([2, 8, 8, 4])).shape  # [2, 8, 8, 4]
    ```
    """

    def __init__(
        self, filters: int, kernel_size: int | Sequence[int], max_norm: float, **kwargs: Any
    ) -> None:
        fixed = {"padding": "same", "data_format": "channels_last"}
        super().__init__(filters, kernel_size, **{**kwargs, **fixed})
        self._max_norm = max_norm

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "max_norm": self._max_norm}

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Convolves with the capped kernel."""
        return self.convolve(x, self.capped_kernel())

    def capped_kernel(self) -> tf.Tensor:
        """Returns the kernel that the layer convolves with."""
        return capped_kernel(self.kernel, self._max_norm)

    def convolve(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Convolves `x` with a kernel that `capped_kernel` returned."""
        bias = tf.convert_to_tensor(self.bias)
        if self.kernel_size != (1, 1) or self.groups > 1:
            return tf.nn.conv2d(x, kernel, 1, "SAME") + bias
        return linalg.matmul(x, kernel[0, 0]) + bias  # Faster on a CPU than a 1x1 convolution.


@keras.saving.register_keras_serializable(package="tfflows")
class LipschitzNet(Conditioner):
    """LipSwish - convolution, several times, with Lipschitz constant at most `max_lipschitz`.

    The residual block of Chen et al. (2019) is `kernel_sizes=(3, 1, 3)`. All kernel sizes 1 and
    inputs `[N, C]` make it a network of dense layers. The last layer starts at zero.

    **Certified.** The operator norm of each of the `L` convolutions, on images of any size, is at
    most `max_lipschitz^(1/L)` by `numerics.conv_norm_bound`, and LipSwish has
    Lipschitz constant 1. The power iteration of the paper bounds norms from below until it has
    converged, so that a residual flow may cease to be invertible; it is not offered here.

    The layer computes in the precision of its variables, also under a policy of mixed precision.

    **Context.** A context `[N, K]` shifts the channels of the first convolution by a dense layer of
    it, which the bound, that of the map of `x`, knows nothing of.

    Args:
      num_outputs: channels of the output.
      width: channels of the hidden layers.
      kernel_sizes: odd `int`s, one a convolution.
      max_lipschitz: the bound in the Euclidean norm, a Python `float`; below 1 for `ResidualFlow`.
      context_size: `K`; `None` for no context.
      seed: seed of the initial values.
      **kwargs: other arguments of `keras.layers.Layer`, such as `dtype`.

    Raises:
      ValueError: if a kernel size is even or `max_lipschitz` is not positive.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import networks

    network = networks.LipschitzNet(12, width=32, seed=1)
    networks.build_network(network, [8, 8, 12])
    network(tf.ones([2, 8, 8, 12])).shape  # [2, 8, 8, 12]
    ```

    #### References

    Chen, Behrmann, Duvenaud, Jacobsen, *Residual Flows for Invertible Generative Modeling*, NeurIPS
    2019, arXiv:1906.02735. Behrmann, Grathwohl, Chen, Duvenaud, Jacobsen, *Invertible Residual
    Networks*, ICML 2019, arXiv:1811.00995.
    """

    def __init__(
        self,
        num_outputs: int,
        *,
        width: int = 512,
        kernel_sizes: Sequence[int] = (3, 1, 3),
        max_lipschitz: float = 0.98,
        context_size: int | None = None,
        seed: int | None = None,
        dtype: str | keras.DTypePolicy | None = None,
        **kwargs: Any,
    ) -> None:
        if any(size % 2 == 0 for size in kernel_sizes):
            raise ValueError(
                f"`kernel_sizes` must be odd. Received: kernel_sizes={tuple(kernel_sizes)}."
            )
        if not max_lipschitz > 0:
            raise ValueError(
                f"`max_lipschitz` must be positive. Received: max_lipschitz={max_lipschitz}."
            )
        arguments: dict[str, Any] = {"num_outputs": num_outputs, "width": width, "seed": seed}
        arguments |= {"kernel_sizes": list(kernel_sizes), "max_lipschitz": max_lipschitz}
        arguments |= {"context_size": context_size}
        # A bound that holds is not to be lost to rounding.
        precision = keras.dtype_policies.get(dtype or keras.config.dtype_policy()).variable_dtype
        super().__init__(arguments, dtype=precision, **kwargs)
        seeds = np.random.default_rng(seed).integers(2**31, size=len(kernel_sizes) - 1)
        starts = [*(keras.initializers.HeNormal(int(s)) for s in seeds), "zeros"]
        channels = [width] * len(seeds) + [num_outputs]
        max_norm = max_lipschitz ** (1 / len(kernel_sizes))
        self.activations = [LipSwish(dtype=precision) for _ in kernel_sizes]
        self.convs = [
            CappedConv2D(c, size, max_norm, kernel_initializer=start, dtype=precision)
            for c, size, start in zip(channels, kernel_sizes, starts, strict=True)
        ]
        self.context_layer = None
        if context_size is not None:
            self.context_layer = context_layer(channels[0], seed, precision)

    def call(self, x: tf.Tensor, context: tf.Tensor | None = None) -> tf.Tensor:
        """Maps `[N, H, W, C]` to `[N, H, W, num_outputs]`, or `[N, C]` to `[N, num_outputs]`."""
        return self._evaluate(x, self.convs, context)

    def prepare(self) -> Callable[..., tf.Tensor]:
        """Returns the same function of `x`, with the kernels computed once: for use in loops."""

        def with_kernel(conv, kernel):
            return lambda h: conv.convolve(h, kernel)

        convs = [with_kernel(conv, conv.capped_kernel()) for conv in self.convs]
        return lambda x, context=None: self._evaluate(x, convs, context)

    def _evaluate(self, x, convs, context):
        h = tf.cast(x, self.compute_dtype)  # As the layer does, and a prepared one does not.
        h = h if x.shape.rank == 4 else h[:, tf.newaxis, tf.newaxis, :]
        for i, (activation, conv) in enumerate(zip(self.activations, convs, strict=True)):
            h = conv(activation(h))
            if i == 0 and self.context_layer is not None:
                h += self.context_layer(keras.ops.cast(context, h.dtype))[:, None, None, :]
        return h if x.shape.rank == 4 else h[:, 0, 0, :]
