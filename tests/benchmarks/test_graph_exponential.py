"""The benchmark of the graph exponential runs."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import graph_exponential

ROOT = pathlib.Path(__file__).parents[2]


def test_edges_are_symmetric_without_loops_and_of_the_degree():
    edges = graph_exponential.random_edges(1000)
    matrix = np.zeros([1000, 1000])
    matrix[tuple(edges.T)] += 1
    np.testing.assert_array_equal(matrix, matrix.T)
    assert matrix.max() == 1
    assert np.trace(matrix) == 0
    assert matrix.sum() / 1000 == pytest.approx(graph_exponential.DEGREE, rel=0.02)


@pytest.mark.slow
def test_quick_run(tmp_path):
    path = tmp_path / "graph.json"
    command = [sys.executable, "-m", "benchmarks.graph_exponential", "--quick", f"--output={path}"]
    subprocess.run(command, check=True, cwd=ROOT)
    rows = json.loads(path.read_text())["results"]
    assert len(rows) == 2 * 2 * 2 * 2
    assert all(row["s"] > 0 for row in rows)
