"""How a CSV file is written, told from its first rows: what delimits cells, if it has a header."""

import csv
import io
from collections.abc import Sequence

from trainers.data.tables.csv_cells import has_comma, is_missing, is_number, is_text

_DELIMITERS = ",;\t|"
_SAMPLE_ROWS = 200


def split_rows(sample: str, delimiter: str) -> list[list[str]]:
    """Returns the first rows of a text that are not empty."""
    reader = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter, skipinitialspace=True)
    found: list[list[str]] = []
    try:
        for row in reader:
            if row:
                found.append(row)
            if len(found) == _SAMPLE_ROWS:
                break
    except csv.Error:
        pass  # Said where the whole file is read.
    return found


def find_delimiter(sample: str) -> str:
    """Returns the delimiter by which most cells are numbers, in rows of equal lengths."""

    def score(delimiter):
        rows = split_rows(sample, delimiter)
        width = len(rows[0]) if rows else 1
        if width == 1:
            return 0, 0.0, 1
        alike = sum(len(row) == width for row in rows) / len(rows)
        cells = [cell for row in rows[1:] or rows for cell in row]
        numbers = sum(is_number(cell) or has_comma(cell) for cell in cells)
        return alike > 0.9, numbers / max(len(cells), 1), width

    return max(_DELIMITERS, key=score)


def has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Returns whether the first row has names: texts above numbers, or nothing but texts."""
    first, others = rows[0], rows[1:]
    if not any(is_text(first, column) for column in range(len(first))):
        # Numbers, unless cells without a text are names that are missing, above numbers.
        return all(is_missing(cell) for cell in first) and bool(others)
    if not others:
        return all(is_text(first, column) for column in range(len(first)))
    numeric = [
        column
        for column in range(len(first))
        if not any(is_text(row, column) for row in others)
        and any(column < len(row) and is_number(row[column]) for row in others)
    ]
    if not numeric:
        return True
    return any(is_text(first, column) for column in numeric) or not any(
        is_number(first[column]) for column in numeric
    )
