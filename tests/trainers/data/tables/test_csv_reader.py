"""CSV files: what is read, and what is refused, in a line."""

import gzip

import pytest

from tests.trainers.data.tables.small_tables import read
from tests.trainers.data.tables.small_tables import write_content as write


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
