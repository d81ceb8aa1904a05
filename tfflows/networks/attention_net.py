"""`AttentionNet`: the conditioner of the volume-balanced flow."""

from typing import Any

import keras
import tensorflow as tf

from tfflows.networks.building import Conditioner, SeededConvs, join_context


@keras.saving.register_keras_serializable(package="tfflows")
class AttentionNet(Conditioner):
    """Residual network with channel attention, Liao and He (2021), appendix C.

        h = conv3x3(x)
        h = h + attention(conv1x1(relu(conv3x3(relu(conv1x1(relu(h)))))))   the bottleneck
        output = conv1x1(attention(relu(conv1x1(relu(h))))), starting at zero
        attention(h) = h sigmoid(dense(relu(dense(mean of h over the positions))))

    The paper leaves open the width of the bottleneck, how far the attention narrows and where the
    ReLUs are.

    Args:
      num_outputs: channels of the output.
      width: channels of `h`.
      bottleneck: channels inside the bottleneck; by default half of `width`.
      reduction: factor by which the attention narrows.
      seed: seed of the initial values.
      **kwargs: other arguments of `keras.layers.Layer`, such as `dtype`.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import networks

    network = networks.build_network(networks.AttentionNet(num_outputs=4, width=16), [8, 8, 2])
    network(tf.ones([5, 8, 8, 2])).shape  # [5, 8, 8, 4]
    ```

    #### References

    Liao, He, *Jacobian Determinant of Normalizing Flows*, 2021, arXiv:2102.06539. Hu, Shen, Sun,
    *Squeeze-and-Excitation Networks*, CVPR 2018, arXiv:1709.01507.
    """

    def __init__(
        self,
        num_outputs: int,
        *,
        width: int = 128,
        bottleneck: int | None = None,
        reduction: int = 16,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            dict(
                num_outputs=num_outputs,
                width=width,
                bottleneck=bottleneck,
                reduction=reduction,
                seed=seed,
            ),
            **kwargs,
        )
        conv = SeededConvs(seed, self.dtype_policy)
        inner = bottleneck or max(1, width // 2)
        self.first = conv(width, 3)
        self.bottleneck = [conv(inner, 1, "relu"), conv(inner, 3, "relu"), conv(width, 1)]
        self.hidden = conv(width, 1, "relu")
        # A dense layer at every position of a 1x1 image is a 1x1 convolution.
        self.attention = [
            (conv(max(1, width // reduction), 1, "relu"), conv(width, 1, "sigmoid"))
            for _ in range(2)
        ]
        self.last = conv.last(num_outputs, 1)

    def _attend(self, h, layers):
        narrow, wide = layers
        return h * wide(narrow(keras.ops.mean(h, axis=(1, 2), keepdims=True)))

    def call(self, x: tf.Tensor, context: tf.Tensor | None = None) -> tf.Tensor:
        """Maps `[N, H, W, C]` to `[N, H, W, num_outputs]`."""
        h = self.first(join_context(x, context))
        inner = keras.ops.relu(h)
        for layer in self.bottleneck:
            inner = layer(inner)
        h = h + self._attend(inner, self.attention[0])
        h = self._attend(self.hidden(keras.ops.relu(h)), self.attention[1])
        return self.last(h)
