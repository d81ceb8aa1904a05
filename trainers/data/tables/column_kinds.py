"""What people say that columns are: `price=positive`, `*_share=simplex`."""

import dataclasses
from collections.abc import Mapping, Sequence

from trainers.data.tables.column_choice import matching


@dataclasses.dataclass(frozen=True)
class ColumnKind:
    """What was said of a column.

    Attributes:
      kind: one of `zoo.columns.KINDS`.
      low: lower bound, or `None`.
      high: upper bound, of a simplex the sum, or `None`.
      group: which columns are a simplex.
    """

    kind: str
    low: float | None = None
    high: float | None = None
    group: int = 0


def parse(texts: Sequence[str]) -> dict[str, ColumnKind]:
    """Returns what `name=kind` or `name=kind:low:high` say of columns.

    `positive` is from 0 on, or from `low`; `integer` may have bounds, `interval` must; `simplex`
    may have the sum of its columns, 1 by default, and the number of a group.

    Raises:
      ValueError: if a text is not of this form.
    """
    found = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        kind, *numbers = value.split(":")
        try:
            bounds = [float(number) if number else None for number in numbers]
        except ValueError:
            bounds = [None] * 3
        most = {"real": 0, "positive": 1, "integer": 2, "interval": 2, "simplex": 2}.get(kind, -1)
        missing = kind == "interval" and (len(bounds) < 2 or None in bounds)
        if not name or len(bounds) > most or missing:
            raise ValueError(
                "`--column_kind` must be NAME=KIND with KIND one of real, integer, "
                "integer:LOW:HIGH, positive, positive:LOW, interval:LOW:HIGH, simplex, "
                f"simplex:SUM, simplex:SUM:GROUP. Received: --column_kind={text}."
            )
        bounds += [None] * (2 - len(bounds))
        if kind == "simplex":
            found[name] = ColumnKind(kind, None, bounds[0] or 1.0, int(bounds[1] or 0))
        elif kind == "positive":
            found[name] = ColumnKind(kind, bounds[0] or 0.0)
        else:
            found[name] = ColumnKind(kind, *bounds)
    return found


def by_column(kinds: Mapping[str, ColumnKind], names: Sequence[str]) -> dict[str, ColumnKind]:
    """Returns what was said of each column; names go before patterns.

    Args:
      kinds: what was said, by the name of the column or a pattern of names.
      names: those of the columns.

    Raises:
      ValueError: if a name or pattern is of none of them.
    """
    found: dict[str, ColumnKind] = {}
    for pattern, kind in kinds.items():
        matches = matching(pattern, names)
        if not matches:
            raise ValueError(
                f"`--column_kind` must name a column. Received: {pattern!r}; there are "
                f"{', '.join(names[:20])}."
            )
        for name in matches:
            if name == pattern or name not in found:
                found[name] = kind
    return found
