"""Files of tables that are written."""

import numpy as np
import pytest

from tests.trainers.data.tables.small_tables import read
from trainers.data.tables import table_files


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
