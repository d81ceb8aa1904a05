"""`ConvNet`: the plain conditioner of Glow."""

from typing import Any

import keras
import tensorflow as tf

from tfflows.networks.building import Conditioner, SeededConvs, join_context


@keras.saving.register_keras_serializable(package="tfflows")
class ConvNet(Conditioner):
    """3x3 - ReLU - 1x1 - ReLU - 3x3, Kingma and Dhariwal (2018), appendix B, without actnorm.

    Args:
      num_outputs: channels of the output.
      width: channels of the hidden layers.
      seed: seed of the initial values.
      **kwargs: other arguments of `keras.layers.Layer`, such as `dtype`.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import networks

    network = networks.build_network(networks.ConvNet(num_outputs=4, width=16), [8, 8, 2])
    network(tf.ones([5, 8, 8, 2])).shape  # [5, 8, 8, 4]
    ```
    """

    def __init__(
        self, num_outputs: int, *, width: int = 512, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__({"num_outputs": num_outputs, "width": width, "seed": seed}, **kwargs)
        conv = SeededConvs(seed, self.dtype_policy)
        self.layers = [
            conv(width, 3, activation="relu"),
            conv(width, 1, activation="relu"),
            conv.last(num_outputs, 3),
        ]

    def call(self, x: tf.Tensor, context: tf.Tensor | None = None) -> tf.Tensor:
        """Maps `[N, H, W, C]` to `[N, H, W, num_outputs]`."""
        h = join_context(x, context)
        for layer in self.layers:
            h = layer(h)
        return h
