"""A table, read once: its rows, their splits, and what batches are made of."""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from trainers.data import batching, split_names
from trainers.data.tables import bundled, column_choice, table_files, table_paths, table_splits
from trainers.data.tables.row_store import RowStore
from trainers.data.tables.table_names import Spec, parse
from trainers.data.tables.table_reader import TableReader, row_slices
from zoo.registry import TABLES
from zoo.storage import files


@dataclasses.dataclass(frozen=True)
class Table:
    """A table in memory, or in a temporary file.

    Attributes:
      rows: `float32`, `[N, D]`: the columns, then those of the condition.
      names: of the columns.
      num_conditions: how many of them, the last, are of the condition.
      is_integer: which columns are of an integer type.
      rounded: the most that `float32` rounded off, by column.
      spread: from the least to the largest number, before that, by column.
      splits: numbers of the rows of each split.
      said: how the splits came about, in words.
    """

    rows: np.ndarray
    names: tuple[str, ...]
    num_conditions: int
    is_integer: np.ndarray
    rounded: np.ndarray
    spread: np.ndarray
    splits: dict[str, np.ndarray]
    said: str

    @property
    def num_modelled(self) -> int:
        """How many of the columns, the first, are not of the condition."""
        return len(self.names) - self.num_conditions

    def parts(self, numbers: np.ndarray) -> Iterator[np.ndarray]:
        """Yields rows by their numbers, as many at a time as are read of a file."""
        for place in row_slices(len(numbers), len(self.names)):
            yield np.asarray(self.rows[numbers[place]], np.float64)


def open_table(name: str) -> Table:
    """Returns a table by its name; one that was read already is not read again.

    Raises:
      FileNotFoundError: if there is none.
      ValueError: if it is damaged, a column is missing, or what is in one is no number.
    """
    spec = parse(name)
    if spec.path.startswith(bundled.PREFIX):
        return _read(spec, ())
    paths = table_paths.find(spec.path)
    return _read(
        spec, tuple((path, path.stat().st_mtime_ns, path.stat().st_size) for path in paths)
    )


@functools.lru_cache(2)
def _read(spec: Spec, stamps: tuple) -> Table:
    """Reads a table; `stamps` has each of its files, with what tells it from an older one."""
    readers = _open_files(spec, [path for path, *_ in stamps])
    names = column_choice.choose(spec, next(iter(readers.values())))
    store, counts, labels = RowStore(len(names)), {}, []
    whole, rounded = np.ones(len(names), bool), np.zeros(len(names))
    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    for key, reader in readers.items():
        columns = [reader.find(name) for name in names]
        label = None if spec.split_column is None else reader.find(spec.split_column)
        counts[key] = 0
        for part in reader.parts(columns, label):
            with np.errstate(over="ignore"):
                rows = part.rows.astype(np.float32)
            reader.check_finite(rows, names, counts[key])
            rounded = np.maximum(rounded, abs(rows - part.rows).max(axis=0))
            low, high = np.minimum(low, part.rows.min(0)), np.maximum(high, part.rows.max(0))
            whole &= part.is_integer
            store.append(rows)
            labels += part.labels or []
            counts[key] += len(rows)
    if not any(counts.values()):
        raise ValueError(f"`{spec.path}` must have rows. Received: none.")
    splits, said = table_splits.divide(spec, counts, labels)
    rows, count = store.finish(spec.path), len(spec.condition)
    return Table(rows, tuple(names), count, whole, rounded, high - low, splits, said)


def _open_files(spec: Spec, paths: Sequence[pathlib.Path]) -> dict[split_names.Path, TableReader]:
    """Returns what reads the files, by a tuple of names, from that of the folder on."""
    if not paths:
        return {(): bundled.open_bundled(spec.path)}
    root = files.local(spec.path)
    found: dict[split_names.Path, TableReader] = {}
    for path in paths:
        inside = table_files.open_file(path)
        if len(inside) > 1 and not split_names.tell([tuple(key.split("/")) for key in inside]):
            raise ValueError(
                f"`{path}` must have one array [N, D], or arrays train, validation and test. "
                f"Received: {', '.join(f'`{key}`' for key in inside)}."
            )
        inner = path.relative_to(root) if root.is_dir() else pathlib.Path(path.name)
        stem = inner.name[: -len("".join(inner.suffixes))] or inner.name
        parts = (*inner.parent.parts, *((stem,) if len(paths) > 1 else ()))
        for key, reader in inside.items():
            found[(*parts, *key.split("/")) if key else parts] = reader
    return found


def open_rows(table: Table, numbers: np.ndarray) -> batching.Source:
    """Returns rows of a table, by their numbers, for batches: pairs, if there is a condition."""
    if isinstance(table.rows, np.memmap):
        source = batching.hold_on_disk(table.rows, numbers, TABLES)
    else:
        source = batching.hold(table.rows[numbers], None, TABLES)
    if not table.num_conditions:
        return source
    count = table.num_modelled

    def batches(order: batching.Order) -> tf.data.Dataset:
        return source.batches(order).map(lambda rows: (rows[:, :count], rows[:, count:]))

    return dataclasses.replace(source, batches=batches, event_shape=(count,))
