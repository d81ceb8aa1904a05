"""Runs that are killed end as one that is not; and the script sees it where one does not."""

import json
import pathlib
import random
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import killed_runs

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
def test_a_killed_run_ends_as_an_unbroken_one(tmp_path):
    command = [sys.executable, "-m", "benchmarks.killed_runs", "--runs=1", "--kills=3"]
    command.append(f"--folder={tmp_path}")
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    assert "3 kills of 1 runs" in result.stdout
    # That the comparison can fail: with a report that is another, and a preset.
    lines = (tmp_path / "broken0" / "metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    last["bits_per_dim"] = float(np.nextafter(last["bits_per_dim"], 0))
    (tmp_path / "broken0" / "metrics.jsonl").write_text("\n".join([*lines, json.dumps(last)]))
    (problem,) = killed_runs.compare(tmp_path / "broken0", tmp_path / "unbroken")
    assert "1 reports differ" in problem


def test_a_victim_is_killed_by_a_signal_it_can_not_catch():
    processes = [subprocess.Popen(["sleep", "60"]) for _ in range(2)]
    try:
        killed_runs.wait_for(processes, lambda: True)
        victim, other = processes[::-1] if random.Random(0).choice([0, 1]) else processes
        other.terminate()
        killed_runs.kill(processes, random.Random(0))
        assert victim.returncode == -9
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert not killed_runs.wait_for(processes, lambda: True)
