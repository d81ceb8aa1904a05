"""The benchmark of guidance runs."""

import json
import pathlib
import subprocess
import sys

import pytest

import benchmarks.guidance

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
def test_quick_run(tmp_path):
    path = tmp_path / "results.json"
    command = [sys.executable, "-m", "benchmarks.guidance", "--quick", f"--output={path}"]
    subprocess.run([*command, f"--workdir={tmp_path / 'run'}"], check=True, cwd=ROOT)
    rows = json.loads(path.read_text())["results"]
    assert [row["weight"] for row in rows] == list(benchmarks.guidance.WEIGHTS)
    assert all(0 <= row["recognised"] <= 1 for row in rows)
