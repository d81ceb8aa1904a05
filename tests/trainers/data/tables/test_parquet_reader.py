"""Parquet files: what is read, and what is refused, in a line."""

import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.trainers.data.tables.small_tables import read
from tests.trainers.data.tables.small_tables import write_content as write
from trainers.data.tables import table_files, table_reader


def test_parquet(tmp_path, monkeypatch):
    path = tmp_path / "t.parquet"
    columns = {
        "i": pa.array([1, 2, 3], pa.int16()),
        "f": pa.array([0.5, 1, 2], pa.float32()),
        "flag": pa.array([True, False, True]),
        "s": pa.array(["train", "test", "train"]).dictionary_encode(),
        "__index_level_0__": pa.array([0, 1, 2]),
    }
    pa.parquet.write_table(pa.table(columns), path)
    monkeypatch.setattr(table_reader, "ROWS_AT_ONCE", 2)
    _, rows, integers, labels = read(path, "flag", "f", "i", label="s")
    assert rows == [[1, 0.5, 1], [0, 1, 2], [1, 2, 3]]
    assert integers == [True, False, True]
    assert labels == ["train", "test", "train"]
    (table,) = table_files.open_file(path).values()
    assert table.usual == ["i", "f", "flag", "s"]
    with pytest.raises(
        ValueError, match=r"in 1 of 4 columns, `s` \(dictionary.*--columns=i,f,flag"
    ):
        read(path)
    for values, match in (
        ([1.0, None, 2.0], r"column `f`, row 2: .*a missing value \(null\)"),
        ([1.0, 2.0, np.inf], r"column `f`, row 3: .*Received: inf"),
    ):
        pa.parquet.write_table(pa.table({"f": values}), path)
        with pytest.raises(ValueError, match=match):
            read(path)


@pytest.mark.parametrize(
    ("column", "match"),
    [
        (pa.array([1, 2], pa.timestamp("us")), r"timestamp\[us\]"),
        (pa.array([1, 2], pa.date32()), r"date32"),
        (pa.array([[1], [2]]), "list"),
        (pa.nulls(2), "null"),
        (pa.array(["a", "b"]), "string"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_parquet_of_other_types(column, match, tmp_path):
    path = tmp_path / "t.parquet"
    pa.parquet.write_table(pa.table({"a": [1.5, 2.5], "b": column}), path)
    with pytest.raises(ValueError, match=rf"other types in 1 of 2 columns, `b` \({match}.*=a, or"):
        read(path)


def test_parquet_without_pyarrow_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    path = write(tmp_path / "t.parquet", b"PAR1")
    with pytest.raises(ValueError, match="`pip install pyarrow`"):
        read(path)


def test_a_file_that_was_cut_short(tmp_path):
    path = write(tmp_path / "t.parquet", b"PAR1xx")
    with pytest.raises(ValueError, match="must be a whole Parquet file"):
        read(path)
