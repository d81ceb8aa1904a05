"""The example that starts on Fashion-MNIST from MNIST."""

import json
import pathlib
import subprocess
import sys

import pytest

from benchmarks import fine_tuning

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("scores", "expected"), [([4, 2, 1], 15.0), ([3, 2, 1], 10.0), ([9, 8, 7], None)]
)
def test_steps_to_reach(scores, expected):
    assert fine_tuning.steps_to_reach([10, 20, 30], scores, 3.0) == expected


@pytest.mark.slow
@pytest.mark.data
def test_quick_run(tmp_path):
    path = tmp_path / "results.json"
    command = [sys.executable, "-m", "benchmarks.fine_tuning", "--quick", "--seeds=1"]
    command += [f"--output={path}", f"--workdir={tmp_path / 'work'}"]
    subprocess.run(command, check=True, cwd=ROOT)
    results = json.loads(path.read_text())
    assert [row["start"] for row in results["results"]] == ["MNIST", "nothing"]
    (curve,) = results["curves"]["MNIST"]
    assert curve[0] == [1, 2] and len(curve[1]) == 2
    assert (tmp_path / "work" / "curves.png").read_bytes().startswith(b"\x89PNG")
