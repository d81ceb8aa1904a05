"""`CausalTransformer`: the network of transformer flows."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfflows.networks.transformer import TokenTransformer


@keras.saving.register_keras_serializable(package="tfflows")
class CausalTransformer(TokenTransformer):
    """Transformer whose output for a token depends on the tokens before it alone.

    Maps `x` `[N, T, d]` to `[N, T, d, num_params]`, Zhai et al. (2024), section 2.2:

        h_i = dense(x_{i-1}) + position_i + dense(context),   x_{-1} = 0
        each layer:  h = h + attention(norm(h)), over the tokens 0 .. i;  h = h + MLP(norm(h))
        output = dense(h), starting at zero

    so that the Jacobian of output `i` by token `j >= i` is zero to the last bit. What comes out for
    the first token is learned, and depends on the context alone: the paper's transformer shifts
    its output by a token instead, and leaves the first as it is.

    Tokens larger than 1e4 (1e3 in float16) count as that large.

    Args:
      event_shape: `[T, d]`.
      num_params: parameters of each entry.
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

    network = networks.CausalTransformer([16, 4], num_params=2, width=32, seed=1)
    networks.build_network(network, [16, 4])
    flow = bijectors.Autoregressive(network, [16, 4], transforms.Affine("exp"))
    flow.forward(tf.zeros([5, 16, 4])).shape  # [5, 16, 4]
    ```

    #### References

    Zhai et al., *Normalizing Flows are Capable Generative Models*, 2024, arXiv:2412.06329. Gu et
    al., *STARFlow: Scaling Latent Normalizing Flows for High-resolution Image Synthesis*, 2025,
    arXiv:2506.06276. Su et al., *RoFormer*, 2021, arXiv:2104.09864.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        num_params: int,
        *,
        width: int = 128,
        depth: int = 2,
        head_size: int | None = None,
        positions: str = "learned",
        context_size: int | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        arguments: dict[str, Any] = {"event_shape": event_shape, "num_params": num_params}
        arguments |= {"width": width, "depth": depth, "head_size": head_size}
        arguments |= {"positions": positions, "context_size": context_size, "seed": seed}
        super().__init__(arguments, is_causal=True, **kwargs)

    @property
    def _num_outputs(self):
        return self._shape[1] * self._arguments["num_params"]

    def call(self, x: tf.Tensor, context: tf.Tensor | None = None) -> tf.Tensor:
        """Maps `[N, T, d]`, and a context `[N, K]`, to `[N, T, d, num_params]`."""
        before = keras.ops.pad(x[:, :-1], [[0, 0], [1, 0], [0, 0]])
        h = self._embed(before, self.positions, self._embed_context(context))
        for block in self.blocks:
            h = block(h)
        return self._parameters(h)

    def decode(
        self,
        move: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
        y: tf.Tensor,
        context: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Returns `x` with `x_i = move(y_i, output of x_0 .. x_{i-1})`, one token after the other.

        One loop, which keeps the keys and values of the tokens that are found.

        Args:
          move: maps tokens `[N, d]` and parameters `[N, d, num_params]` to tokens `[N, d]`.
          y: `[N, T, d]`.
          context: `[N, K]`.
        """
        tokens, size = self._shape
        given = self._embed_context(context)
        by_token = tf.transpose(y, [1, 0, 2])

        def body(i, token, found, caches):
            position = None if self.positions is None else tf.gather(self.positions, [i])
            h, new = self._embed(token[:, tf.newaxis], position, given), []
            for block, cache in zip(self.blocks, caches, strict=True):
                h, cache = block.step(h, i, cache)
                new.append(cache)
            parameters = tf.cast(self._parameters(h)[:, 0], y.dtype)
            token = tf.ensure_shape(move(by_token[i], parameters), token.shape)
            return i + 1, token, found.write(i, token), new

        shape = [y.shape[0], size]
        start = (
            tf.constant(0),
            tf.zeros_like(y[:, 0]),
            tf.TensorArray(y.dtype, tokens, element_shape=shape),
            [block.empty_cache(tf.shape(y)[0], tokens) for block in self.blocks],
        )
        *_, found, _ = tf.while_loop(
            lambda i, *_: i < tokens, body, start, maximum_iterations=tokens
        )
        return tf.transpose(found.stack(), [1, 0, 2])

    def _parameters(self, h):
        output = self.last(h)
        shape = [-1, h.shape[1], self._shape[1], self._arguments["num_params"]]
        return keras.ops.reshape(output, shape)
