"""Which rows a model has a density for: within bounds, integers where they must be."""

from typing import Any

import numpy as np

from trainers.data.tables.table import Table
from zoo import columns as table_columns


def check(columns: table_columns.Columns, table: Table, numbers: Any, path: str) -> None:
    """Refuses rows that are not within the bounds of the columns, or no integers where they must.

    Args:
      columns: the columns.
      table: a table with these columns first.
      numbers: numbers of the rows to look at.
      path: of the table, for errors.

    Raises:
      ValueError: names the first such column and row.
    """
    specs, first = table_columns.as_list(columns), 0
    for rows in table.parts(numbers):
        _check_rows(specs, rows, numbers[first : first + len(rows)], path)
        first += len(rows)


def _check_rows(specs, rows, numbers, path):
    for number, spec in enumerate(specs):
        if spec["kind"] == "real":
            continue
        values = rows[:, number].astype(np.float32)
        name, (low, high) = spec["name"], table_columns.support(spec)
        if spec["kind"] == "integer":
            _refuse(values != np.floor(values), values, numbers, path, name, "must be an integer")
            # Bounds are those of the values.
            high = high - 1
            bad, what = (values < low) | (values > high), f"from {low:g} to {high:g}"
        else:
            bad = (values <= low) | (values >= high)
            what = f"between {low:g} and {high:g}" if np.isfinite(high) else f"above {low:g}"
            if spec["kind"] == "simplex":
                bad, what = values <= 0, "positive, as a part of a whole"
        _refuse(bad, values, numbers, path, name, f"must be {what}")
    for simplex in table_columns.simplexes(specs):
        total = specs[simplex[0]]["high"]
        sums = rows[:, simplex].sum(axis=1)
        names = " + ".join(specs[number]["name"] for number in simplex)
        _refuse(abs(sums - total) > 1e-3 * total, sums, numbers, path, names, f"must be {total:g}")


def _refuse(bad, values, numbers, path, name, what):
    if np.any(bad):
        first = int(np.argmax(bad))
        raise ValueError(
            f"`{path}`, column `{name}`, row {numbers[first] + 1}: {what}, as its kind says. "
            f"Received: {values[first]:g}."
        )
