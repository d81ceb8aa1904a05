"""What the numbers of each column of a table are like, as values and in words."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from trainers.data.tables.table import Table


@dataclasses.dataclass(frozen=True)
class Summary:
    """What the numbers of each column are like, `[D]`.

    Attributes:
      least: the least.
      mean: their mean.
      largest: the largest.
      deviation: their standard deviation.
      skewness: the mean of their third powers, of mean 0 and variance 1.
    """

    least: np.ndarray
    mean: np.ndarray
    largest: np.ndarray
    deviation: np.ndarray
    skewness: np.ndarray


def summarize(table: Table, numbers: np.ndarray) -> Summary:
    """Returns what rows of a table are like."""
    shift = None
    for rows in table.parts(numbers):
        if shift is None:  # For the digits of the variance.
            shift, sums = rows.mean(axis=0), np.zeros([3, rows.shape[1]])
            least, largest = rows.min(axis=0), rows.max(axis=0)
        least = np.minimum(least, rows.min(axis=0))
        largest = np.maximum(largest, rows.max(axis=0))
        sums += [((rows - shift) ** power).sum(axis=0) for power in (1, 2, 3)]
    first, second, third = sums / len(numbers)
    deviation = np.sqrt(np.maximum(second - first**2, 0))
    centred = third - 3 * first * second + 2 * first**3
    skewness = centred / np.where(deviation > 0, deviation, 1) ** 3
    return Summary(least, shift + first, largest, deviation, skewness)


def describe(
    columns: Sequence[Mapping], table: Table, numbers: np.ndarray, most: int = 40
) -> Iterator[str]:
    """Yields lines about columns: kind, least, mean, largest; and a hint.

    Args:
      columns: those of the table.
      table: the table.
      numbers: numbers of the rows that are looked at.
      most: number of columns to describe.
    """
    found = summarize(table, numbers)
    width = max(6, *(min(len(c["name"]), 30) for c in columns[:most]))
    yield f"  {'column':{width}}  kind              least      mean   largest"
    for number, column in enumerate(columns[:most]):
        low, high = column.get("low"), column.get("high")
        kind = column["kind"] + "".join(
            f":{b:g}" for b in (low, high) if b is not None and column["kind"] != "positive"
        )
        hint = ""
        if column["kind"] == "real" and found.least[number] > 0 and found.skewness[number] > 2:
            hint = "   above 0 and skewed: positive?"
        values = (found.least, found.mean, found.largest)
        numbers = "".join(f"{value[number]:10.4g}" for value in values)
        yield f"  {column['name'][:30]:{width}}  {kind:14}{numbers}{hint}"
    if len(columns) > most:
        yield f"  and {len(columns) - most} others"
