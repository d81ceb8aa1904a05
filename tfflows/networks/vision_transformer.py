"""`VisionTransformer`: the network of couplings of tokens."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfflows.networks.transformer import TokenTransformer


@keras.saving.register_keras_serializable(package="tfflows")
class VisionTransformer(TokenTransformer):
    """Transformer whose tokens all see each other, Kolesnikov et al. (2024), section 3.

    Maps `x` `[N, T, d]`, and a context `[N, K]`, to `[N, T, num_outputs]`:

        h = dense(x) + position + dense(context)
        each layer:  h = h + attention(norm(h));  h = h + MLP(norm(h))
        output = dense(h), starting at zero

    Entries larger than 1e4 (1e3 in float16) count as that large.

    Args:
      event_shape: `[T, d]`, of that part of the tokens, or of their channels, that moves the other.
      num_outputs: outputs of a token.
      width: features of a token.
      depth: number of layers.
      head_size: features of a head of the attention; by default 64, or the largest divisor of
        `width` that is smaller.
      positions: `"learned"`, or `"rotary"`: queries and keys are turned, Su et al. (2021).
      context_size: size of a context `[N, K]`; `None` for no context.
      seed: seed of the initial values.
      **kwargs: other arguments of `keras.layers.Layer`, such as `dtype`.

    Raises:
      ValueError: if `event_shape` is not `[T, d]`, `width` no multiple of `head_size`, or
        `positions` neither of these.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import bijectors, networks
    from tfflows.bijectors import transforms

    network = networks.VisionTransformer([16, 6], num_outputs=2 * 6, width=32, seed=1)
    networks.build_network(network, [16, 6])
    flow = bijectors.Coupling(network, [16, 12], transforms.Affine("double_sigmoid"))
    flow.forward(tf.zeros([5, 16, 12])).shape  # [5, 16, 12]
    ```

    #### References

    Kolesnikov, Pinto, Tschannen, *Jet: A Modern Transformer-Based Normalizing Flow*, 2024,
    arXiv:2412.15129. Dosovitskiy et al., *An Image is Worth 16x16 Words*, ICLR 2021,
    arXiv:2010.11929. Su et al., *RoFormer*, 2021, arXiv:2104.09864.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        num_outputs: int,
        *,
        width: int = 128,
        depth: int = 2,
        head_size: int | None = None,
        positions: str = "learned",
        context_size: int | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        arguments: dict[str, Any] = {"event_shape": event_shape, "num_outputs": num_outputs}
        arguments |= {"width": width, "depth": depth, "head_size": head_size}
        arguments |= {"positions": positions, "context_size": context_size, "seed": seed}
        super().__init__(arguments, is_causal=False, **kwargs)

    @property
    def _num_outputs(self):
        return self._arguments["num_outputs"]

    def call(self, x: tf.Tensor, context: tf.Tensor | None = None) -> tf.Tensor:
        """Maps `[N, T, d]`, and a context `[N, K]`, to `[N, T, num_outputs]`."""
        h = self._embed(x, self.positions, self._embed_context(context))
        for block in self.blocks:
            h = block(h)
        return self.last(h)
