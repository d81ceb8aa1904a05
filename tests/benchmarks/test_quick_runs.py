"""Benchmarks run, and those of mixing layers check themselves that their contestants agree."""

import json
import pathlib
import subprocess
import sys

import pytest

import benchmarks.mixing
import benchmarks.scaling
import benchmarks.starting
import benchmarks.substitution  # noqa: F401  Run as programs; named here, dependencies in BUILD.

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("mixing", 10),
        ("substitution", 12),
        ("starting", 4),
        pytest.param("scaling", 5, marks=pytest.mark.data),
    ],
)
def test_quick_run(tmp_path, name, rows):
    path = tmp_path / "results.json"
    command = [sys.executable, "-m", f"benchmarks.{name}", "--quick", f"--output={path}"]
    subprocess.run(command, check=True, cwd=ROOT)
    results = json.loads(path.read_text())["results"]
    assert len(results) == rows
    assert all(v > 0 for row in results for key, v in row.items() if key.endswith(", ms"))
