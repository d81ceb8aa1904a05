"""The columns of a table, as arguments of a builder: names, kinds, bounds and statistics in JSON.

A column is a dictionary with

    name    a text
    kind    "real", "integer", "positive", "interval" or "simplex"
    loc     mean of the values once they are mapped to the real line
    scale   their standard deviation
    low     lower bound or null; of integers, the least
    high    upper bound or null; of integers, the largest; of a simplex, the sum of its columns
    group   which columns of kind "simplex" are one; 0 if there is no such entry

so that what a model has to know of its data is part of its configuration.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfflows import bijectors

KINDS = ("real", "integer", "positive", "interval", "simplex")
MAX_COLUMNS = 10_000
MAX_NAME = 200
_ENTRIES = {"name", "kind", "loc", "scale", "low", "high", "group"}
_LARGEST = float(np.finfo(np.float32).max)
Columns = int | Sequence[Mapping[str, Any]]


def as_list(columns: Columns) -> list[dict]:
    """Returns the columns, of a number so many of mean 0 and variance 1."""
    if isinstance(columns, int):
        return [{"name": f"x{i}", "kind": "real", "loc": 0.0, "scale": 1.0} for i in range(columns)]
    return [dict(column) for column in columns]


def names(columns: Columns) -> list[str]:
    """Returns their names."""
    return [column["name"] for column in as_list(columns)]


def check(columns: Any, argument: str = "columns") -> None:
    """Refuses what are no columns of a table, which may come from strangers.

    Args:
      columns: what a builder is given.
      argument: its name.

    Raises:
      ValueError: names the first that is wrong.
    """
    if isinstance(columns, int) and not isinstance(columns, bool):
        if not 0 <= columns <= MAX_COLUMNS:
            raise ValueError(
                f"`{argument}` must be at most {MAX_COLUMNS}. Received: {argument}={columns!r:.50}."
            )
        return
    if not isinstance(columns, (list, tuple)) or not len(columns) <= MAX_COLUMNS:
        raise ValueError(
            f"`{argument}` must be a number of columns, or a list of at most {MAX_COLUMNS} of "
            f"them. Received: {argument}={columns!r:.50}."
        )
    for number, column in enumerate(columns):
        wrong = _what_is_wrong(column)
        if wrong:
            raise ValueError(
                f"`{argument}[{number}]` must have {wrong}. Received: {column!r:.200}."
            )
    found = [column["name"] for column in columns]
    if len(set(found)) < len(found):
        raise ValueError(f"`{argument}` must have different names. Received: {found!s:.200}.")


def _what_is_wrong(column):
    """Returns what a column must have and has not, or `None`."""
    if not isinstance(column, Mapping) or not {"name", "kind", "loc", "scale"} <= set(column):
        return "the entries name, kind, loc and scale"
    if not set(column) <= _ENTRIES:
        return f"no entries but {', '.join(sorted(_ENTRIES))}"
    if not isinstance(column["name"], str) or not 0 < len(column["name"]) <= MAX_NAME:
        return f"a name of 1 to {MAX_NAME} characters"
    if column["kind"] not in KINDS:
        return f"a kind among {', '.join(KINDS)}"
    numbers = [column["loc"], column["scale"]]
    low, high = (column.get(bound) for bound in ("low", "high"))
    if not all(_is_number(v) for v in [*numbers, *(b for b in (low, high) if b is not None)]):
        return "finite numbers"
    if column["scale"] <= 0:
        return "a positive scale"
    wanted = {"positive": ("low",), "interval": ("low", "high"), "simplex": ("high",)}
    for bound in wanted.get(column["kind"], ()):
        if column.get(bound) is None:
            return f"the bound {bound} of its kind"
    if column["kind"] == "real" and not (low is None and high is None):
        return "no bounds, as kind real says"
    if column["kind"] == "integer" and any(b is not None and b != round(b) for b in (low, high)):
        return "integers as bounds"
    if column["kind"] == "simplex" and high <= 0:
        return "a positive sum (high)"
    if low is not None and high is not None and not (low < high or column["kind"] == "integer"):
        return "low less than high"
    group = column.get("group", 0)
    if isinstance(group, bool) or not isinstance(group, int) or not 0 <= group <= MAX_COLUMNS:
        return "a small integer as group"
    return None


def _is_number(value):
    kind = isinstance(value, (int, float)) and not isinstance(value, bool)
    return kind and abs(value) <= _LARGEST  # NaN is not, either.


def are_integers(columns: Columns) -> list[bool]:
    """Returns which of the columns are integers."""
    return [column["kind"] == "integer" for column in as_list(columns)]


def support(column: Mapping) -> tuple[float, float]:
    """Returns the bounds of the values of a column, of integers with their noise."""
    low, high = column.get("low"), column.get("high")
    if column["kind"] == "integer" and high is not None:
        high += 1
    if column["kind"] == "simplex":
        low = 0.0
    return -math.inf if low is None else low, math.inf if high is None else high


def simplexes(columns: Columns) -> list[list[int]]:
    """Returns the numbers of the columns of each simplex."""
    groups: dict[int, list[int]] = {}
    for number, column in enumerate(as_list(columns)):
        if column["kind"] == "simplex":
            groups.setdefault(column.get("group", 0), []).append(number)
    return [groups[group] for group in sorted(groups)]


def normalizer(columns: Columns) -> bijectors.NormalizeColumns:
    """Returns the bijector from the units of the columns to mean 0 and variance 1."""
    columns = as_list(columns)
    low, high = zip(*map(support, columns), strict=True)
    return bijectors.NormalizeColumns(
        [column["loc"] for column in columns],
        [column["scale"] for column in columns],
        low=low,
        high=high,
        simplexes=simplexes(columns),
    )


def num_latents(columns: Columns) -> int:
    """Returns the dimension of a row: the columns, less one for each simplex."""
    return len(as_list(columns)) - len(simplexes(columns))


def noise(columns: Columns, count: int, seed: int = 0) -> tf.Tensor:
    """Returns rows within the bounds of columns, `[count, D]`, as normal as these let them be."""
    z = np.random.default_rng(seed).normal(size=[count, num_latents(columns)])
    rows = normalizer(columns).inverse(tf.constant(z, tf.float32))
    return tf.where(are_integers(columns), tf.floor(rows), rows)


def fit(columns: Columns, parts: Iterable[np.ndarray]) -> list[dict]:
    """Returns the columns with `loc` and `scale` of rows, which come in parts `[n, D]`.

    Integers count in the middle of their cells. A scale of columns that do not vary is 1.

    Args:
      columns: the columns; their own `loc` and `scale` do not matter.
      parts: values within their bounds.
    """
    columns = [{**column, "loc": 0.0, "scale": 1.0} for column in as_list(columns)]
    mapping, halves = normalizer(columns), np.array(are_integers(columns)) / 2
    count, total, squares = 0, 0.0, 0.0
    shift = None
    for part in parts:
        y = mapping.forward(tf.constant(np.asarray(part, np.float64) + halves)).numpy()
        shift = y.mean(axis=0) if shift is None else shift  # For the digits of the variance.
        count, total = count + len(y), total + (y - shift).sum(axis=0)
        squares = squares + ((y - shift) ** 2).sum(axis=0)
    mean = total / count
    loc, scale = mean + shift, np.sqrt(np.maximum(squares / count - mean**2, 0))
    last = {simplex[-1] for simplex in simplexes(columns)}
    kept = [number for number in range(len(columns)) if number not in last]
    for number, place, width in zip(kept, loc.tolist(), scale.tolist(), strict=True):
        columns[number] |= {"loc": place, "scale": width if width > 0 else 1.0}
    return columns
