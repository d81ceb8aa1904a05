"""What people give to `fit`, as Keras takes it, and back."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfflows.distributions.discrete import is_discrete


def call(
    method: Callable[..., Any],
    distribution: tfd.Distribution,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Any:
    """Calls `fit`, `evaluate` or `predict` of Keras with data as it takes them.

    Args:
      method: the bound method.
      distribution: what is trained.
      args: positional arguments.
      kwargs: keyword arguments.

    Raises:
      ValueError: if there are weights of classes and no classes.
    """
    signature = inspect.signature(method)
    given = signature.bind(*args, **kwargs).arguments
    options = given.pop("kwargs", {})
    names = [name for name in ("x", "y", "sample_weight") if name in signature.parameters]
    arrays = _as_arrays(distribution, *map(given.get, names))
    given.update(zip(names, arrays, strict=False))
    validation: Any = given.get("validation_data")
    if _is_tuple_of_arrays(validation):
        given["validation_data"] = _as_arrays(distribution, *validation)
    elif validation is not None:
        given["validation_data"] = as_array(validation, distribution)
    if given.get("class_weight") is not None and not _has_classes(*arrays[:2]):
        raise ValueError("`class_weight` needs the class of each event. Received: y=None.")
    return method(**given, **options)


def _is_tuple_of_arrays(value):
    """Returns whether a value is `(x, y, sample_weight)` or less, and not `x` as a list."""
    if isinstance(value, list):
        return any(hasattr(part, "shape") for part in value)
    return isinstance(value, tuple) and len(value) <= 3


def _as_arrays(distribution, x, y=None, weights=None):
    """Returns data with targets and weights; Keras takes no notice of weights without targets."""
    y, weights = (np.asarray(v) if isinstance(v, (list, tuple)) else v for v in (y, weights))
    x = as_array(x, distribution)
    if weights is not None and y is None and _is_array(x):
        y = np.zeros(np.shape(weights)[:1], np.int32)
    return x, y, weights


def _has_classes(x, y=None):
    """Returns whether there may be classes `y`: of a generator, nobody knows."""
    if isinstance(x, tf.data.Dataset):
        return isinstance(x.element_spec, tuple) and len(x.element_spec) > 1
    return y is not None or not _is_array(x)


def _is_array(x):
    """Returns whether `x` is what `as_array` makes of an array, and no data set."""
    return isinstance(x, dict) or hasattr(x, "__array__")


def as_array(x: Any, distribution: tfd.Distribution) -> Any:
    """Returns data as Keras takes them: lists as arrays, and `float64` without loss.

    Keras casts floats that it has in memory to `keras.config.floatx()`. Their bits it leaves alone.

    Args:
      x: an array, a list, a `Tensor`; or a data set or whatever else Keras takes.
      distribution: what is trained; its dtype is the data's.
    """
    if isinstance(x, (list, tuple)):
        x = np.asarray(x)
        if not is_discrete(distribution):  # 1 may stand for 1.0 in a list.
            x = x.astype(distribution.dtype.as_numpy_dtype)
    if distribution.dtype != tf.float64 or not hasattr(x, "__array__"):
        return x
    x = np.asarray(x)
    if x.dtype.kind != "f":
        return x
    return {"float64": np.ascontiguousarray(x, np.float64).view(np.int64)}


def as_events(x: Any, distribution: tfd.Distribution) -> tf.Tensor:
    """Returns a batch of what `as_array` returned, or of a data set, as the distribution takes it.

    Args:
      x: the batch.
      distribution: what is trained. Floats get its dtype, and a batch of unknown rank its event
        shape.

    Raises:
      ValueError: if a density is given integers, or what are no events of the distribution, which
        may broadcast.
    """
    if isinstance(x, (list, tuple)):
        x = as_array(x, distribution)
    if isinstance(x, dict):
        if set(x) != {"float64"}:  # Of `as_array`.
            raise ValueError(
                "`x` must be events, not a dictionary: choose one of its entries, of a data set by "
                f"`data.map(lambda row: row[name])`. Received: names={sorted(map(str, x))}."
            )
        x = tf.bitcast(x["float64"], tf.float64)
    x = tf.convert_to_tensor(x)
    if x.shape.rank is None:
        x = tf.ensure_shape(x, [None, *distribution.event_shape])
    shape = distribution.event_shape
    if shape.rank and not x.shape[-shape.rank :].is_compatible_with(shape):
        raise _no_events(x, shape)
    if is_discrete(distribution):
        return x
    if not x.dtype.is_floating:
        raise ValueError(
            "`x` must be floats: integers have no density. Wrap the distribution of integer images "
            f"in `Dequantized`, cast others. Received: x.dtype={x.dtype.name}."
        )
    return tf.cast(x, distribution.dtype)


def as_batch(x: Any, distribution: tfd.Distribution) -> tf.Tensor:
    """Returns `as_events(x, distribution)`, which must have one batch dimension.

    Raises:
      ValueError: if it has none, as what a data set that is not batched yields, or more; and see
        `as_events`.
    """
    x = as_events(x, distribution)
    shape = distribution.event_shape
    other = shape.rank is not None and x.shape.rank != shape.rank + 1
    if other and distribution.batch_shape.rank == 0:  # A batch of flows may have data for each.
        raise _no_events(x, shape)
    return x


def _no_events(x, shape):
    what = str([None, *shape]).replace("None", "n", 1)
    remedy = " Batch the data set: `data.batch(n)`." if x.shape.is_compatible_with(shape) else ""
    return ValueError(
        f"`x` must be a batch of events, {what}.{remedy} Received: x.shape={x.shape}."
    )


def told(message: str) -> str | None:
    """Returns what an error that was raised in a traced function says of the data, or `None`."""
    start = message.rfind("`x` must be ")
    # Keras adds the arguments of `call`, and makes the text before bold.
    return None if start < 0 else message[start:].partition("\n")[0].removesuffix("\x1b[0m")
