"""Which columns of a table are read: those that its name asks for, or those of a model."""

import collections
import re
from collections.abc import Sequence

from trainers.data.tables.table_names import Spec, name_with
from trainers.data.tables.table_paths import check_is_table
from trainers.data.tables.table_reader import TableReader
from zoo import columns as table_columns
from zoo.registry import Model


def name_with_columns_of(name: str, entry: Model) -> str:
    """Returns the name of a table, of which the columns of a model are taken, by name.

    Args:
      name: the name of a table.
      entry: an entry of the zoo, with the columns that it was built from.

    Raises:
      ValueError: if the name is not that of a table.
    """
    check_is_table(name)
    found = {
        option: table_columns.names(entry.arguments[argument])
        for option, argument in (("columns", "columns"), ("condition", "condition_columns"))
    }
    return name_with(name, **{key: value or None for key, value in found.items()})


def choose(spec: Spec, table: TableReader) -> list[str]:
    """Returns the names of the columns to read of a table, then those of the condition.

    Raises:
      ValueError: if one is not there or is used twice, or none is left.
    """
    chosen = (*_choose_modelled(spec, table), *spec.condition)
    names = [table.names[table.find(name)] for name in chosen]
    twice = next((name for name, count in collections.Counter(names).items() if count > 1), None)
    if twice is not None or spec.split_column in names:
        raise ValueError(
            "A column must be used once, as one of the columns, of the condition, or for splits. "
            f"Received: {twice or spec.split_column!r} twice."
        )
    return names


def _choose_modelled(spec, table):
    left = {
        table.names[table.find(n)] for n in (*spec.condition, spec.split_column) if n is not None
    }
    usual = [name for name in table.usual if name not in left]
    found, asked = list(usual), spec.columns or ()
    if asked and (asked[0] in table.names or not asked[0].startswith("-")):
        found = []
    for name in asked:
        if name in table.names or not (name.startswith("-") or "*" in name):
            found.append(table.names[table.find(name)])
        elif name.startswith("-"):
            gone = matching(name[1:], table.names) or [table.names[table.find(name[1:])]]
            found = [other for other in found if other not in gone]
        else:
            found += [other for other in matching(name, usual) if other not in found]
    if not found:
        raise ValueError(f"`{table.path}` must have columns. Received: none but {sorted(left)}.")
    return found


def matching(pattern: str, names: Sequence[str]) -> list[str]:
    """Returns the names that are a pattern, in which `*` is any text."""
    if pattern in names:
        return [pattern]
    expression = re.compile(".*".join(map(re.escape, pattern.split("*"))))
    return [name for name in names if expression.fullmatch(name)]
