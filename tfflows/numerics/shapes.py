"""Tensors of unknown rank or size, in graphs, for bijectors that know what events they take."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfflows import _tensorflow
from tfflows.types import Shape


def with_shape(tensor: tf.Tensor, shape: Shape) -> tf.Tensor:
    """Returns a tensor that is known to have a shape as one that says so.

    Not by `tf.ensure_shape`, an operation, which forward-mode differentiation fails at in graphs.
    """
    tensor.set_shape(shape)
    return tensor


def with_known_shape(
    function: Callable[[Any], Any],
    x: Any,
    event_shape: Sequence[int | None],
    get_batch_shape: Callable[[], tf.TensorShape],
) -> Any:
    """Returns `function(x)`, which sees `x` with all that is known of its shape.

    Of unknown rank, `x` is given one batch dimension, before those of the bijector.

    Args:
      function: maps `x` to an output and a log-det, either of which may be `None`.
      x: a `Tensor` `[..., *event]`; anything else, and one of known shape, is passed on.
      event_shape: what is known of the shape of its events, a tuple.
      get_batch_shape: returns the batch shape of the bijector.
    """
    if not isinstance(x, tf.Tensor) or x.shape.is_fully_defined():
        return function(x)
    if x.shape.rank is not None:
        before = x.shape.rank - len(event_shape)
        known = x.shape[:before] + x.shape[before:].merge_with(event_shape)
        if known.as_list() == x.shape.as_list():
            return function(x)
        return function(_remembered(x, known, lambda: _checked(x, known)))

    kept = [*get_batch_shape(), *event_shape]
    shape = tf.shape(x)
    batch = shape[: tf.size(shape) - len(event_shape)]

    def flatten():
        flat = tf.reshape(x, tf.concat([[-1], shape[tf.size(shape) - len(kept) :]], axis=0))
        return _checked(flat, [None, *kept])

    flat = _remembered(x, tf.TensorShape([None, *kept]), flatten)
    batch_ndims = flat.shape.rank - len(event_shape)
    y, log_det = function(flat)
    if y is not None:
        flat_y = y
        y = tf.reshape(y, tf.concat([batch, tf.shape(y)[batch_ndims:]], axis=0))
        _remember(y, flat_y)  # The way back is known, too.
    if log_det is not None:
        log_det = tf.reshape(tf.broadcast_to(log_det, tf.shape(flat)[:batch_ndims]), batch)
    return y, log_det


def _checked(x, shape):
    """Returns `tf.ensure_shape(x, shape)`, which can be differentiated in forward mode, too."""
    return tf.custom_gradient(lambda x: (tf.ensure_shape(x, shape), tf.identity))(x)


def _remembered(x, shape, make):
    """Returns the same tensor for the same `x` in a graph: the memory of bijectors goes by it."""
    _, result, recording = _known().get((id(x), shape.rank), (None, None, None))
    if (
        result is not None
        and result.shape.is_subtype_of(shape)
        and recording.can_stand_in(_tensorflow.Recording(x, None, []))
    ):
        return result
    result = make()
    _remember(x, result)
    return result


def _remember(x, result):
    recording = _tensorflow.Recording(x, result, [])
    _known()[id(x), result.shape.rank] = x, result, recording  # `x` is held, and keeps its id.


def _known():
    graph = tf.compat.v1.get_default_graph()
    if not hasattr(graph, "_tfflows_known_shapes"):
        graph._tfflows_known_shapes = {}
    return graph._tfflows_known_shapes
