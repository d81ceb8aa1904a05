"""Parquet files of tables."""

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from trainers.data.tables.table_reader import Part, TableReader, rows_at_once


class ParquetReader(TableReader):
    """A Parquet file, of which one part after the other is in memory.

    Args:
      path: the file.

    Raises:
      ValueError: if it is damaged, or pyarrow is not installed.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = str(path)
        parquet = import_parquet(self.path)
        try:
            self._file = parquet.ParquetFile(path)
        except Exception as error:  # Of pyarrow, whose classes are no ValueErrors in all versions.
            text = str(error).partition("\n")[0]
            raise ValueError(f"`{path}` must be a whole Parquet file: {text}") from error
        self._keys = list(self._file.schema_arrow.names)
        self._name(self._keys)
        self.usual = [name for name in self.names if not name.startswith("__index_level_")]

    def parts(self, columns: Sequence[int], label: int | None = None) -> Iterator[Part]:
        """See `TableReader.parts`."""
        import pyarrow as pa

        keys = [self._keys[column] for column in columns]
        wanted = list(dict.fromkeys(keys + ([] if label is None else [self._keys[label]])))
        fields = {key: self._file.schema_arrow.field(key).type for key in keys}
        others = {
            self.names[column]: str(fields[key])
            for column, key in zip(columns, keys, strict=True)
            if not _is_numeric(pa, fields[key])
        }
        if others:
            self.refuse_columns([self.names[c] for c in columns], others, "other types")
        is_integer = np.array(
            [pa.types.is_integer(fields[k]) or pa.types.is_boolean(fields[k]) for k in keys]
        )
        before = 0
        for batch in self._file.iter_batches(rows_at_once(len(keys)), columns=wanted):
            rows = np.empty([len(batch), len(keys)])
            for number, key in enumerate(keys):
                column = batch.column(batch.schema.get_field_index(key))
                if column.null_count:
                    row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
                    self.refuse(key, before + row + 1, "a missing value (null)")
                rows[:, number] = column.cast(pa.float64(), safe=False).to_numpy()
            self.check_finite(rows, keys, before)
            labels = None
            if label is not None:
                column = batch.column(batch.schema.get_field_index(self._keys[label]))
                labels = [str(value) for value in column.to_pylist()]
            yield Part(rows, is_integer, labels)
            before += len(batch)


def import_parquet(path: str) -> Any:
    """Returns `pyarrow.parquet`, or says how to get it."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError(
            f"`{path}`: Parquet needs pyarrow, which is not installed: `pip install pyarrow`."
        ) from error
    return pyarrow.parquet


def _is_numeric(pa, kind):
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
    return any(test(kind) for test in tests)
