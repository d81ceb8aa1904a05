"""The example that ranks Fashion-MNIST against MNIST."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import anomaly

ROOT = pathlib.Path(__file__).parents[2]


def test_ranks():
    known, other = np.array([4.0, 4.1, 4.2]), np.array([2.0, 2.1, 2.2])
    areas = anomaly.rank(known, other, np.array([4.0, 4.2]), known - 1.0, other - 1.5)
    assert areas == {"bits": 0.0, "typicality": 1.0, "minus PNG": 1.0}


@pytest.mark.slow
@pytest.mark.data
def test_quick_run(tmp_path):
    path = tmp_path / "results.json"
    command = [sys.executable, "-m", "benchmarks.anomaly", "--quick", f"--output={path}"]
    subprocess.run([*command, f"--workdir={tmp_path / 'work'}"], check=True, cwd=ROOT)
    results = json.loads(path.read_text())
    assert results["images"] == 50
    assert [row["rank by"] for row in results["results"]] == ["bits", "typicality", "minus PNG"]
    assert all(0 <= row["AUROC"] <= 1 for row in results["results"])
    assert (tmp_path / "work" / "mnist_test.csv").read_text().count("\n") == 51
