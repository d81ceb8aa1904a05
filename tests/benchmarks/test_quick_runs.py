"""Benchmarks run, and those of mixing layers check themselves that their contestants agree."""

import json
import pathlib
import subprocess
import sys

import pytest

import benchmarks.inversions
import benchmarks.mixing
import benchmarks.scaling
import benchmarks.starting
import benchmarks.substitution  # noqa: F401  Run as programs; named here, dependencies in BUILD.
from benchmarks import measuring, quasi_linear

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("mixing", 10),
        ("substitution", 12),
        ("inversions", 3),
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
