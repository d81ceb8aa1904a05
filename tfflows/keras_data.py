"""What people give to `fit`, as Keras takes it, and back."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfflows.distributions.discrete import density_of, is_discrete

_TOLD = re.compile("(?:`x` must be|`y` must) .*")


def call(
    method: Callable[..., Any],
    distribution: tfd.Distribution,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    is_conditional: bool = False,
    y: Any = None,
    classes: bool = False,
) -> Any:
    """Calls `fit`, `evaluate` or `predict` of Keras with data as it takes them.

    Args:
      method: the bound method.
      distribution: what is trained.
      args: positional arguments.
      kwargs: keyword arguments.
      is_conditional: whether what is trained is `p(x | y)`.
      y: that of `predict`, which Keras does not know.
      classes: whether `y` may be the classes of `fit(class_weight=...)`.

    Raises:
      ValueError: if there are weights of classes and no classes, `y` is missing or in vain, or has
        another number of rows than `x`.
    """
    signature = inspect.signature(method)
    given = signature.bind(*args, **kwargs).arguments
    options = given.pop("kwargs", {})
    names = [name for name in ("x", "y", "sample_weight") if name in signature.parameters]

    def arrays_of(*data):
        return _as_arrays(distribution, *data, is_conditional=is_conditional, classes=classes)

    given_data = {**given, "y": given.get("y", y)}
    arrays = arrays_of(*map(given_data.get, ("x", "y", "sample_weight")))
    validation: Any = given.get("validation_data")
    if _is_tuple_of_arrays(validation):
        validation = arrays_of(*validation)
    elif validation is not None:
        validation = as_array(validation, distribution)
        if _is_array(validation):
            check_given(None, is_conditional)
    if "validation_data" in given:
        given["validation_data"] = validation
    if given.get("class_weight") is not None and not _has_classes(*arrays[:2]):
        raise ValueError("`class_weight` needs the class of each event. Received: y=None.")
    if "y" not in names and arrays[1] is not None:  # Of `predict`.
        arrays = (arrays[:2],)
    given.update(zip(names, arrays, strict=False))
    return method(**given, **options)


def _is_tuple_of_arrays(value):
    """Returns whether a value is `(x, y, sample_weight)` or less, and not `x` as a list."""
    if isinstance(value, list):
        return any(hasattr(part, "shape") for part in value)
    return isinstance(value, tuple) and len(value) <= 3


def _as_arrays(distribution, x, y=None, weights=None, *, is_conditional=False, classes=False):
    """Returns data with `y` and weights; Keras takes no notice of weights without targets."""
    weights = np.asarray(weights) if isinstance(weights, (list, tuple)) else weights
    x, y = as_array(x, distribution), as_condition_arrays(y, distribution)
    if _is_array(x):
        for name, value in (("y", y), ("sample_weight", weights)):
            if value is not None:
                check_rows(x, value, name)
        if not isinstance(y, _Unused) and not (classes and not is_conditional):
            check_given(y, is_conditional)
        if weights is not None and y is None:
            y = np.zeros(np.shape(weights)[:1], np.int32).view(_Unused)
    return x, y, weights


class _Unused(np.ndarray):
    """Targets that Keras asks for where there are weights, and also gives to `evaluate`."""


def check_given(y: Any, is_conditional: bool) -> None:
    """Raises a `ValueError` if `y` is missing, or given in vain."""
    if y is None and is_conditional:
        raise ValueError(
            "`y` must be given, since the distribution is conditional, p(x | y). Received: y=None."
        )
    if y is not None and not is_conditional:
        shapes = tf.nest.map_structure(lambda v: tuple(np.shape(v)), y)
        raise ValueError(
            "`y` must not be given, since no part of the distribution takes a context: it would "
            f"make no difference. Received: y of shape {shapes}."
        )


def check_rows(x: Any, y: Any, name: str = "y") -> None:
    """Raises a `ValueError` if `y`, or a part of it, has not as many rows as `x`."""
    of_x, of_y = ([_num_rows(part) for part in tf.nest.flatten(value)] for value in (x, y))
    if len({*of_x, *of_y} - {None}) > 1:
        raise ValueError(
            f"`{name}` must be of as many rows as `x`. "
            f"Received: x of {of_x[0]} rows, {name} of {' and '.join(map(str, of_y))}."
        )


def _num_rows(value):
    shape = getattr(value, "shape", ())
    if isinstance(shape, tf.TensorShape):
        shape = shape.as_list() if shape.rank else ()
    return shape[0] if len(shape) else None


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
    return _without_loss(x) if distribution.dtype == tf.float64 else x


def _without_loss(x):
    """Returns floats in memory as their bits."""
    if not hasattr(x, "__array__") or tf.is_symbolic_tensor(x):
        return x
    if (floats := np.asarray(x)).dtype.kind != "f":
        return x
    return {"float64": np.ascontiguousarray(floats, np.float64).view(np.int64)}


def real_dtype(distribution: tfd.Distribution) -> tf.DType:
    """Returns the dtype of `log p(x)`."""
    return density_of(distribution).dtype


def as_condition_arrays(y: Any, distribution: tfd.Distribution) -> Any:
    """Returns `y`, an array or a structure of them, as Keras takes it.

    Args:
      y: an array, a list, or a dictionary or tuple of arrays; `None` if there is none.
      distribution: what is trained.
    """
    if isinstance(y, Mapping):
        return {name: as_condition_arrays(part, distribution) for name, part in y.items()}
    if isinstance(y, (list, tuple)):
        several = y and all(hasattr(part, "shape") and len(part.shape) for part in y)
        if several and (isinstance(y, tuple) or len({tuple(part.shape) for part in y}) > 1):
            return tuple(as_condition_arrays(part, distribution) for part in y)
        y = np.asarray(y)
    return _without_loss(y) if real_dtype(distribution) == tf.float64 else y


def as_conditions(y: Any, dtype: tf.DType) -> Any:
    """Returns what `as_condition_arrays` returned, or a data set, as `Tensor`s.

    Args:
      y: the batch.
      dtype: what floats get.
    """
    if isinstance(y, Mapping):
        if set(y) == {"float64"} and y["float64"].dtype in (tf.int64, np.int64):
            return tf.bitcast(y["float64"], tf.float64)
        return {name: as_conditions(part, dtype) for name, part in y.items()}
    if isinstance(y, (list, tuple)):
        return type(y)(as_conditions(part, dtype) for part in y)
    if y is None or isinstance(y, tf.SparseTensor):
        return y
    y = tf.convert_to_tensor(y)
    return tf.cast(y, dtype) if y.dtype.is_floating else y


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
    found = _TOLD.findall(message)
    # Keras adds the arguments of `call`, and makes the text before bold.
    return found[-1].removesuffix("\x1b[0m") if found else None
