"""Tables in `.npz` files."""

import numpy as np
import pytest

from tests.trainers.data.tables.small_tables import read
from trainers.data.tables import array_reader


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
    assert array_reader.npz_arrays(path) == []
