"""`MLP` and `MaskedMLP`: conditioners of events without positions."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfflows.evaluation.network_calls import call_network
from tfflows.networks.building import Conditioner, Dense, context_layer, join_context
from tfflows.types import TensorFunction


def _layers(make, sizes, activation, gain, seed):
    """Returns `make(index, size, ...)` for all sizes: He initialisation, and zero for the last."""
    seeds = np.random.default_rng(seed).integers(2**31, size=len(sizes))

    def start(seed):
        return keras.initializers.VarianceScaling(gain, "fan_in", "truncated_normal", int(seed))

    hidden = [
        make(i, size, activation=activation, kernel_initializer=start(s))
        for i, (size, s) in enumerate(zip(sizes[:-1], seeds, strict=False))
    ]
    return [*hidden, make(len(hidden), sizes[-1], kernel_initializer="zeros")]


@keras.saving.register_keras_serializable(package="tfflows")
class MLP(Conditioner):
    """Dense layers over the last axis; the last one starts at zero.

    Args:
      num_outputs: size of the last axis of the output.
      width: size of the hidden layers.
      depth: number of hidden layers.
      activation: of the hidden layers; by default smooth, for densities that are.
      gain: variance of their initial kernels times their inputs; 2 is He's, a smaller one trains
        more slowly, and fits few data less by heart.
      seed: seed of the initial values.
      **kwargs: other arguments of `keras.layers.Layer`, such as `dtype`.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import networks

    network = networks.build_network(networks.MLP(num_outputs=6, seed=1), [3])
    network(tf.ones([5, 3])).shape  # [5, 6]
    ```
    """

    def __init__(
        self,
        num_outputs: int,
        *,
        width: int = 64,
        depth: int = 2,
        activation: str | TensorFunction | None = "silu",
        gain: float = 2.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        arguments: dict[str, Any] = {"width": width, "depth": depth}
        arguments |= {"activation": activation, "gain": gain, "seed": seed}
        super().__init__({"num_outputs": num_outputs, **arguments}, **kwargs)

        def dense(index, size, **options):
            return Dense(size, dtype=self.dtype_policy, **options)

        self.layers = _layers(dense, [width] * depth + [num_outputs], activation, gain, seed)

    def call(self, x: tf.Tensor, context: tf.Tensor | None = None) -> tf.Tensor:
        """Maps `[N, ..., C]` to `[N, ..., num_outputs]`; a context `[N, K]` is joined to `x`."""
        h = join_context(x, context)
        for layer in self.layers:
            h = layer(h)
        return h


class MaskedDense(keras.layers.Dense):
    """A dense layer `[N, inputs] -> [N, units]` that ignores the weights where `mask` is 0."""

    def __init__(self, mask: np.ndarray, **kwargs: Any) -> None:
        super().__init__(mask.shape[1], **kwargs)
        self._mask = mask.astype("float32")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Multiplies by the masked kernel."""
        kernel = self.kernel * keras.ops.cast(self._mask, self.compute_dtype)
        return self.activation(keras.ops.matmul(x, kernel) + self.bias)


@keras.saving.register_keras_serializable(package="tfflows")
class MaskedMLP(Conditioner):
    """Masked autoregressive network (MADE), Germain et al. (2015), section 4.

    Maps `[..., D]` to `[..., D, num_params]`; the parameters of entry `i` depend on the entries
    before it alone, and on all of a context `[..., K]` if there is one.

    Args:
      num_dims: `D`.
      num_params: parameters of each entry.
      width: size of the hidden layers.
      depth: number of hidden layers.
      activation: of the hidden layers.
      gain: see `MLP`.
      context_size: `K`; `None` for no context.
      seed: seed of the initial values.
      **kwargs: other arguments of `keras.layers.Layer`, such as `dtype`.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import bijectors, networks

    network = networks.build_network(networks.MaskedMLP(num_dims=2, num_params=2), [2])
    flow = bijectors.Autoregressive(network, [2], bijectors.transforms.Affine())
    flow.forward(tf.zeros([5, 2])).shape  # [5, 2]
    ```

    TFP's own masked autoregressive flow takes it as `networks.as_module(network)`.

    #### References

    Germain, Gregor, Murray, Larochelle, *MADE: Masked Autoencoder for Distribution Estimation*,
    ICML 2015, arXiv:1502.03509.
    """

    def __init__(
        self,
        num_dims: int,
        num_params: int,
        *,
        width: int = 64,
        depth: int = 2,
        activation: str | TensorFunction | None = "silu",
        gain: float = 2.0,
        context_size: int | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        arguments: dict[str, Any] = {"width": width, "depth": depth}
        arguments |= {"activation": activation, "gain": gain, "seed": seed}
        arguments |= {"num_dims": num_dims, "num_params": num_params, "context_size": context_size}
        super().__init__(arguments, **kwargs)
        # A hidden unit of degree m sees the entries 0 .. m; one of degree -1 the context alone.
        least = 0 if context_size is None else -1
        hidden = np.arange(width) % max(num_dims - 1 - least, 1) + least
        outputs = np.repeat(np.arange(num_dims), num_params)
        degrees = [np.arange(num_dims), *[hidden] * depth, outputs]

        def dense(index, size, **options):
            low, high = degrees[index][:, np.newaxis], degrees[index + 1]
            mask = low < high if index == depth else low <= high
            return MaskedDense(mask, dtype=self.dtype_policy, **options)

        self.layers = _layers(dense, [len(d) for d in degrees[1:]], activation, gain, seed)
        if context_size is not None:  # The first activation sees the sum of both.
            first = self.layers[0]
            self._activation, first.activation = first.activation, keras.activations.linear
            self.context_layer = context_layer(first.units, seed, self.dtype_policy)

    def call(self, x: tf.Tensor, context: tf.Tensor | None = None) -> tf.Tensor:
        """Maps `[..., D]` to `[..., D, num_params]`; a context is `[..., K]`."""
        return call_network(self._evaluate, x, 1, context, context_ndims=1)

    def _evaluate(self, x, context=None):
        first, *others = self.layers
        h = first(x)
        if self._arguments["context_size"] is not None:
            h = self._activation(h + self.context_layer(keras.ops.cast(context, h.dtype)))
        for layer in others:
            h = layer(h)
        return tf.reshape(h, [-1, self._arguments["num_dims"], self._arguments["num_params"]])
