"""`GatedResNet`: residual blocks with gates."""

from typing import Any

import keras
import tensorflow as tf

from tfflows.networks.building import Conditioner, SeededConvs, join_context


@keras.saving.register_keras_serializable(package="tfflows")
class GatedResNet(Conditioner):
    """Residual network whose blocks decide by a gate how much they add.

        h = conv3x3(x)
        each block:  (a, b) = conv1x1(relu(conv3x3(relu(h))));  h = h + a sigmoid(b)
        output = conv3x3(relu(h)), starting at zero

    Args:
      num_outputs: channels of the output.
      width: channels of `h`.
      num_blocks: number of residual blocks.
      seed: seed of the initial values.
      **kwargs: other arguments of `keras.layers.Layer`, such as `dtype`.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import networks

    network = networks.build_network(networks.GatedResNet(num_outputs=4, width=16), [8, 8, 2])
    network(tf.ones([5, 8, 8, 2])).shape  # [5, 8, 8, 4]
    ```
    """

    def __init__(
        self,
        num_outputs: int,
        *,
        width: int = 64,
        num_blocks: int = 1,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            dict(num_outputs=num_outputs, width=width, num_blocks=num_blocks, seed=seed), **kwargs
        )
        conv = SeededConvs(seed, self.dtype_policy)
        self.first = conv(width, 3)
        self.blocks = [(conv(width, 3, "relu"), conv(2 * width, 1)) for _ in range(num_blocks)]
        self.last = conv.last(num_outputs, 3)

    def call(self, x: tf.Tensor, context: tf.Tensor | None = None) -> tf.Tensor:
        """Maps `[N, H, W, C]` to `[N, H, W, num_outputs]`."""
        h = self.first(join_context(x, context))
        for hidden, gated in self.blocks:
            a, b = keras.ops.split(gated(hidden(keras.ops.relu(h))), 2, axis=-1)
            h = h + a * keras.ops.sigmoid(b)
        return self.last(keras.ops.relu(h))
