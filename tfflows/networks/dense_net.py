"""`DenseNet`: the conditioner of the mixing experiment of Hoogeboom et al. (2020)."""

from typing import Any

import keras
import tensorflow as tf

from tfflows.networks.building import Conditioner, SeededConvs, join_context


@keras.saving.register_keras_serializable(package="tfflows")
class DenseNet(Conditioner):
    """A densely connected block inside a residual connection, as in Hoogeboom et al. (2020).

        h = conv1x1(x)                                       width channels
        for i < depth:  d = concat(d, relu(conv3x3(relu(conv1x1(d)))))   growth more channels
        (a, b, c) = conv1x1(d);  h = h + a + b sigmoid(c)    the gated convolution
        output = conv1x1(h), starting at zero

    Args:
      num_outputs: channels of the output.
      width: channels of `h`.
      depth: number of dense layers.
      growth: channels that each dense layer adds.
      seed: seed of the initial values.
      **kwargs: other arguments of `keras.layers.Layer`, such as `dtype`.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import networks

    network = networks.DenseNet(num_outputs=4, width=16, depth=2, growth=8)
    networks.build_network(network, [8, 8, 2])(tf.ones([5, 8, 8, 2])).shape  # [5, 8, 8, 4]
    ```
    """

    def __init__(
        self,
        num_outputs: int,
        *,
        width: int = 64,
        depth: int = 8,
        growth: int = 64,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            dict(num_outputs=num_outputs, width=width, depth=depth, growth=growth, seed=seed),
            **kwargs,
        )
        conv = SeededConvs(seed, self.dtype_policy)
        self.first = conv(width, 1)
        channels = [width + growth * i for i in range(depth)]
        self.dense = [(conv(c, 1, "relu"), conv(growth, 3, "relu")) for c in channels]
        self.gated = conv(3 * width, 1)
        self.last = conv.last(num_outputs, 1)

    def call(self, x: tf.Tensor, context: tf.Tensor | None = None) -> tf.Tensor:
        """Maps `[N, H, W, C]` to `[N, H, W, num_outputs]`."""
        h = self.first(join_context(x, context))
        d = h
        for bottleneck, grow in self.dense:
            d = keras.ops.concatenate([d, grow(bottleneck(d))], axis=-1)
        a, b, c = keras.ops.split(self.gated(d), 3, axis=-1)
        return self.last(h + a + b * keras.ops.sigmoid(c))
