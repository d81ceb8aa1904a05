"""Which files are tables."""

import numpy as np
import pytest

from tests.trainers.data.tables.small_tables import write
from trainers.data.tables import table_paths
from trainers.data.tables.table import open_table


def test_what_is_a_table(tmp_path, numbers):
    np.savez(tmp_path / "rows.npz", train=np.zeros([3, 2]))
    np.savez(tmp_path / "images.npz", train=np.zeros([3, 2, 2], np.uint8))
    write(tmp_path / "both" / "t.csv", [[1, 2]])
    (tmp_path / "both" / "picture.png").write_bytes(b"")
    (tmp_path / "folder.csv").mkdir()
    for name in ("sklearn:wine", numbers, f"{numbers}?columns=x", "none.csv", "a/*.parquet"):
        assert table_paths.is_table(name), name
    assert table_paths.is_table(str(tmp_path / "rows.npz"))
    for name in ("digits", "cifar10", "images.npz", "both", "folder.csv", "none"):
        assert not table_paths.is_table(str(tmp_path / name)), name


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is none"):
        open_table(str(tmp_path / "none.csv"))


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (np.array([[1, "a"]], object), "`x` of Python objects"),
        (np.array([["1", "a"]]), r"`x` \[1, 2\] of <U1"),
        (np.arange(3.0), r"`x` \[3\] of float64"),
        (np.ones([3, 2], complex), r"`x` \[3, 2\] of complex128"),
        (np.zeros(3, [("a", float)]), r"`x` \[3\]"),
    ],
)
def test_arrays_that_are_no_tables_are_said(array, match, tmp_path):
    path = str(tmp_path / "t.npz")
    np.savez(path, x=array)
    with pytest.raises(ValueError, match=rf"must have an array \[N, D\].*{match}") as error:
        table_paths.check_is_table(path)
    assert "\n" not in str(error.value)
    np.save(tmp_path / "t.npy", array)
    with pytest.raises(ValueError, match=r"np.savez\('.*t.npz', np.load"):
        table_paths.check_is_table(str(tmp_path / "t.npy"))
