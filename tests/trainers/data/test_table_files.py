"""Files of tables: what is read of CSV, Parquet and `.npz`, and what is refused, in a line."""

import gzip
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from trainers.data import table_files


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path, *names, label=None):
    """Returns names, rows, which columns are integers, and labels of a file with one table."""
    (table,) = table_files.open_file(path).values()
    columns = [table.names.index(name) for name in names or table.usual]
    parts = list(table.parts(columns, None if label is None else table.names.index(label)))
    rows = np.concatenate([part.rows for part in parts])
    labels = [label for part in parts for label in part.labels or []]
    return (
        table.names,
        rows.tolist(),
        np.all([p.is_integer for p in parts], axis=0).tolist(),
        labels,
    )


@pytest.mark.parametrize(
    ("text", "names", "rows", "integers"),
    [
        ("a,b\n1,2.5\n3,4\n", ["a", "b"], [[1, 2.5], [3, 4]], [True, False]),
        ("a,b\r\n1,2\r\n3,4", ["a", "b"], [[1, 2], [3, 4]], [True, True]),
        ("a,b\r1,2\r3,4\r", ["a", "b"], [[1, 2], [3, 4]], [True, True]),
        ("1,2\n3,4\n", ["0", "1"], [[1, 2], [3, 4]], [True, True]),
        ("a;b\n1;2\n3;4\n", ["a", "b"], [[1, 2], [3, 4]], [True, True]),
        ("a\tb\n1\t2e0\n3\t4\n", ["a", "b"], [[1, 2], [3, 4]], [True, False]),
        ("a|b\n1|-2\n", ["a", "b"], [[1, -2]], [True, True]),
        ("sep=;\na;b\n1;2\n", ["a", "b"], [[1, 2]], [True, True]),
        ("x\n1\n2\n", ["x"], [[1], [2]], [True]),
        ("1\n2\n", ["0"], [[1], [2]], [True]),
        ('"a, b","c ""d"""\n"1","2"\n', ["a, b", 'c "d"'], [[1, 2]], [True, True]),
        ('a,b\n"1","2"\n\n 3 , 4 \n', ["a", "b"], [[1, 2], [3, 4]], [True, True]),
        ("a,b\n.5,+1.\n-1E-3,2\n", ["a", "b"], [[0.5, 1], [-1e-3, 2]], [False, False]),
        ("\ufeffa,b\n1,2\n", ["a", "b"], [[1, 2]], [True, True]),
        ("gr\u00f6\u00dfe,b\n1,2\n", ["gr\u00f6\u00dfe", "b"], [[1, 2]], [True, True]),
        (
            "gr\u00f6\u00dfe,b\n1,2\n".encode("latin-1"),
            ["gr\u00f6\u00dfe", "b"],
            [[1, 2]],
            [True] * 2,
        ),
        ("a;b\n1.5;1\n2.5;2\n", ["a", "b"], [[1.5, 1], [2.5, 2]], [False, True]),
        ("2020,2021\na,b\n1,2\n"[10:], ["a", "b"], [[1, 2]], [True, True]),
        ('"two\nlines",b\n1,2\n', ["two\nlines", "b"], [[1, 2]], [True, True]),
        ("a,b\nTrue,1\nFALSE, 2.5\n", ["a", "b"], [[1, 1], [0, 2.5]], [True, False]),
    ],
)
def test_csv(text, names, rows, integers, tmp_path):
    assert read(write(tmp_path / "t.csv", text))[:3] == (names, rows, integers)
    assert read(write(tmp_path / "t.CSV", text))[:3] == (names, rows, integers)
    content = text if isinstance(text, bytes) else text.encode()
    assert read(write(tmp_path / "t.csv.gz", gzip.compress(content)))[:3] == (names, rows, integers)


def test_texts_that_are_not_asked_for_are_no_hindrance(tmp_path):
    path = write(tmp_path / "t.csv", "n,a,color,b\nx,1,red,2\ny,3,\u2603,4\n")
    names, rows, _, labels = read(path, "b", "a", label="color")
    assert (names, rows) == (["n", "a", "color", "b"], [[2, 1], [4, 3]])
    assert labels == ["red", "\u2603"]
    path = write(tmp_path / "no_header.csv", "red,1,2\nblue,3,4\n")
    assert read(path, "1", "2")[1] == [[1, 2], [3, 4]]


def test_an_index_of_pandas_is_left_out(tmp_path, caplog):
    path = write(tmp_path / "t.csv", ",a,b\n0,5,6\n1,7,8\n2,9,10\n")
    assert read(path)[1] == [[5, 6], [7, 8], [9, 10]]
    assert "left out its first column" in caplog.text
    path = write(tmp_path / "commas.csv", "a,b,,\n1,2,,\n3,4,,\n")
    assert read(path)[1] == [[1, 2], [3, 4]]
    assert "left out 2 empty column" in caplog.text
    path = write(tmp_path / "other.csv", ",a\n5,5\n1,7\n")
    assert read(path)[1] == [[5, 5], [1, 7]]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", r"must have rows of numbers. Received: an empty file"),
        ("a,b\n", r"must have rows below its header"),
        (
            "a,b\n1,2\n3,\n",
            r"column `b`, row 2 \(line 3\).*Received: '', a missing value",
        ),
        ("a,b\n1,2\n\n\n3,NA\n", r"column `b`, row 2 \(line 5\).*'NA', a missing value"),
        ("a,b\n1,nan\n", r"column `b`, row 1 \(line 2\).*missing value"),
        ("a,b\n1,-inf\n", r"column `b`, row 1 \(line 2\).*Received: -inf"),
        ("a,b\n1,2\n1e999,2\n", r"column `a`, row 2 \(line 3\).*Received: inf"),
        ("a,b\n1,2\n3,4,5\n", r"row 2 \(line 3\): must have 2 cells.*Received: 3.*semicolons"),
        ("a,b\n1,2\n3\n", r"row 2 \(line 3\): must have 2 cells.*Received: 1\."),
        ("a,b,c\n1,x,2\n1,y,2\n", r"Received: text in 1 of 3 columns, `b` \('x'\).*--columns=a,c"),
        ("a,b\n" + "1,2\n" * 300 + "x,3\n", r"column `a`, row 301 \(line 302\).*Received: 'x'"),
        ("a,b\n1,2020-01-01\n", r"`b` \('2020-01-01'\)"),
        ("a;b\n1,5;2,25\n3,5;4\n", r"column `a`: must have numbers with a decimal point.*'1,5'"),
        ('a,b\n"1,234",5\n', r"column `a`: must have numbers with a decimal point.*'1,234'"),
        ("a;b\n" + "1;2\n" * 300 + "1,5;2\n", r"row 301 .*'1,5'. Write numbers with a decimal"),
        ("a,a\n1,2\n", r"different names of columns. Received: 'a' twice"),
        ("x" * 300 + ",b\n1,2\n", r"at most 200 characters"),
        ("a b\n1 2\n3 4\n", r"must have commas, semicolons, tabs or bars"),
        ("a,b\n1,2\n".encode("utf-16"), r"must be in UTF-8. Received: UTF-16"),
        (b"PK\x03\x04\0\0", r"must be text. Received: a file that begins with"),
        (b"a,b\n1,\0\n", r"must be text"),
        ("a,b\n1,3.5 kg\n", r"`b` \('3.5 kg'\)"),
        ("a,b\nTrue,1\n,2\n", r"column `a`, row 2 \(line 3\).*'', a missing value"),
    ],
)
def test_csv_that_is_refused(text, match, tmp_path):
    path = write(tmp_path / "t.csv", text)
    with pytest.raises(ValueError, match=f"`{path}`.*{match}"):
        read(path)


def test_a_file_that_was_cut_short(tmp_path):
    content = gzip.compress(b"a,b\n" + b"1,2\n" * 10_000)
    path = write(tmp_path / "t.csv.gz", content[:-20])
    with pytest.raises(ValueError, match="is damaged"):
        read(path)
    path = write(tmp_path / "t.parquet", b"PAR1xx")
    with pytest.raises(ValueError, match="must be a whole Parquet file"):
        read(path)
    with pytest.raises(FileNotFoundError, match="there is none"):
        read(tmp_path / "none.csv")


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
    monkeypatch.setattr(table_files, "ROWS_AT_ONCE", 2)
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


def test_npz(tmp_path):
    path = tmp_path / "t.npz"
    rows = np.arange(6).reshape(3, 2)
    np.savez(path, x=rows, columns=["a", "b"])
    assert read(path)[:3] == (["a", "b"], rows.tolist(), [True, True])
    np.savez(path, x=rows / 2)
    assert read(path)[:3] == (["0", "1"], (rows / 2).tolist(), [False, False])
    np.savez(path, x=rows / [[1], [1], [0]])
    with pytest.raises(ValueError, match=r"column `0`, row 3.*Received: inf"):
        read(path)
    np.savez(path, x=rows, names=["a"])
    with pytest.raises(ValueError, match=r"a name for each column of `x`. Received: 1 names"):
        read(path)
    np.savez(path, x=rows, images=np.zeros([2, 4, 4], np.uint8))
    assert table_files.npz_arrays(path) == []


@pytest.mark.parametrize("suffix", table_files.WRITTEN)
def test_what_is_written_is_read_again(suffix, tmp_path):
    path = tmp_path / "new" / f"t{suffix}"
    rows = np.array([[1.1, 2], [np.float32(1) / 3, 40]], np.float32)
    columns = table_files.columns_of(rows, ["a, b", "n"], [False, True])
    table_files.write(path, columns)
    if suffix == ".npz":
        with np.load(path) as file:
            np.testing.assert_array_equal(np.stack([file["a, b"], file["n"]], -1), rows)
        return
    names, found, integers, _ = read(path)
    assert (names, integers) == (["a, b", "n"], [False, True])
    np.testing.assert_array_equal(np.float32(found), rows)


def test_integers_that_64_bits_do_not_hold_stay_real():
    rows = np.array([[1e19, 2], [1, 3]], np.float32)
    found = table_files.columns_of(rows, ["a", "b"], [True, True])
    assert [column.dtype for column in found.values()] == [np.float32, np.int64]
