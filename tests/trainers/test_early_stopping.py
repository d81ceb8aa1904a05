"""Runs that end early and keep their best weights, killed and resumed too."""

import json

import numpy as np
import pytest

from tests.trainers.tiny_runs import check_same_weights, killed_at_epoch, run, trained_weights
from trainers.runs import callbacks

pytestmark = pytest.mark.usefixtures("tiny")
# A rate that soon does harm.
FLAGS = {
    "steps": 24,
    "report_every": 2,
    "learning_rate": 0.2,
    "recipe": ["clip=null", "decay=1.0"],
    "num_validation": 50,
    "early_stopping": 3,
}


def reports(workdir):
    return callbacks.read_lines(workdir / "metrics.jsonl")


def metadata(workdir):
    return json.loads((workdir / "preset" / "metadata.json").read_text())


@pytest.fixture(scope="module")
def stopped(tiny, tmp_path_factory):
    """The folder of a run that ended early."""
    workdir = tmp_path_factory.mktemp("stopped") / "run"
    run(model="tiny.digits", workdir=str(workdir), **FLAGS)
    return workdir


def test_a_run_ends_early_with_its_best_weights(stopped):
    lines = reports(stopped)
    scores = [line["val_bits_per_dim"] for line in lines]
    best = int(np.argmin(scores))
    assert len(lines) == best + 4 < 12
    found = metadata(stopped)
    assert found["steps"] == lines[best]["step"]
    assert found["metric"]["value"] == lines[best]["bits_per_dim"]
    remarks = found["remarks"]
    data = "bits/dim on digits, validation[0:50]"
    expected = f"of step {found['steps']}, the best of the reports, {scores[best]:.4f} {data}"
    assert remarks["weights"] == expected
    taken = lines[-1]["step"]
    assert remarks["stopped"] == f"after {taken} of 24 steps, 3 reports without improvement"
    card = (stopped / "preset" / "README.md").read_text()
    assert f"| weights | {expected} |" in card


@pytest.mark.slow
def test_the_best_weights_are_those_of_their_step(stopped, tmp_path):
    """The run of as many steps ends with them."""
    path = tmp_path / "run"
    flags = FLAGS | {"steps": metadata(stopped)["steps"], "early_stopping": None}
    run(model="tiny.digits", workdir=str(path), **flags)
    assert "weights" not in metadata(path)["remarks"]
    check_same_weights(path, stopped)


@pytest.mark.slow  # By default one is in test_fine_tuning.py.
@pytest.mark.parametrize("ema", [None, 0.5])
def test_a_run_that_was_killed_ends_where_it_would_have(ema, stopped, tmp_path):
    flags = FLAGS | {"ema": ema}
    whole = stopped
    if ema:
        whole = tmp_path / "whole"
        run(model="tiny.digits", workdir=str(whole), **flags)
    lines = reports(whole)
    for kill in (1, len(lines) - 1) if ema else (len(lines) - 1,):
        workdir = tmp_path / f"killed{kill}"
        with killed_at_epoch(kill):
            run(model="tiny.digits", workdir=str(workdir), **flags)
        run(workdir=str(workdir), resume=True, report_every=2)
        check_same_weights(workdir, whole)
        assert metadata(workdir)["steps"] == metadata(whole)["steps"]
        assert [line["step"] for line in reports(workdir)] == [line["step"] for line in lines]
    if not ema:
        return
    # Resumed once more it does nothing; with more patience it goes on.
    run(workdir=str(workdir), resume=True, report_every=2)
    assert len(reports(workdir)) == len(lines)
    check_same_weights(workdir, whole)
    run(workdir=str(workdir), resume=True, report_every=2, early_stopping=4)
    assert len(reports(workdir)) > len(lines)


@pytest.mark.slow
def test_the_best_or_the_last_weights_are_kept(stopped, tmp_path):
    last, best = tmp_path / "last", tmp_path / "best"
    run(model="tiny.digits", workdir=str(last), keep="last", **FLAGS)
    found = metadata(last)
    assert found["steps"] == reports(last)[-1]["step"]
    assert found["remarks"]["weights"].startswith("of the last step; at step ")
    run(model="tiny.digits", workdir=str(best), keep="best", **FLAGS | {"early_stopping": None})
    assert len(reports(best)) == 12
    scores = [line["val_bits_per_dim"] for line in reports(best)]
    assert metadata(best)["steps"] == reports(best)[int(np.argmin(scores))]["step"]
    before, after = trained_weights(stopped), trained_weights(last)
    assert any(np.any(after[name] != value) for name, value in before.items())


@pytest.mark.parametrize(
    ("asked", "data"), [({"early_stopping": 2}, "npz"), ({"keep": "best"}, "none asked")]
)
def test_there_must_be_a_validation_split(asked, data, tmp_path):
    values = {"num_validation": 0}
    if data == "npz":
        values = {"dataset": str(tmp_path / "a.npz"), "set": ["num_levels=256"]}
        np.savez(tmp_path / "a.npz", train=np.zeros([40, 8, 8, 1], np.uint8))
    with pytest.raises(ValueError, match="need a validation split.*Received: --") as error:
        run(model="tiny.digits", workdir=str(tmp_path / "run"), **asked, **values)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()
