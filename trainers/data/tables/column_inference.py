"""What the columns of a table are: their kinds and statistics, as arguments of a builder."""

from collections.abc import Mapping

import numpy as np

from trainers.data.tables import column_kinds, column_statistics, column_support
from trainers.data.tables.column_kinds import ColumnKind
from trainers.data.tables.table import Table
from zoo import columns as table_columns

_COARSE = 1e-3  # Of a standard deviation: what float32 may round off.
_FINE = 1 / 128  # Of an integer: what of its noise may be, whatever the deviation.
_LISTED = 10  # Columns in a message.


def infer(
    table: Table, split: np.ndarray, kinds: Mapping[str, ColumnKind], path: str
) -> tuple[list[dict], list[dict]]:
    """Returns the columns of a table, and those of its condition, as arguments of a builder.

    A column is real, or integer if all of its numbers are of an integer type; other kinds are said.

    Args:
      table: the table.
      split: numbers of the rows that the statistics are of.
      kinds: what was said, by the name of the column or a pattern of names.
      path: of the table, for errors.

    Raises:
      ValueError: if a column is constant, too fine for `float32`, or not of the kind that was said.
    """
    said, count = column_kinds.by_column(kinds, table.names), table.num_modelled
    for name in table.names[count:]:
        if name in said and name in kinds:
            raise ValueError(
                "`--column_kind` must be of columns that are modelled, not of those that they are "
                f"conditioned by. Received: --column_kind={name}={said[name].kind}."
            )
    specs = []
    for number, name in enumerate(table.names):
        usual = "integer" if table.is_integer[number] and number < count else "real"
        kind = said.get(name, ColumnKind(usual)) if number < count else ColumnKind("real")
        spec = {"name": name, "kind": kind.kind, "loc": 0.0, "scale": 1.0}
        spec |= {k: v for k, v in (("low", kind.low), ("high", kind.high)) if v is not None}
        specs.append(spec | ({"group": kind.group} if kind.group else {}))
    table_columns.check(specs)
    _check_spread(table, split, specs, path)
    column_support.check(specs[:count], table, np.arange(len(table.rows)), path)
    specs = table_columns.fit(specs, table.parts(split))
    return specs[:count], specs[count:]


def _check_spread(table, split, specs, path):
    """Refuses columns that are constant, or of which `float32` rounds off too much."""
    found = column_statistics.summarize(table, split)
    largest = np.maximum(abs(found.least), abs(found.largest)).astype(np.float32)
    # Noise that is added to integers is rounded off, too.
    noise = np.where([spec["kind"] == "integer" for spec in specs], np.spacing(largest) / 2, 0)
    rounded = np.maximum(table.rounded, np.where(noise > _FINE, noise, 0))
    for name, error, deviation, spread in zip(
        table.names, rounded, found.deviation, table.spread, strict=True
    ):
        if spread and error > _COARSE * (deviation or spread):
            raise ValueError(
                f"`{path}`, column `{name}`: must have numbers that float32 can tell apart. "
                f"Received: numbers of which it rounds off {error:.2g}, with a standard "
                f"deviation of {deviation:.2g}. Subtract a constant."
            )
    if len(split) == 1:
        raise ValueError(f"`{path}` must have 2 rows or more to train on. Received: 1.")
    constant = np.flatnonzero(found.least == found.largest)
    if len(constant):
        names = ", ".join(f"`{table.names[number]}`" for number in constant[:_LISTED])
        more = f" and {len(constant) - _LISTED} others" if len(constant) > _LISTED else ""
        value = found.least[constant[0]]
        raise ValueError(
            f"`{path}`: columns must vary. Received: {names}{more}, of which "
            f"{'it' if len(constant) == 1 else 'the first'} is {value:g}"
            f"{' in float32' if abs(value) >= 2**24 else ''} in all {len(split)} rows to train on. "
            "Leave constant columns out (--columns)."
        )
