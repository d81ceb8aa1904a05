"""What reads a file of a table: columns by name, rows in parts; every number is checked."""

import abc
import dataclasses
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn

import numpy as np

from trainers.data.tables import column_lists
from zoo.columns import MAX_NAME

ROWS_AT_ONCE, CELLS_AT_ONCE = 20_000, 1_000_000
ENCODE = "Leave the column out (--columns), or write a number for each category."
_FILL = "Leave out the row or the column (--columns), or fill in a number."


def row_slices(num_rows: int, num_columns: int) -> Iterator[slice]:
    """Yields the rows of a table, as many at a time as are in memory."""
    at_once = rows_at_once(num_columns)
    return (slice(first, first + at_once) for first in range(0, num_rows, at_once))


def rows_at_once(num_columns: int) -> int:
    """Returns how many rows of a file are in memory at a time."""
    return max(1, min(ROWS_AT_ONCE, CELLS_AT_ONCE // num_columns))


@dataclasses.dataclass
class Part:
    """Some rows of a file.

    Attributes:
      rows: `float64`, `[n, D]`, all finite.
      is_integer: of which columns these rows are of an integer type, `[D]`.
      labels: what a column of text has in these rows, or `None`.
    """

    rows: np.ndarray
    is_integer: np.ndarray
    labels: list[str] | None = None


class TableReader(abc.ABC):
    """Reads a file of a table.

    Attributes:
      path: for messages.
      names: of the columns, in order.
      usual: names of the columns to take if none are asked for.
    """

    path: str
    names: list[str]
    usual: list[str]

    @abc.abstractmethod
    def parts(self, columns: Sequence[int], label: int | None = None) -> Iterator[Part]:
        """Yields the rows in order.

        Args:
          columns: numbers of the columns to read.
          label: number of a column to read as text, or `None`.

        Raises:
          ValueError: names the column and the row of what is no finite number.
        """

    def refuse(self, name: str, row: int, what: str, remedy: str = _FILL) -> NoReturn:
        """Raises an error about a cell; `row` counts from 1."""
        raise ValueError(
            f"`{self.path}`, column `{name}`, row {row}{self.line_of(row)}: must be a finite "
            f"number. Received: {what}. {remedy}"
        )

    def refuse_columns(self, names: Sequence[str], others: Mapping[str, str], what: str) -> None:
        """Raises an error about columns that are no numbers.

        Args:
          names: of all columns that are asked for.
          others: of those that are no numbers, and what is in them.
          what: that in a word.
        """
        shown = ", ".join(f"`{name}` ({text:.40})" for name, text in list(others.items())[:5])
        left = column_lists.join([name for name in names if name not in others])
        remedy = ENCODE
        if left and len(left) < 300:
            given = shlex.quote(f"--columns={left}")
            remedy = f"Leave them out, {given}, or write numbers for them."
        raise ValueError(
            f"`{self.path}` must have numbers alone. Received: {what} in {len(others)} of "
            f"{len(names)} columns, {shown}. {remedy}"
        )

    def line_of(self, row: int) -> str:
        """Returns where a row is, if that is known."""
        del row
        return ""

    def check_finite(self, rows: np.ndarray, names: Sequence[str], before: int) -> None:
        """Refuses NaN and infinity."""
        if not np.isfinite(rows).all():
            row, column = np.argwhere(~np.isfinite(rows))[0]
            value = rows[row, column]
            what = "a missing value" if np.isnan(value) else f"{value}"
            self.refuse(names[column], before + row + 1, what)

    def _name(self, names: Sequence[str]) -> None:
        """Takes names for the columns, numbers where there are none."""
        self.names = [name.strip() or str(i) for i, name in enumerate(names)]
        numbers: dict[str, int] = {}
        for number, name in enumerate(self.names):
            if numbers.setdefault(name, number) != number:
                raise ValueError(
                    f"`{self.path}` must have different names of columns. Received: {name!r} twice."
                )
            if len(name) > MAX_NAME:
                raise ValueError(
                    f"`{self.path}` must have names of columns of at most {MAX_NAME} characters. "
                    f"Received: {len(name)} of column {number}."
                )
        self.usual = list(self.names)
        self._numbers = numbers

    def find(self, name: str) -> int:
        """Returns the number of a column of a name, or of a number from 0 on as text."""
        if name in self._numbers:
            return self._numbers[name]
        if re.fullmatch(r"\d+", name) and int(name) < len(self.names):
            return int(name)
        known = ", ".join(map(repr, self.names[:20])) + (", ..." if len(self.names) > 20 else "")
        raise ValueError(f"`{self.path}` must have a column {name!r}. Received: {known}.")
