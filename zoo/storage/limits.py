"""Bounds for the arguments of a model that come from strangers: types, sizes, memory."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tfflows.variables import forget_deferred_variables
from zoo import columns, registry

MAX_PARAMETERS = 1 << 30
MAX_VARIABLES = 20_000
_MAX_NUMBER = 4096  # Of widths, steps and the like.
_MAX_LEVELS = 1 << 16  # Of a pixel.
_MAX_PIXELS = 1 << 26
_MAX_CHANNELS = 4096
_MAX_TEXT = 100
_COLUMNS = ("columns", "condition_columns")  # Arguments that are the columns of a table.


def check_arguments(model: registry.Model, arguments: Any) -> None:
    """Refuses arguments that are not of the types of a model's own, or very large.

    Args:
      model: the `zoo.Model`.
      arguments: what its builder is to be given, from JSON.

    Raises:
      ValueError: names the argument.
    """
    if not isinstance(arguments, dict):
        raise ValueError(f"`arguments` must be an object. Received: {type(arguments).__name__}.")
    unknown = sorted(set(arguments) - set(model.arguments))
    if unknown:
        raise ValueError(
            f"`arguments` of {model.name!r} must be among {sorted(model.arguments)}. "
            f"Received: {unknown[:3]}."
        )
    for name, value in arguments.items():
        usual = model.arguments[name]
        if name in _COLUMNS:
            columns.check(value, name)
            continue
        if usual is not None and value is not None and _kind(value) != _kind(usual):
            raise ValueError(
                f"`{name}` must be of the kind of {usual!r}. Received: {name}={_short(value)}."
            )
        _check_size(name, value, _MAX_LEVELS if name == "num_levels" else _MAX_NUMBER)
    size = arguments.get("context_size")
    if size is not None and not (type(size) is int and size > 0):
        raise ValueError(f"`context_size` must be a positive integer. Received: {_short(size)}.")
    if "image_shape" in model.arguments:
        _check_images({**model.arguments, **arguments})


def _kind(value):
    if isinstance(value, bool):
        return bool
    if isinstance(value, (int, float)):
        return float
    return list if isinstance(value, tuple) else type(value)


def _check_size(name, value, largest):
    """Refuses numbers and texts that no model has, in lists too."""
    if isinstance(value, (list, tuple)):
        for part in value:
            _check_size(name, part, largest)
    elif isinstance(value, str):
        if len(value) > _MAX_TEXT:
            raise ValueError(f"`{name}` must be shorter. Received: {len(value)} characters.")
    elif isinstance(value, (int, float)):
        if not abs(value) <= largest:  # NaN is not either.
            raise ValueError(
                f"`{name}` must have numbers of at most {largest}. Received: {_short(value)}."
            )
    elif value is not None:
        raise ValueError(f"`{name}` must not be an object. Received: {_short(value)}.")


def _check_images(arguments):
    """Bounds the pixels of an image and the channels of the last level."""
    shape, steps = arguments["image_shape"], arguments.get("steps", [1])
    sides = isinstance(shape, (list, tuple)) and all(type(n) is int and n > 0 for n in shape)
    if not sides or len(shape) != 3 or math.prod(shape) > _MAX_PIXELS:
        raise ValueError(
            f"`image_shape` must be three positive integers, at most {_MAX_PIXELS} values in all. "
            f"Received: image_shape={_short(shape)}."
        )
    part = arguments.get("split_fraction", 0.5)
    if part is None or not 0 <= part <= 1:
        raise ValueError(f"`split_fraction` must be 0 to 1. Received: split_fraction={part}.")
    levels = len(steps) if isinstance(steps, (list, tuple)) else 1
    if levels > math.log2(_MAX_PIXELS):
        raise ValueError(f"`steps` must have fewer levels. Received: {levels} levels.")
    channels = shape[-1] * 4**levels * (1 - part) ** (levels - 1)
    if channels > _MAX_CHANNELS:
        raise ValueError(
            f"`image_shape` and `steps` must give at most {_MAX_CHANNELS} channels in the last "
            f"level. Received: {channels:.0f}, of image_shape={_short(shape)}, {levels} levels."
        )


def _short(value):
    try:
        text = repr(value)
    except ValueError:  # More digits than Python prints.
        text = "a number of thousands of digits"
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}..."


@contextlib.contextmanager
def limit(parameters: int = MAX_PARAMETERS, variables: int = MAX_VARIABLES) -> Iterator[None]:
    """Lets no more variables be made than these.

    Args:
      parameters: entries of all variables together.
      variables: number of variables.
    """
    count = size = 0

    def create(next_creator, **kwargs):
        nonlocal count, size
        variable = next_creator(**kwargs)
        count, size = count + 1, size + variable.shape.num_elements()
        if count > variables or size > parameters:
            raise ValueError(
                f"the model must have at most {variables} variables of {parameters} parameters in "
                f"all. Received: {count} variables of {size} parameters, or more."
            )
        return variable

    try:
        with tf.variable_creator_scope(create):
            yield
    except BaseException:
        forget_deferred_variables()
        raise
