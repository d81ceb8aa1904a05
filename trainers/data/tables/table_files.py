"""Formats of files of tables, by suffix: what reads one, and how columns are written into one."""

import csv
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trainers.data.tables import array_reader
from trainers.data.tables.csv_reader import CsvReader
from trainers.data.tables.parquet_reader import ParquetReader, import_parquet
from trainers.data.tables.table_reader import TableReader

_CSV = (".csv", ".tsv")
_PARQUET = (".parquet", ".pq")
WRITTEN = (".csv", ".parquet", ".npz")


def suffix_of(path: pathlib.Path) -> str:
    """Returns the suffix of a file of a table, without that of its compression; or ""."""
    suffixes = [s.lower() for s in path.suffixes[-2:]]
    if suffixes[-1:] == [".gz"] and suffixes[0] in _CSV:
        return suffixes[0]
    return suffixes[-1] if suffixes and suffixes[-1] in (*_CSV, *_PARQUET, ".npz") else ""


def open_file(path: pathlib.Path) -> dict[str, TableReader]:
    """Opens a file of a table by its suffix.

    Returns:
      What reads the tables in it, by name: those of the arrays of a `.npz` file, else `""`.

    Raises:
      ValueError: if it is damaged, or no table.
    """
    suffix = suffix_of(path)
    if suffix == ".npz":
        return {key: array_reader.open_npz(path, key) for key in array_reader.npz_arrays(path)}
    return {"": ParquetReader(path) if suffix in _PARQUET else CsvReader(path)}


def write(path: pathlib.Path, columns: Mapping[str, Any]) -> None:
    """Writes columns as CSV, Parquet or `.npz`, as the name says, whole or not at all.

    Args:
      path: the file; its folder is made.
      columns: arrays or lists `[N]` by name. In a `.npz` file each is an array.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_name(f".{path.name}.whole")
    if path.suffix == ".parquet":
        import_parquet(str(path))
        import pyarrow as pa

        pa.parquet.write_table(pa.table(columns), work)
    elif path.suffix == ".npz":
        with open(work, "wb") as file:
            np.savez(file, **{name: np.asarray(column) for name, column in columns.items()})
    else:
        cells = [
            [f"{v:.9g}" for v in c] if getattr(c, "dtype", None) == np.float32 else c
            for c in columns.values()
        ]
        with open(work, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(zip(*cells, strict=True))
    with open(work, "rb") as file:
        os.fsync(file.fileno())
    work.replace(path)


def columns_of(
    rows: np.ndarray, names: Sequence[str], are_integers: Sequence[bool]
) -> dict[str, np.ndarray]:
    """Returns the columns of rows `[N, D]` by name, integers as such if 64 bits hold them."""
    return {
        name: np.round(column).astype(np.int64) if whole and np.all(abs(column) < 2**63) else column
        for name, column, whole in zip(names, np.transpose(rows), are_integers, strict=True)
    }
