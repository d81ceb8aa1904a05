"""Parameters and seeds as the constructors take them."""

import numbers
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from tfflows.types import DTypeLike, Parameter, Seed, Shape, Structure, TensorLike


def normal_variable(
    shape: Sequence[int], stddev: TensorLike, seed: Seed, dtype: DTypeLike, name: str
) -> tf.Variable:
    """Returns a `tf.Variable` drawn from `N(0, stddev^2)`.

    Args:
      shape: shape of the variable.
      stddev: standard deviation.
      seed: Python `int` or a stateless seed; `None` for a fresh one.
      dtype: a floating dtype.
      name: name of the variable.
    """
    value = tf.random.stateless_normal(shape, stateless_seed(seed), dtype=dtype)
    return tf.Variable(stddev * value, name=name)


def as_event_shape(event_shape: Shape) -> list[Any]:
    """Returns the shape of an event as a list, of known channels, its last size.

    Raises:
      ValueError: if it is something else.
    """
    sizes = _sizes_of(event_shape)
    if not sizes or not sizes[-1]:
        raise ValueError(
            "`event_shape` must be the shape of an event, such as [H, W, C], with the last size "
            f"known. Received: event_shape={event_shape!r}."
        )
    return sizes


def as_known_shape(value: Shape, name: str, axes: str = "") -> list[int]:
    """Returns a shape as a list of positive integers.

    Args:
      value: the shape.
      name: name of the argument that it is.
      axes: what its sizes are, such as "[H, W, C]", which says how many there are; by default any.

    Raises:
      ValueError: if it is something else.
    """
    sizes = _sizes_of(value)
    wanted = len(axes.split(",")) if axes else len(sizes)
    if not sizes or len(sizes) != wanted or not all(sizes):
        raise ValueError(
            f"`{name}` must be {axes or 'a shape'}, positive integers, all of them known. "
            f"Received: {name}={value!r}."
        )
    return sizes


def _sizes_of(shape):
    """Returns a shape as a list, empty if it is none."""
    try:
        return tf.TensorShape(shape).as_list()
    except (TypeError, ValueError):
        return []


def stateless_seed(seed: Seed) -> list[int] | tf.Tensor:
    """Returns a stateless seed: the same at every call for an `int`, a fresh one for `None`."""
    # TFP counts the uses of an `int` seed: its second use would give other values.
    return [0, seed] if isinstance(seed, int) else tfp.random.sanitize_seed(seed)


def as_parameter(value: TensorLike, dtype: DTypeLike | None = None) -> Parameter:
    """Returns `value` itself if it is a tensor, variable or deferred tensor; else converts it.

    Converting a `tf.Variable` would read it once and lose the reference that gradients and
    `assign` need.
    """
    if isinstance(value, tf.Variable | tfp.util.DeferredTensor) or tf.is_tensor(value):
        return value
    return tf.convert_to_tensor(value, dtype_hint=dtype or tf.float32)


def as_data(value: TensorLike, dtype: tf.DType | Structure = None) -> tf.Tensor:
    """Returns data as a `Tensor`: arrays and lists in `dtype`, or if it is `None` in their own."""
    if tf.is_tensor(value):
        return value
    return tf.convert_to_tensor(value, dtype_hint=dtype if isinstance(dtype, tf.DType) else None)


def is_number(value: object) -> bool:
    """Returns whether this is a real number of Python or NumPy, which a `bool` is not."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_integer(value: object) -> bool:
    """Returns whether this is an integer of Python or NumPy, which a `bool` is not."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def check_finite(x: tf.Tensor, of: str = "the batch", name: str = "x") -> None:
    """Raises a `ValueError` that names the rows of a batch which are not finite, in eager mode."""
    finite = tf.reduce_all(tf.math.is_finite(x), list(range(1, x.shape.rank)))
    if not tf.reduce_all(finite):
        rows = tf.where(tf.reshape(~finite, [-1]))[:, 0].numpy().tolist()
        raise ValueError(
            f"`{name}` must be finite. Received: NaN or infinity in {len(rows)} row(s) of {of}, "
            f"number {', '.join(map(str, rows[:5]))}. Mend or leave out these data."
        )


def as_context(
    value: TensorLike | tf.SparseTensor | None, dtype: DTypeLike | None
) -> Parameter | tf.SparseTensor | None:
    """Returns a context as a `Tensor`: floating arrays and lists in `dtype`, labels as they are."""
    if value is None or isinstance(value, tfp.util.DeferredTensor) or tf.is_tensor(value):
        return value
    own = tf.convert_to_tensor(value)
    return as_data(value, dtype) if own.dtype.is_floating else own


def check_kernel(kernel: Parameter) -> None:
    """Raises a `ValueError` if `kernel` isn't one of a convolution that keeps size and channels."""
    shape = kernel.shape
    if shape.rank != 4 or shape[-1] != shape[-2]:
        raise ValueError(
            f"`kernel` must have shape [kh, kw, C, C]. Received: kernel.shape={tuple(shape)}."
        )
    if shape[0] % 2 == 0 or shape[1] % 2 == 0:
        raise ValueError(
            f"`kernel` must have odd spatial sizes. Received: kernel.shape={tuple(shape)}."
        )
