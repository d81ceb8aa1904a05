"""A batch in parts: shards of a step, and replicas that may be left without a row."""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf


def num_rows(x: tf.Tensor) -> int | tf.Tensor:
    """Returns the number of rows of a batch, a Python `int` where it is known."""
    return tf.shape(x)[0] if x.shape.rank is None or x.shape[0] is None else x.shape[0]


def split(
    x: tf.Tensor, others: Any, num_parts: int
) -> list[tuple[tf.Tensor, Any, int | tf.Tensor]]:
    """Cuts a batch that is not empty into parts whose numbers of rows differ by one at most.

    No part is empty: of fewer rows than parts, a row is in several of them, and counts in one.

    Args:
      x: a batch, `[n, *event]`.
      others: a structure of what else each row has, `[n, ...]`, or `None`: contexts, weights.
      num_parts: Python `int`.

    Returns:
      A list of `(x, others, n)`: rows, and how many of them count.
    """
    n = num_rows(x)
    if num_parts == 1:
        return [(x, others, n)]
    least, most = (min, max) if isinstance(n, int) else (tf.minimum, tf.maximum)
    parts = []
    for i in range(num_parts):
        start, stop = n * i // num_parts, n * (i + 1) // num_parts
        first = least(start, n - 1)
        rows = slice(first, most(stop, first + 1))
        cut = functools.partial(_rows_of, rows=rows)
        parts.append((x[rows], tf.nest.map_structure(cut, others), stop - start))
    return parts


def _rows_of(value, rows):
    return None if value is None else value[rows]


def portion(mean: tf.Tensor, rows: int | tf.Tensor, total: int | tf.Tensor) -> tf.Tensor:
    """Returns what the mean of `rows` rows adds to that of `total` ones."""
    if rows is total:
        return mean
    if isinstance(rows, int) and isinstance(total, int):
        return mean * (rows / total)
    return mean * (tf.cast(rows, mean.dtype) / tf.cast(total, mean.dtype))


def if_any(x: tf.Tensor, evaluate: Callable[[], Any], otherwise: Callable[[], Any]) -> Any:
    """Returns `evaluate()`, or `otherwise()` if a batch has no rows, which few flows can evaluate.

    Args:
      x: a batch.
      evaluate: a function without arguments, which returns `Tensor`s.
      otherwise: a function that returns others of the same structure.
    """
    n = num_rows(x)
    if isinstance(n, int):
        return evaluate() if n else otherwise()
    return tf.cond(n > 0, evaluate, otherwise)


def rows_on_all_replicas(x: tf.Tensor) -> tf.Tensor | None:
    """Returns the number of rows of the whole batch, 1 if there are none; `None` on one replica."""
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return None
    rows = tf.cast(num_rows(x), tf.float32)
    total = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, rows)
    return tf.maximum(total, 1.0)
