"""Lists of names of columns as text: commas between the names, those with commas in quotes."""

import csv
import io
from collections.abc import Sequence


def split(text: str) -> list[str]:
    """Returns the names in a text."""
    return next(csv.reader([text], skipinitialspace=True), [])


def join(names: Sequence[str]) -> str:
    """Returns the text of names."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(names)
    return text.getvalue()
