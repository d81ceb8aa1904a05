"""Tables that are read: batches from memory and from a file."""

import numpy as np
import pytest

from tests.trainers.data.tables.small_tables import write
from trainers.data import batching, loading
from trainers.data.tables import table, table_paths, table_reader
from trainers.data.tables.table import open_table
from zoo.registry import TABLES


def batches(name, split="train", **options):
    data = loading.load(name, split, batch_size=8, **options)
    assert (data.kind, data.num_levels) == (TABLES, None)
    count = options.pop("count", 5)
    return data, [batch.numpy() for batch in data.dataset.take(count)]


def test_batches_follow_from_seed_and_step_in_memory_and_on_disk(numbers, monkeypatch):
    options = {"shuffle_seed": 3, "repeat": True}
    data, expected = batches(numbers, **options)
    assert data.describe() == "rows [3]"
    assert expected[0].shape == (8, 3)
    monkeypatch.setattr(batching, "HELD_BYTES", 200)
    monkeypatch.setattr(table_reader, "ROWS_AT_ONCE", 7)
    table._read.cache_clear()
    assert isinstance(open_table(numbers).rows, np.memmap)
    data, found = batches(numbers, **options)
    assert data.dataset.element_spec.shape == (8, 3)
    np.testing.assert_array_equal(found, expected)
    _, late = batches(numbers, start_step=2, **options)
    np.testing.assert_array_equal(late[:3], expected[2:])
    _, half = batches(numbers, part=(1, 2), **options)
    np.testing.assert_array_equal(half, np.array(expected)[:, 4:])
    data, rows = batches(numbers, "test[:50%]")
    assert [len(batch) for batch in rows] == [5]


def test_batches_of_a_condition_are_pairs(numbers, monkeypatch):
    for held in (batching.HELD_BYTES, 200):
        monkeypatch.setattr(batching, "HELD_BYTES", held)
        table._read.cache_clear()
        options = {"batch_size": 8, "shuffle_seed": 3, "repeat": True}
        data = loading.load(f"{numbers}?condition=n,id", "train", **options)
        assert (data.event_shape, data.is_conditional) == ((1,), True)
        assert [spec.shape for spec in data.dataset.element_spec] == [(8, 1), (8, 2)]
        whole = loading.load(f"{numbers}?columns=x,n,id", "train", **options)
        for (x, y), rows in zip(data.dataset.take(3), whole.dataset.take(3), strict=True):
            np.testing.assert_array_equal(np.concatenate([x, y], axis=1), rows)


def test_a_file_that_changed_is_read_again(tmp_path):
    path = write(tmp_path / "t.csv", [[1], [2]], "x")
    assert open_table(path) is open_table(path)
    write(tmp_path / "t.csv", [[1], [2], [3]], "x")
    assert len(open_table(path).rows) == 3


def test_only_columns_of_a_model_of_tables_are_no_images(numbers):
    data = loading.load("two_moons", "test", batch_size=8)
    with pytest.raises(ValueError, match=r"takes rows. Received: --dataset=two_moons.*points"):
        loading.check_kind(data, TABLES, "two_moons")
    with pytest.raises(ValueError, match=r"must be a table.*Received: --dataset=digits"):
        table_paths.check_is_table("digits")
