"""`GraphNet`: the conditioner of graph flows, message passing with attention."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfflows.networks.building import Conditioner, Dense, join_context, softmax
from tfflows.types import TensorLike


@keras.saving.register_keras_serializable(package="tfflows")
class GraphNet(Conditioner):
    """Message passing with attention over the neighbours of each node.

        h = dense(silu(dense(x)))                                        width features a node
        each layer:  m_i = sum_j softmax_j(q_i . k_j / sqrt(d)) v_j      over the neighbours j of i
                     h = h + dense(silu(dense([h, m])))
        output = dense(h), starting at zero

    with q, k, v dense functions of h in several heads of d features. The neighbours of a node are
    the entries of its row that are not 0; without a graph all nodes, itself among them. Nodes in
    another order give the same output in that order.

    A node whose row has no entry is padding: its output is 0, so that a coupling leaves it where it
    is, with no log-det (a `scale` other than `"sigmoid"`), and nobody listens to it. A real node
    without neighbours needs a self loop.

    Args:
      num_outputs: features of the output.
      width: features of `h`, a multiple of `num_heads`.
      depth: number of layers.
      num_heads: number of heads of the attention.
      adjacency: the graph `[N, N]`, if it is always the same and no context; `None` otherwise.
      context_size: size of a context `[B, K]`, which every node gets as further features; the
        graph is no context then. `None` for no such context.
      seed: seed of the initial values.
      **kwargs: other arguments of `keras.layers.Layer`, such as `dtype`.

    Raises:
      ValueError: if `width` is no multiple of `num_heads`.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import networks

    network = networks.build_network(networks.GraphNet(num_outputs=4, width=8), [6, 3])
    network(tf.ones([5, 6, 3])).shape  # [5, 6, 4]: of complete graphs of 6 nodes
    ```

    #### References

    Liu, Kumar, Ba, Kiros, Swersky, *Graph Normalizing Flows*, NeurIPS 2019, arXiv:1905.13177.
    Velickovic et al., *Graph Attention Networks*, ICLR 2018, arXiv:1710.10903; the products of
    queries and keys are those of Vaswani et al., NeurIPS 2017, arXiv:1706.03762.
    """

    takes_other_contexts = True  # Graphs.

    def __init__(
        self,
        num_outputs: int,
        *,
        width: int = 64,
        depth: int = 2,
        num_heads: int = 4,
        adjacency: TensorLike | None = None,
        context_size: int | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        graph = None if adjacency is None else np.asarray(adjacency)
        super().__init__(
            dict(
                num_outputs=num_outputs,
                width=width,
                depth=depth,
                num_heads=num_heads,
                adjacency=None if graph is None else graph.tolist(),
                context_size=context_size,
                seed=seed,
            ),
            **kwargs,
        )
        if width % num_heads:
            raise ValueError(
                "`width` must be a multiple of `num_heads`. "
                f"Received: width={width}, num_heads={num_heads}."
            )
        self._width, self._num_heads = width, num_heads
        self._graph = None if graph is None else graph != 0
        seeds = np.random.default_rng(seed)

        def dense(size, activation=None):
            start = keras.initializers.HeNormal(int(seeds.integers(2**31)))
            return Dense(size, activation, kernel_initializer=start, dtype=self.dtype_policy)

        self.first = [dense(width, "silu"), dense(width)]
        self.layers = [(dense(3 * width), dense(width, "silu"), dense(width)) for _ in range(depth)]
        self.last = Dense(num_outputs, kernel_initializer="zeros", dtype=self.dtype_policy)

    def call(self, x: tf.Tensor, context: tf.Tensor | None = None) -> tf.Tensor:
        """Maps `[B, N, F]`, and a graph `[B, N, N]` or context, to `[B, N, num_outputs]`."""
        edges = None if self._graph is None else keras.ops.convert_to_tensor(self._graph)[None]
        if self._arguments["context_size"] is not None:
            x = join_context(x, context)
        elif context is not None:
            edges = keras.ops.not_equal(context, 0)
        h = x
        for layer in self.first:
            h = layer(h)
        for attention, hidden, last in self.layers:
            messages = self._attend(attention(h), edges)
            h = h + last(hidden(keras.ops.concatenate([h, messages], axis=-1)))
        output = self.last(h)
        if edges is None:
            return output
        return output * keras.ops.cast(keras.ops.any(edges, -1, keepdims=True), output.dtype)

    def _attend(self, projected, edges):
        """Returns the messages `[B, N, width]` from queries, keys and values side by side."""
        nodes, depth = projected.shape[1], self._width // self._num_heads
        parts = keras.ops.reshape(projected, [-1, nodes, 3 * self._num_heads, depth])
        parts = keras.ops.transpose(parts, [0, 2, 1, 3])
        queries, keys, values = keras.ops.split(parts, 3, axis=1)
        scores = keras.ops.matmul(queries, keras.ops.transpose(keys, [0, 1, 3, 2])) / depth**0.5
        if edges is not None:
            scores = keras.ops.where(edges[:, None], scores, -1e9)
        messages = keras.ops.matmul(softmax(scores), values)
        if edges is not None:  # Over no neighbours softmax is uniform over all.
            messages *= keras.ops.cast(keras.ops.any(edges, -1)[:, None, :, None], messages.dtype)
        messages = keras.ops.transpose(messages, [0, 2, 1, 3])
        return keras.ops.reshape(messages, [-1, nodes, self._width])
