"""What transformers of tokens are made of: blocks of attention, causal or not, and positions."""

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfflows.networks.building import Conditioner, Dense, context_layer, softmax
from tfflows.numerics.parameters import as_known_shape

POSITIONS = ("learned", "rotary")
_EPSILON = 1e-6
# A token that is still to be found may be anything; what it is must not overflow.
_LARGEST = {"float16": 1e3}


class TransformerBlock(keras.layers.Layer):
    """Attention and a multilayer perceptron, each added to its input, which is normalised before.

        h = h + dense(attention(norm(h)))
        h = h + dense(gelu(dense(norm(h)))),   4 width units

    Args:
      width: features of a token.
      head_size: features of a head, a divisor of `width`; see `default_head_size`.
      is_causal: whether a token sees itself and those before it alone; `False` for all.
      rotary: `None`, or `rotations(...)`, by which queries and keys are turned.
      seeds: a generator of the seeds of the initial values.
      **kwargs: other arguments of `keras.layers.Layer`, such as `dtype`.
    """

    def __init__(
        self,
        width: int,
        head_size: int,
        *,
        is_causal: bool,
        seeds: np.random.Generator,
        rotary: np.ndarray | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._width, self._head_size = width, head_size
        self._is_causal, self._rotary = is_causal, rotary

        def dense(size, activation=None):
            start = keras.initializers.GlorotUniform(int(seeds.integers(2**31)))
            return Dense(size, activation, kernel_initializer=start, dtype=self.dtype_policy)

        def norm():
            return keras.layers.LayerNormalization(epsilon=_EPSILON, dtype=self.dtype_policy)

        self.attention_norm, self.projection = norm(), dense(3 * width)
        self.attention_last = dense(width)
        self.hidden_norm, self.hidden, self.last = norm(), dense(4 * width, "gelu"), dense(width)

    def call(self, h: tf.Tensor) -> tf.Tensor:
        """Maps `[N, T, width]` to the same."""
        queries, keys, values = self._project(h, self._rotary)
        positions = tf.range(h.shape[1])  # An array of T^2 would be part of every graph.
        mask = positions[:, tf.newaxis] >= positions if self._is_causal else None
        return self._add(h, queries, keys, values, mask)

    def step(
        self, h: tf.Tensor, index: tf.Tensor, cache: tuple[tf.Tensor, tf.Tensor]
    ) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
        """Does the same for one token, given the keys and values of those before it.

        Args:
          h: `[N, 1, width]`.
          index: number of the token, a scalar.
          cache: keys and values, `[N, heads, T, head_size]`.

        Returns:
          `[N, 1, width]`, and the cache with the keys and values of the token.
        """
        positions = tf.range(cache[0].shape[2])
        rotary = None if self._rotary is None else tf.gather(self._rotary, [index], axis=1)
        queries, *new = self._project(h, rotary)
        here = tf.equal(positions, index)[:, tf.newaxis]
        keys, values = (tf.where(here, n, old) for n, old in zip(new, cache, strict=True))
        return self._add(h, queries, keys, values, positions <= index), (keys, values)

    def empty_cache(self, num_rows: tf.Tensor, num_tokens: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns a cache for `step`, of `N` sequences of `T` tokens."""
        heads = self._width // self._head_size
        shape = [num_rows, heads, num_tokens, self._head_size]
        zeros = tf.zeros(shape, self.compute_dtype)
        zeros.set_shape([tf.get_static_value(num_rows), *shape[1:]])
        return zeros, zeros

    def _project(self, h, rotary):
        """Returns queries, keys and values of tokens, each `[N, heads, T, head_size]`."""
        heads, tokens = self._width // self._head_size, h.shape[1]
        parts = self.projection(self.attention_norm(h))
        parts = keras.ops.reshape(parts, [-1, tokens, 3 * heads, self._head_size])
        parts = keras.ops.transpose(parts, [0, 2, 1, 3])
        queries, keys, values = keras.ops.split(parts, 3, axis=1)
        if rotary is not None:
            queries, keys = _rotate(queries, rotary), _rotate(keys, rotary)
        return queries, keys, values

    def _add(self, h, queries, keys, values, mask):
        """Returns `h` with what the attention and the perceptron add."""
        messages = keras.ops.transpose(_attend(queries, keys, values, mask), [0, 2, 1, 3])
        h = h + self.attention_last(keras.ops.reshape(messages, [-1, h.shape[1], self._width]))
        return h + self.last(self.hidden(self.hidden_norm(h)))


def _attend(queries, keys, values, mask):
    """Returns the means of values, weighted; the weights are at least float32."""
    scores = keras.ops.matmul(queries, keras.ops.transpose(keys, [0, 1, 3, 2]))
    is_low = scores.dtype in ("float16", "bfloat16")
    scores = keras.ops.cast(scores, "float32" if is_low else scores.dtype)
    scores = scores / math.sqrt(queries.shape[-1])
    if mask is not None:  # Then the weights are 0 to the last bit.
        scores = keras.ops.where(mask, scores, -1e9)
    return keras.ops.matmul(keras.ops.cast(softmax(scores), values.dtype), values)


class TokenTransformer(Conditioner):
    """Base of the transformers of tokens: an embedding, blocks, and a last layer, zero at first.

    Args:
      arguments: those of the constructor: `event_shape` `[T, d]`, `width`, `depth`, `head_size`,
        `positions`, `context_size` and `seed`, see `CausalTransformer`; and others.
      is_causal: see `TransformerBlock`.
      **kwargs: other arguments of `keras.layers.Layer`, such as `dtype`.
    """

    def __init__(self, arguments: Mapping[str, Any], *, is_causal: bool, **kwargs: Any) -> None:
        shape = as_known_shape(arguments["event_shape"], "event_shape", "[T, d]")
        super().__init__({**arguments, "event_shape": shape}, **kwargs)
        width, seed = self._arguments["width"], self._arguments["seed"]
        self._shape = tuple(shape)
        head = _check_heads(width, self._arguments["head_size"], arguments["positions"])
        seeds = np.random.default_rng(seed)

        def start(initializer, *args):
            return initializer(*args, seed=int(seeds.integers(2**31)))

        self.first = Dense(
            width,
            kernel_initializer=start(keras.initializers.GlorotUniform),
            dtype=self.dtype_policy,
        )
        rotary, self.positions = None, None
        if arguments["positions"] == "learned":
            deviation = start(keras.initializers.RandomNormal, 0.0, 0.01)
            self.positions = self.add_weight(
                shape=[shape[0], width], initializer=deviation, name="positions"
            )
        else:
            rotary = rotations(shape[0], head)
        if self._arguments["context_size"] is not None:
            self.context_layer = context_layer(width, seed, self.dtype_policy)
        self.blocks = [
            TransformerBlock(
                width,
                head,
                is_causal=is_causal,
                seeds=seeds,
                rotary=rotary,
                dtype=self.dtype_policy,
            )
            for _ in range(self._arguments["depth"])
        ]
        self.last = Dense(self._num_outputs, kernel_initializer="zeros", dtype=self.dtype_policy)

    @property
    def _num_outputs(self):
        """Outputs of a token."""
        raise NotImplementedError

    def _check_inputs(self, x, context=None):
        super()._check_inputs(x, context)
        for name, value, shape in (("x", x, ["N", *self._shape]), ("context", context, ["N", "K"])):
            given = None if value is None else tf.TensorShape(value.shape)
            wanted = [None if isinstance(size, str) else size for size in shape]
            if given is not None and not given.is_compatible_with(wanted):
                raise ValueError(
                    f"`{name}` of `{type(self).__name__}` must have shape "
                    f"[{', '.join(map(str, shape))}]. Received: {name}.shape={tuple(given)}."
                )

    def _embed_context(self, context):
        """Returns what a context adds to every token, `[N, 1, width]`, or `None`."""
        if self._arguments["context_size"] is None:
            return None
        context = keras.ops.cast(context, self.compute_dtype)
        return self.context_layer(context)[:, tf.newaxis]

    def _embed(self, tokens, positions, given):
        """Returns the features of tokens `[N, n, d]`."""
        largest = _LARGEST.get(self.compute_dtype, 1e4)
        h = self.first(keras.ops.clip(tokens, -largest, largest))
        if positions is not None:
            h = h + keras.ops.cast(positions, h.dtype)
        return h if given is None else h + given


def rotations(num_tokens: int, head_size: int) -> np.ndarray:
    """Returns cosines and sines by which queries and keys are turned, `[2, T, head_size / 2]`.

    Su et al., *RoFormer*, arXiv:2104.09864: products of the turned depend on the distance of two
    tokens, not on where they are.
    """
    rates = 1e4 ** (-np.arange(0, head_size, 2) / head_size)
    angles = np.arange(num_tokens)[:, np.newaxis] * rates
    return np.stack([np.cos(angles), np.sin(angles)])


def _rotate(x, rotary):
    cosines, sines = (keras.ops.cast(part, x.dtype) for part in (rotary[0], rotary[1]))
    first, second = keras.ops.split(x, 2, axis=-1)
    turned = [first * cosines - second * sines, first * sines + second * cosines]
    return keras.ops.concatenate(turned, axis=-1)


def default_head_size(width: int) -> int:
    """Returns the largest divisor of a width that is at most 64."""
    return max(size for size in range(1, min(width, 64) + 1) if width % size == 0)


def _check_heads(width: int, head_size: int | None, positions: str) -> int:
    """Returns the features of a head.

    Raises:
      ValueError: if they don't divide `width`, or can't be turned in pairs.
    """
    if positions not in POSITIONS:
        raise ValueError(
            f"`positions` must be one of {', '.join(POSITIONS)}. Received: positions={positions!r}."
        )
    size = default_head_size(width) if head_size is None else head_size
    if width % size:
        raise ValueError(
            "`width` must be a multiple of `head_size`. "
            f"Received: width={width}, head_size={head_size}."
        )
    if positions == "rotary" and size % 2:
        raise ValueError(
            f"`head_size` must be even for rotary positions. Received: head_size={size}."
        )
    return size
