"""What the networks share: seeded layers, context, building."""

import functools
from collections.abc import Mapping
from typing import Any, TypeVar

import keras
import numpy as np
import tensorflow as tf

from tfflows.evaluation.network_calls import NetworkModule
from tfflows.numerics.parameters import as_data, is_integer
from tfflows.numerics.rows import with_rows
from tfflows.types import KnownShape, TensorLike

_Layer = TypeVar("_Layer", bound=keras.layers.Layer)


def build_network(
    network: _Layer, input_shape: KnownShape, context_shape: KnownShape | None = None
) -> _Layer:
    """Applies `network` to zeros once, so that its variables exist, and returns it.

    Args:
      network: a Keras layer that takes `x` or `(x, context)`.
      input_shape: shape of `x` without the batch dimension.
      context_shape: the same for the context; `None` if there is none.
    """
    shapes = [list(s) for s in (input_shape, context_shape) if s is not None]
    network(*[tf.zeros([1, *shape]) for shape in shapes])
    network._build_shapes = shapes
    network.context_shape = None if context_shape is None else tuple(shapes[1])
    return network


def as_module(network: keras.layers.Layer) -> NetworkModule:
    """Returns a Keras layer as a callable `tf.Module`, whose variables TFP finds.

    A bijector of TFP that takes a function, such as `tfb.MaskedAutoregressiveFlow`, finds no
    variables in a layer of Keras 3. (Those of tfflows find them.)

    Args:
      network: a Keras layer that is built.
    """
    return NetworkModule(network)


class Conditioner(keras.layers.Layer):
    """Base of the networks: a layer that Keras can save, from the arguments of its constructor.

    Args:
      arguments: what `get_config` adds to that of Keras.
      **kwargs: arguments of `keras.layers.Layer`.
    """

    seeds_initial_values = True  # And nothing else: layers with other seeds compute the same.
    takes_empty_batches = True
    takes_other_contexts = False  # Without a `context_size`.

    def __init__(self, arguments: Mapping[str, Any], **kwargs: Any) -> None:
        checked = {name: _checked(name, value) for name, value in arguments.items()}
        super().__init__(**kwargs)
        self._arguments = checked

    def __call__(
        self, x: TensorLike, context: TensorLike | None = None, **kwargs: Any
    ) -> tf.Tensor | keras.KerasTensor:
        """Calls the layer, of an empty batch too.

        Raises:
          ValueError: if there is no context where the layer has a `context_size`, or one of another
            size, or one where it has none.
        """
        inputs = [x] if context is None else [x, context]
        inputs = [as_data(a, tf.float32) if isinstance(a, list) else a for a in inputs]
        self._check_inputs(*inputs)
        return with_rows(functools.partial(super().__call__, **kwargs), *inputs)

    def _check_inputs(self, x, context=None):
        """Refuses a context that the network was not made for: it would count for nothing."""
        size = self._arguments.get("context_size")
        if context is None and size is not None:
            raise ValueError(
                f"`context` of `{type(self).__name__}` must be given, as `context_size` is. "
                f"Received: context=None, context_size={size}."
            )
        if context is None or "context_size" not in self._arguments:
            return
        is_other = size is None and not self.takes_other_contexts
        if is_other or (size is not None and _last_size(context) not in (size, None)):
            raise ValueError(
                f"`context` of `{type(self).__name__}` must be of size `context_size`. "
                f"Received: context.shape={tuple(context.shape)}, context_size={size}."
            )

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), **self._arguments}

    def get_build_config(self) -> dict[str, Any] | None:
        """Returns the shapes of the arguments that the layer was built with."""
        return {"shapes": self._build_shapes} if self.built else None

    def build_from_config(self, config: Mapping[str, Any]) -> None:
        """Builds the layer for the shapes of `get_build_config`."""
        build_network(self, *config["shapes"])


# The least that an argument may be which is a number of something, and those that may be `None`.
_LEAST = dict.fromkeys(["width", "num_outputs", "num_params", "num_dims", "num_channels"], 1)
_LEAST |= dict.fromkeys(["context_size", "head_size", "num_heads", "growth", "reduction"], 1)
_LEAST |= {"bottleneck": 1, "depth": 0, "num_blocks": 0, "seed": 0}
_MAY_BE_NONE = ("bottleneck", "context_size", "head_size", "seed")


def _checked(name, value):
    """Returns the argument of a network, which has to be a number if it says how many there are."""
    least = _LEAST.get(name)
    if least is None or (value is None and name in _MAY_BE_NONE):
        return value
    if not is_integer(value) or value < least:
        what = "a positive integer" if least else "an integer, 0 or more"
        what += ", or None" if name in _MAY_BE_NONE else ""
        raise ValueError(f"`{name}` must be {what}. Received: {name}={value!r}.")
    return int(value)


def _last_size(x):
    """Returns the last size of a tensor, `None` if it is not known, -1 of a number."""
    shape = x.shape
    if getattr(shape, "rank", 0) is None:
        return None
    return shape[-1] if len(shape) else -1


class Dense(keras.layers.Dense):
    """A dense layer whose product has two dimensions: see `numerics/linalg.py`."""

    def call(self, x: tf.Tensor, *args: Any, **kwargs: Any) -> tf.Tensor:
        """Maps `[..., C]` to `[..., units]`."""
        if x.shape.rank == 2:
            return super().call(x, *args, **kwargs)
        y = super().call(keras.ops.reshape(x, [-1, x.shape[-1]]), *args, **kwargs)
        return keras.ops.reshape(y, [*keras.ops.shape(x)[:-1], self.units])


class PointwiseConv2D(keras.layers.Conv2D):
    """A 1x1 convolution as a product of matrices: faster on a CPU, most of all its gradients."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Maps `[N, H, W, C]` to `[N, H, W, filters]`."""
        # Bias and activation before the shape: TensorFlow makes the three one operation.
        flat = keras.ops.reshape(x, [-1, x.shape[-1]])
        y = self.activation(keras.ops.matmul(flat, self.kernel[0, 0]) + self.bias)
        return keras.ops.reshape(y, [*keras.ops.shape(x)[:-1], self.filters])


class SeededConvs:
    """Makes convolutions whose initial values follow from one seed.

    Args:
      seed: Python `int`, or `None` for fresh values.
      dtype: Keras dtype policy of the layers.
    """

    def __init__(self, seed: int | None, dtype: keras.DTypePolicy) -> None:
        self._seeds = np.random.default_rng(seed)
        self._dtype = dtype

    def __call__(
        self, filters: int, kernel_size: int, activation: str | None = None
    ) -> keras.layers.Conv2D:
        """Returns a `Conv2D` with He initialisation."""
        seed = int(self._seeds.integers(2**31))
        kind = PointwiseConv2D if kernel_size == 1 else keras.layers.Conv2D
        return kind(
            filters,
            kernel_size,
            padding="same",
            data_format="channels_last",  # Whatever Keras's configuration says.
            activation=activation,
            kernel_initializer=keras.initializers.HeNormal(seed),
            dtype=self._dtype,
        )

    def last(self, filters: int, kernel_size: int) -> keras.layers.Conv2D:
        """Returns a `Conv2D` that starts at zero."""
        return keras.layers.Conv2D(
            filters,
            kernel_size,
            padding="same",
            data_format="channels_last",
            kernel_initializer="zeros",
            dtype=self._dtype,
        )


def context_layer(units: int, seed: int | None, dtype: Any) -> Dense:
    """Returns a dense layer without a bias, for what a context adds to hidden units.

    Args:
      units: number of units.
      seed: seed of the network that it is a part of.
      dtype: Keras dtype policy.
    """
    start = keras.initializers.GlorotNormal(None if seed is None else seed + 1)
    return Dense(units, use_bias=False, kernel_initializer=start, dtype=dtype)


def softmax(scores: tf.Tensor) -> tf.Tensor:
    """Returns weights that sum to 1 over the last axis; Keras warns of an axis of one entry."""
    return keras.ops.ones_like(scores) if scores.shape[-1] == 1 else keras.ops.softmax(scores)


def join_context(x: tf.Tensor, context: tf.Tensor | None) -> tf.Tensor:
    """Concatenates a context to the channels of `x`, such as `[N, H, W, C]`.

    A context `[N, D]` is repeated at every position; one of images that are larger than these is
    averaged down by whole factors.

    Raises:
      ValueError: if the context is an image whose sides are no multiples of those of `x`.
    """
    if context is None:
        return x
    context = keras.ops.cast(context, x.dtype)
    if context.shape.rank == 2:
        if positions := x.shape[1:-1]:
            context = keras.ops.reshape(context, [-1, *[1] * len(positions), context.shape[-1]])
            context = keras.ops.tile(context, (1, *positions, 1))
        return keras.ops.concatenate([x, context], axis=-1)
    height, width = x.shape[1:3]
    factors = (context.shape[1] // height, context.shape[2] // width)
    if (height * factors[0], width * factors[1]) != tuple(context.shape[1:3]):
        raise ValueError(
            "`context` must be a vector or an image whose sides are multiples of the input's. "
            f"Received: context.shape={tuple(context.shape)}, x.shape={tuple(x.shape)}."
        )
    if factors != (1, 1):
        context = keras.ops.average_pool(context, factors, factors, data_format="channels_last")
    return keras.ops.concatenate([x, context], axis=-1)
