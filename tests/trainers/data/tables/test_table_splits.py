"""Splits of tables: by fractions, a column, files or arrays."""

import numpy as np
import pytest

from tests.trainers.data.tables.small_tables import write
from trainers.data.tables import table_paths, table_splits
from trainers.data.tables.table import open_table


def test_fractions_are_disjoint_and_follow_from_the_seed(numbers):
    table = open_table(numbers)
    sizes = {split: len(rows) for split, rows in table.splits.items()}
    assert sizes == {"train": 80, "validation": 10, "test": 10}
    parts = [table.splits[split] for split in ("train", "validation", "test")]
    assert sorted(np.concatenate(parts)) == list(range(100))
    assert table.said == "80, 10, 10 in 100 rows for train, validation and test, by seed 0"
    # Pinned: a test set must be the same for ever.
    assert table.splits["test"].tolist() == PINNED
    other = open_table(f"{numbers}?seed=1")
    assert set(other.splits["test"]) != set(table.splits["test"])
    halves = open_table(f"{numbers}?split=0.5,0,0.5")
    assert {s: len(r) for s, r in halves.splits.items()} == {"train": 50, "test": 50}


PINNED = [3, 33, 36, 38, 45, 46, 58, 76, 78, 85]


def test_the_hash_is_uniform():
    uniform = table_splits._hash(np.arange(100_000), 7) / 2.0**64
    counts = np.histogram(uniform, 100, [0, 1])[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 150
    assert abs(np.corrcoef(uniform[1:], uniform[:-1])[0, 1]) < 0.01


def test_a_column_says_the_split(tmp_path):
    rows = [[i, part] for i, part in enumerate(["train", "Test", "val", "train"])]
    path = write(tmp_path / "t.csv", rows, "x,part")
    table = open_table(f"{path}?split_column=part")
    assert table.names == ("x",)
    found = {split: numbers.tolist() for split, numbers in table.splits.items()}
    assert found == {"train": [0, 3], "validation": [2], "test": [1]}
    path = write(tmp_path / "u.csv", [[1, "test"], [2, "holdout"]], "x,part")
    with pytest.raises(ValueError, match=r"Received: 'holdout', in row 2"):
        open_table(f"{path}?split_column=part")
    path = write(tmp_path / "v.csv", [[1, "test"]], "x,part")
    with pytest.raises(ValueError, match="must have rows of train"):
        open_table(f"{path}?split_column=part")


def test_files_say_the_split(tmp_path):
    for name, count in (("train", 30), ("test", 5)):
        write(tmp_path / "t" / f"{name}.csv", [[i, 1] for i in range(count)], "x,y")
    table = open_table(str(tmp_path / "t"))
    sizes = {split: len(rows) for split, rows in table.splits.items()}
    assert sizes == {"train": 27, "validation": 3, "test": 5}
    assert "a tenth of train for validation" in table.said
    table_paths.files_of_folder.cache_clear()
    # Another order of columns, and a file that is in no split.
    write(tmp_path / "t" / "validation.csv", [[2, 100]], "y,x")
    table = open_table(f"folder:{tmp_path / 't'}")
    assert table.rows[table.splits["validation"]].tolist() == [[100, 2]]
    assert len(table.splits["train"]) == 30
    with pytest.raises(ValueError, match="must have a column 'z'"):
        write(tmp_path / "t" / "validation.csv", [[2, 100]], "y,z")
        open_table(str(tmp_path / "t?columns=x,z"))


def test_files_that_say_no_split_are_one_table(tmp_path):
    for part in range(3):
        write(tmp_path / f"part-{part}.csv", [[10 * part + i] for i in range(10)], "x")
    for name in (tmp_path, tmp_path / "part-*.csv"):
        table = open_table(str(name))
        np.testing.assert_array_equal(table.rows[:, 0], np.arange(30))
        assert len(table.splits["train"]) == 24
    with pytest.raises(FileNotFoundError, match="files of this pattern"):
        open_table(str(tmp_path / "other-*.csv"))


def test_arrays_say_the_split(tmp_path):
    path = tmp_path / "t.npz"
    np.savez(path, x_train=np.zeros([4, 2]), x_test=np.ones([3, 2]), columns=["a", "b"])
    table = open_table(str(path))
    assert table.names == ("a", "b")
    assert table.rows[table.splits["test"]].tolist() == [[1, 1]] * 3
    np.savez(path, a=np.zeros([4, 2]), b=np.zeros([4, 2]))
    with pytest.raises(ValueError, match=r"must have one array \[N, D\].*`a`, `b`"):
        open_table(str(path))
