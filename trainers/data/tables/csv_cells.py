"""What a cell of a CSV file is: a number, true or false, missing, or text."""

import re
from collections.abc import Sequence

BOOLEANS = {"true": "1", "false": "0"}
_MISSING = frozenset(["", "na", "n/a", "nan", "null", "none", "?", "-", "#n/a", "<na>", "nil"])
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf|infinity)", re.I)
_WITH_COMMA = re.compile(r"[+-]?\d+(,\d+)+(\.\d+)?|[+-]?\d{1,3}(\.\d{3})*,\d+")


def is_number(cell: str) -> bool:
    """Whether a cell is a number, or true or false, which are 1 and 0."""
    text = cell.strip()
    return bool(_NUMBER.fullmatch(text)) or text.lower() in BOOLEANS


def is_missing(cell: str) -> bool:
    """Whether a cell is empty, or says that there is nothing."""
    return cell.strip().lower() in _MISSING


def has_comma(cell: str) -> bool:
    """Whether a cell is a number with commas, of decimals or of thousands."""
    return bool(_WITH_COMMA.fullmatch(cell.strip()))


def is_text(row: Sequence[str], column: int) -> bool:
    """Whether a cell is neither a number nor missing; a row that is too short is for later."""
    if column >= len(row):
        return False
    return not (is_number(row[column]) or is_missing(row[column]))
