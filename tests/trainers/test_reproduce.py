"""Experiments: runs that end, runs that stop, tables, crops."""

import csv

import numpy as np
import pytest
from absl import app
from absl.testing import flagsaver

from trainers import experiments, reproduce

TINY = (
    "--model=balanced.digits",
    "--set=steps=[1,1]",
    "--set=width=4",
    "--batch_size=16",
    "--steps=2",
    "--report_every=2",
    "--num_validation=16",
    "--volume",
    "--volume_iterations=0",
)


def run(**values):
    with flagsaver.flagsaver(**values):
        reproduce.main(["reproduce"])


def test_means_are_over_the_seeds_and_say_how_many_runs_ended():
    runs = [experiments.Run({"model": m, "seed": s}, ()) for m in "abc" for s in range(2)]
    rows = [{"test_nats": 1.0}, {"test_nats": 3.0}, {"val_nats": 2.0}, {}]
    rows += [{"test_nats": 1.5}, {"test_nats": 3.7}]
    assert reproduce.means(runs, rows) == [
        "model a: 2 of 2 runs ended, 2.0000 +- 1.0000",
        "model b: 1 of 2 runs ended, 2.0000",
        "model c: 2 of 2 runs ended, 2.6000 +- 1.1000, "
        "+0.6000 +- 0.1000 from the first in pairs of one seed",
    ]


def test_means_compare_runs_on_the_same_data():
    labels = [{"dataset": d, "model": m, "seed": s} for d in "xy" for m in "ab" for s in range(2)]
    rows = [{"test_nats": float(n)} for n in (1, 2, 3, 4, 10, 11, 10, 11)]
    lines = reproduce.means([experiments.Run(entry, ()) for entry in labels], rows)
    assert lines[1].endswith("+2.0000 +- 0.0000 from the first in pairs of one seed")
    assert lines[2] == "dataset y, model a: 2 of 2 runs ended, 10.5000 +- 0.5000"
    assert lines[3].endswith("+0.0000 +- 0.0000 from the first in pairs of one seed")


@pytest.mark.slow
def test_runs_that_end_and_runs_that_stop_are_in_the_table(tmp_path, monkeypatch):
    runs = [
        experiments.Run({"kind": "usual", "seed": 0}, TINY, split="test[:16]"),
        experiments.Run({"kind": "too fast", "seed": 0}, (*TINY, "--recipe=learning_rate=1e30")),
    ]
    monkeypatch.setitem(experiments.EXPERIMENTS, "density", lambda: runs)
    run(experiment="density", workdir=str(tmp_path))
    with open(tmp_path / "results.csv", newline="") as file:
        usual, stopped = csv.DictReader(file)
    assert (usual["kind"], usual["steps"], usual["stopped_in_step"]) == ("usual", "2", "")
    assert 0 < float(usual["test_bits_per_dim"]) < 20
    assert float(usual["last_largest_log_det_per_dim"]) > 0
    assert (stopped["kind"], stopped["stopped_in_step"]) == ("too fast", "2")

    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")

    def fail(*args):
        raise AssertionError("A run that has ended is made again.")

    monkeypatch.setattr(reproduce, "call", fail)
    run(experiment="density", workdir=str(tmp_path))


def test_a_run_that_fails_otherwise_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce, "call", lambda module, arguments, log: log.write_text("no") or 1)
    with pytest.raises(RuntimeError, match=r"run baseline-0 failed; its output is in .*\.log"):
        run(experiment="lipschitz", workdir=str(tmp_path), only="baseline-0")


def test_crops_of_photographs(tmp_path):
    tiles = np.concatenate([np.full([40, 64, 64, 3], v, np.uint8) for v in (1, 2)])
    large = tiles.reshape([2, 8, 5, 64, 64, 3]).swapaxes(2, 3).reshape([2, 512, 320, 3])
    np.savez(tmp_path / "large.npz", images=large, numbers=np.arange(2))
    photographs = str(tmp_path / "large.npz")
    reproduce.save_crops(tmp_path / "crops.npz", 64, photographs=photographs)
    with np.load(tmp_path / "crops.npz") as file:
        assert file["validation"].shape == (8, 64, 64, 3)
        crops = np.concatenate([file["train"], file["validation"]])
    assert crops.shape == (80, 64, 64, 3)
    assert sorted(crops[:, 0, 0, 0]) == [1] * 40 + [2] * 40
    assert np.all(crops == crops[:, :1, :1, :1])
    with pytest.raises(ValueError, match="`--photographs` must name"):
        reproduce.save_crops(tmp_path / "other.npz", 64)


def test_wrong_flags(tmp_path):
    with pytest.raises(app.UsageError, match="--experiment must be given"):
        run(workdir=str(tmp_path))
    with pytest.raises(app.UsageError, match="No run has a name that --only=nothing matches"):
        run(experiment="depth", workdir=str(tmp_path), only="nothing")
