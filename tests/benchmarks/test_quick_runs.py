"""Benchmarks run, and those of mixing layers check themselves that their contestants agree."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import benchmarks.inference
import benchmarks.inversions
import benchmarks.mixing
import benchmarks.scaling
import benchmarks.starting
import benchmarks.substitution  # noqa: F401  Run as programs; named here, dependencies in BUILD.
from benchmarks import measuring, quasi_linear, sylvester_tensorflow

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("mixing", 10),
        ("substitution", 12),
        ("inversions", 3),
        ("inference", 4),
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


def test_a_contestant_that_something_else_slowed_down_gets_no_figure(capsys):
    times = {("torch", 1): [2.0, 2.1, 2.2], ("torch", 2): [1.9, 288.0, 1.9], ("own", ""): [3, 4, 5]}
    iterators = {key: iter(values) for key, values in times.items()}
    turns = {key: lambda it=it: next(it) for key, it in iterators.items()}
    seconds = measuring.in_rounds(turns, 3)
    said = capsys.readouterr().out
    assert "No figure for torch 2: it took 1.9e+03 to 2.88e+05 ms. Run again" in said
    assert said.count("No figure") == 1
    best = measuring.fastest(seconds)
    assert best == {"torch": ("torch", 1), "own": ("own", "")}
    assert np.isnan(measuring.paired_ratio(seconds["torch", 2], seconds["own", ""]))
    seconds["own", "slow"] = np.full(3, 9.0)
    seconds["own", ""] = np.array([3.0, np.nan, np.nan])
    assert measuring.fastest(seconds)["own"] == ("own", "")  # No figure, rather than 9.
    lost = {("torch", 1): np.full(3, np.nan)}
    assert measuring.fastest(lost) == {"torch": ("torch", 1)}


def test_contestants_of_sylvester_flows_invert():
    """Beside PyTorch they are run by hand alone."""
    flow, _ = sylvester_tensorflow.make_flow(channels=2, size=3, width=4)
    x = tf.random.stateless_normal([2, 3, 3, 2], [0, 1])
    y = flow.forward(x)
    for newton in (True, False):
        found, _ = sylvester_tensorflow._inverse(flow, tf.identity(y), newton)
        np.testing.assert_allclose(found, x, atol=1e-4)


def test_mistakes_of_a_user_are_messages(monkeypatch, capsys):
    """As in the programs of trainers/: those with the usual flags are run by `measuring.run`."""
    for path in sorted((ROOT / "benchmarks").glob("*.py")):
        source = path.read_text()
        if "_parser(__doc__" in source:
            assert source.endswith('if __name__ == "__main__":\n    measuring.run(main)\n'), path
    monkeypatch.setattr(sys, "argv", ["quasi_linear", "--images=nope"])
    with pytest.raises(SystemExit) as caught:
        measuring.run(quasi_linear.main)
    assert caught.value.code == 1
    assert capsys.readouterr().err.startswith("Error: `name` must be digits, a planar set")
    monkeypatch.setattr(sys, "argv", ["quasi_linear", "--images=nope", "--traceback"])
    with pytest.raises(ValueError, match="must be digits"):
        measuring.run(quasi_linear.main)
