"""Whether events are the integers that a distribution of integers is over."""

import re
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfflows._tensorflow import is_compiled_by_xla

_RULE = "`x` must be images of integers 0 .. {}."
_REMEDY = (
    "The model scales images and adds noise by itself: undo it where it was done before, "
    "`tf.round({0} * x)` after a division by {0}. Images of more levels must be reduced to {1}."
)
_TOLD = re.compile(_RULE.replace("{}", r"\d+") + r".* must be reduced to \d+\.")
_ENTRIES_RULE = "`x` must have integers in these entries of an event: {}."
_ENTRIES_REMEDY = "Noise is added by the model: undo it where it was added before."
_ENTRIES_TOLD = re.compile(_ENTRIES_RULE.replace("{}", r"[\d, ]+") + f".* {_ENTRIES_REMEDY}")


def strangers(x: tf.Tensor, num_levels: int, event_ndims: int) -> tf.Tensor | None:
    """Looks for images that are not integers `0 .. num_levels - 1`; floats may be integers.

    Args:
      x: a `Tensor`, `[..., *event]`.
      num_levels: number of values of a pixel.
      event_ndims: rank of an event.

    Returns:
      In a graph, which images have other values, a `bool` `Tensor` `[..., 1, ..., 1]`: an assertion
      fails if one has, unless the graph is compiled by XLA, which knows no assertions. `None` where
      no image can have: in eager mode, and for the sake of the dtype.

    Raises:
      ValueError: in eager mode, if an image has other values.
    """
    rule, remedy = _RULE.format(num_levels - 1), _REMEDY.format(num_levels - 1, num_levels)
    dtype = x.dtype
    if not (dtype.is_integer or dtype.is_floating or dtype.is_bool):
        raise ValueError(f"{rule} Received: x.dtype={dtype.name}. {remedy}")
    if dtype.is_bool or (dtype.is_unsigned and dtype.max < num_levels):
        return None
    if dtype.size < 4:  # GPUs have no kernels for some of these.
        x = tf.cast(x, tf.float32)
    ndims = event_ndims if x.shape.rank is None else min(event_ndims, x.shape.rank)
    axes = list(range(-ndims, 0))
    low, high = (f(x, axes, keepdims=True) for f in (tf.reduce_min, tf.reduce_max))
    inside = (low >= 0) & (high <= tf.constant(min(num_levels - 1, dtype.max), x.dtype))
    if dtype.is_floating:  # Not NaN, either: a minimum may pass over it.
        inside &= tf.reduce_all(x == tf.floor(x), axes, keepdims=True)
    count, total = tf.math.count_nonzero(~inside, dtype=tf.int32), tf.size(inside)
    low, high = tf.reduce_min(low), tf.reduce_max(high)
    if is_compiled_by_xla():  # It would leave the assertion out, with a warning.
        return ~inside
    if not tf.executing_eagerly():
        found = [
            count,
            "of",
            total,
            f"have other values, x.dtype={dtype.name}, from",
            low,
            "to",
            high,
        ]
        message = [f"{rule} Received:", *found, f". {remedy}"]
        with tf.control_dependencies([tf.debugging.Assert(count == 0, message)]):
            return tf.identity(~inside)
    if count > 0:
        first = tf.where(tf.reshape(~inside, [-1]))[0, 0]
        text = f"{count} of {total} have other values, the first is number {first}; "
        text += f"x.dtype={dtype.name}, from"
        raise ValueError(f"{rule} Received: {text} {low:.6g} to {high:.6g}. {remedy}")
    return None


def strange_entries(x: tf.Tensor, entries: Sequence[bool]) -> tf.Tensor | None:
    """Looks for events `[D]` without an integer in an entry that has to be one.

    Args:
      x: a `Tensor`, `[..., D]`.
      entries: which entries are integers.

    Returns:
      As `strangers`.

    Raises:
      ValueError: in eager mode, if there is one.
    """
    if x.dtype.is_integer:
        return None
    numbers = tf.where(tf.constant(entries), x, tf.zeros_like(x))
    strange = tf.reduce_any(~tf.equal(numbers, tf.floor(numbers)), axis=-1, keepdims=True)
    if is_compiled_by_xla():
        return strange
    count, total = tf.math.count_nonzero(strange, dtype=tf.int32), tf.size(strange)
    rule = _ENTRIES_RULE.format(", ".join(map(str, np.flatnonzero(entries))))
    if not tf.executing_eagerly():
        found = [f"{rule} Received:", count, "of", total, f"have others. {_ENTRIES_REMEDY}"]
        with tf.control_dependencies([tf.debugging.Assert(count == 0, found)]):
            return tf.identity(strange)
    if count > 0:
        first = tf.where(tf.reshape(strange, [-1]))[0, 0]
        raise ValueError(
            f"{rule} Received: {count} of {total} have others, the first is number {first}. "
            f"{_ENTRIES_REMEDY}"
        )
    return None


def told(message: str) -> str | None:
    """Returns what `strangers` says in the message of an error of TensorFlow; `None` if nothing."""
    found = _TOLD.search(message) or _ENTRIES_TOLD.search(message)
    return found and found[0].replace("[", "").replace("]", "").replace(" . ", ". ")
