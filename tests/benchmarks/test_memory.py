"""The benchmark of memory runs, and a step with blocks computed again needs less of it."""

import json
import pathlib
import subprocess
import sys

import pytest

import benchmarks.memory  # noqa: F401  Run as a program; named here, a dependency in BUILD.

ROOT = pathlib.Path(__file__).parents[2]


def results(tmp_path, *arguments):
    path = tmp_path / "memory.json"
    command = [sys.executable, "-m", "benchmarks.memory", *arguments, f"--output={path}"]
    subprocess.run(command, check=True, cwd=ROOT)
    return json.loads(path.read_text())["results"]


@pytest.mark.slow
def test_quick_run(tmp_path):
    rows = results(tmp_path, "--quick")
    assert [row["memory"] for row in rows] == ["store", "recompute", "invert"]
    assert all(row["step s"] > 0 and row["memory MB"] > 0 for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("jit", [[], ["--jit"]], ids=["graph", "xla"])
def test_recomputation_saves_memory(tmp_path, jit):
    """Where activations outweigh the graph: batches of 8192 images of 8x8."""
    arguments = ["--model=glow.digits", "--batch_size=8192", "--steps=1", *jit]
    plain, *others = results(tmp_path, *arguments)
    for again in others:
        assert again["memory MB"] < 0.75 * plain["memory MB"]
