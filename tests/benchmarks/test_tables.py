"""The benchmark of flows of tables: what libraries are given, and what is made of the figures."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import tables, tables_data

ROOT = pathlib.Path(__file__).parents[2]


def test_splits_are_of_all_rows_in_units_of_those_to_train_on():
    rows = np.random.RandomState(0).normal(3.0, 5.0, size=[50, 2])
    splits = tables_data.split(rows, 1)
    assert {name: len(part) for name, part in splits.items()} == {
        "train": 30,
        "validation": 10,
        "test": 10,
    }
    np.testing.assert_allclose(splits["train"].mean(axis=0), 0.0, atol=1e-6)
    np.testing.assert_allclose(splits["train"].std(axis=0), 1.0, atol=1e-6)
    found = np.concatenate([*splits.values()])
    slope, offset = np.polyfit(np.sort(found[:, 0]), np.sort(rows[:, 0]), 1)
    np.testing.assert_allclose(
        np.sort(found[:, 0]) * slope + offset, np.sort(rows[:, 0]), atol=1e-4
    )


def test_batches_take_every_row_before_one_twice():
    numbers = np.concatenate([*tables_data.batches(size=10, batch=4, seed=0, count=5)])
    for part in np.split(numbers, 2):
        assert sorted(part) == [*range(10)]


def test_rounded_columns_get_noise_of_the_size_of_their_steps():
    rows = tables_data.bundled("wine")
    assert rows.shape == (178, 13)
    assert all(len(set(column)) == len(column) for column in rows.T)
    np.testing.assert_allclose(tables_data.steps(np.array([[1.0], [1.5], [4.0]])), [0.5])


def test_patches_have_no_mean_and_one_pixel_less(tmp_path):
    images = np.random.RandomState(0).randint(256, size=[3, 16, 16, 3]).astype(np.uint8)
    np.savez(tmp_path / "images.npz", images)
    rows = tables_data.patches(tmp_path / "images.npz", count=30, size=4)
    assert rows.shape == (30, 15)
    assert np.abs(rows).max() < 1.0
    assert np.abs(rows.sum(axis=1)).max() < 1.0  # What is left out, with the sign changed.


def test_the_report_that_is_best_on_validation_counts():
    best = tables_data.Best()
    scores = {"validation": [3.0, 1.0, 2.0], "test": [5.0, 4.0, 0.0]}
    for step in range(3):
        best.see(step, lambda split, step=step: scores[split][step])
    assert best.answer() == {"step": 1, "validation": 1.0, "test": 4.0}


def test_markdown():
    row = {"flow": "affine autoregressive", "table": "wine", "columns": 13}
    for name in ("tfflows", *tables.PEERS):
        row |= {f"{name}, nats": 17.0, f"{name} error": 0.5, f"{name}, ms": 4.0}
        row |= {f"{name} times": 2.0}
    row["tfflows, ms"] = 2.0
    assert tables.markdown([row]).splitlines()[2] == (
        "| affine autoregressive | wine | 13 | 17.00 ± 0.50 | 17.00 ± 0.50 | 17.00 ± 0.50 | 2 | "
        "4 (2.0x) | 4 (2.0x) |"
    )


@pytest.mark.slow
@pytest.mark.skipif(
    "PEERS_PYTHON" not in os.environ,
    reason="PEERS_PYTHON names no Python with benchmarks/requirements-splines.txt",
)
def test_quick_run(tmp_path):
    path = tmp_path / "results.json"
    command = [sys.executable, "-m", "benchmarks.tables", "--quick", f"--output={path}"]
    command += [f"--peers_python={os.environ['PEERS_PYTHON']}"]
    subprocess.run(command, check=True, cwd=ROOT)
    results = json.loads(path.read_text())["results"]
    assert [row["table"] for row in results] == ["wine", "wine"]
    for row in results:
        for name in ("tfflows", *tables.PEERS):
            assert np.isfinite(row[f"{name}, nats"])
            assert row[f"{name}, ms"] > 0
            assert len(row["all"][name]) == 2
