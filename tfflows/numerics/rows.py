"""Empty batches: what TensorFlow can compute for rows, but not for none."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from tfflows.numerics.shapes import with_shape


class _State(threading.local):  # The replicas of a strategy are threads.
    are_there = False


_state = _State()


@contextlib.contextmanager
def rows_are_there() -> Iterator[None]:
    """Says that no batch inside the `with` block is empty: nothing has to be done about it."""
    before, _state.are_there = _state.are_there, True
    try:
        yield
    finally:
        _state.are_there = before


def with_rows(function: Callable[..., Any], *tensors: Any) -> Any:
    """Returns `function(*tensors)`, of a row of zeros where there is none, without its result.

    On a CPU, the convolutions of TensorFlow return the shape of their input for an empty batch, and
    not that of their output; their gradients fail, and so do Fourier transforms and Jacobians.

    Args:
      function: maps tensors `[N, ...]` to tensors `[N, ...]`, each row by itself.
      *tensors: the tensors; anything else is passed on.
    """
    first = tensors[0]
    known = not isinstance(first, tf.Tensor) or not first.shape.rank or first.shape[0]
    if known or _state.are_there:
        return function(*tensors)
    size = tf.shape(first)[0]
    missing = tf.cast(tf.equal(size, 0), tf.int32)

    def padded(tensor):
        if not tf.is_tensor(tensor):
            return tensor
        return tf.pad(tensor, [[0, missing], *[[0, 0]] * (tensor.shape.rank - 1)])

    def cut(tensor):
        return with_shape(tensor[:size], [first.shape[0], *tensor.shape[1:]])

    return tf.nest.map_structure(cut, function(*map(padded, tensors)))
