"""Runs that start from a preset, with variables that are frozen."""

import json

import numpy as np
import pytest

import zoo
from tests.trainers.tiny_runs import (
    check_same_weights,
    killed,
    killed_at_epoch,
    run,
    run_and_copy,
    trained_weights,
)
from trainers import evaluate
from zoo.storage import files

pytestmark = pytest.mark.usefixtures("tiny")
STILL = {"learning_rate": 0.0}  # Such that weights are those that training starts from.


def preset(workdir, file="metadata.json"):
    return json.loads((workdir / "preset" / file).read_text())


def test_a_run_starts_from_the_weights_of_a_preset(finished, tmp_path, capsys):
    path, source = tmp_path / "run", finished / "preset"
    run(init=str(source), workdir=str(path), report_every=4, **STILL)
    before, after = trained_weights(finished), trained_weights(path)
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)
    count = len(before)
    said = capsys.readouterr().out
    assert f"--init={source}: {count} of {count} variables start from there, 100 % of the" in said
    config = json.loads((path / "config.json").read_text())
    assert config["model"] == "tiny.digits" and config["init"] == str(source)
    first, second = preset(path)["stages"]
    assert first["model"] == "tiny.digits"
    assert first["sha256"] == preset(finished)["sha256"]
    assert first["metric_value"] == preset(finished)["metric"]["value"]
    assert (second["fitting"], second["variables"]) == (count, count)
    card = (path / "preset" / "README.md").read_text()
    assert f"1. `tiny.digits`; training bits/dim {first['metric_value']:.4f} on digits" in card
    assert f"2. from those weights, {count} of {count} variables; on digits, train" in card


@pytest.mark.slow
def test_three_runs_are_three_stages(tuned, tmp_path):
    """And evaluation leaves them there."""
    run(init=str(tuned), workdir=str(tmp_path / "third"), report_every=4, **STILL)
    run(evaluate.main, workdir=str(tmp_path / "third"), split="test[:20]")
    stages = preset(tmp_path / "third")["stages"]
    assert [stage.get("model") for stage in stages] == ["tiny.digits", "tiny.digits", None]
    assert stages[1]["fitting"] == stages[1]["variables"] and stages[1]["command"]
    assert "3. from those weights" in (tmp_path / "third" / "preset" / "README.md").read_text()


@pytest.mark.slow
def test_act_norm_is_initialised_anew_if_asked_or_new(finished, tmp_path, capsys):
    run(
        init=str(finished),
        workdir=str(tmp_path / "anew"),
        init_act_norm=True,
        report_every=4,
        seed=3,
        **STILL,
    )
    before, after = trained_weights(finished), trained_weights(tmp_path / "anew")
    norms = [name for name in before if "shift" in name or "log_scale" in name]
    assert norms
    for name, value in before.items():
        assert np.array_equal(after[name], value) == (name not in norms), name
    capsys.readouterr()
    run(
        init=str(finished),
        model="tiny.digits",
        set=["steps=[2,1]", "widths=[4,6]"],
        workdir=str(tmp_path / "more"),
        report_every=4,
        **STILL,
    )
    said, after = capsys.readouterr().out, trained_weights(tmp_path / "more")
    fitting = [n for n, value in before.items() if n in after and after[n].shape == value.shape]
    assert 0 < len(fitting) < len(after)
    assert f"{len(fitting)} of {len(after)} variables start from there" in said
    assert f"\n  {len(after) - len(fitting)} start anew, " in said
    for name in fitting:
        np.testing.assert_array_equal(after[name], before[name], err_msg=name)
    # Those that are new have seen data.
    new = [n for n in after if n not in fitting and ("shift" in n or "log_scale" in n)]
    assert new and all(np.any(after[name]) for name in new)


FREEZE = {
    "freeze": ["*levels/0/*"],
    # Ends at the third of four reports, which is worse than the second.
    **{"early_stopping": 1, "steps": 8, "report_every": 2},
    **{"learning_rate": 1.0, "recipe": ["clip=null", "decay=1.0"]},
}


@pytest.fixture(scope="module")
def tuned(finished, tmp_path_factory):
    """The folder of a run from a preset, whose first level is frozen, that ends early."""
    workdir = tmp_path_factory.mktemp("tuned") / "run"
    run_and_copy(workdir, init=str(finished), **FREEZE)
    return workdir


def test_frozen_variables_stay_as_they_are(finished, tuned):
    before, after = trained_weights(finished), trained_weights(tuned)
    frozen = [name for name in before if "levels/0/" in name]
    for name, value in before.items():
        assert np.array_equal(after[name], value) == (name in frozen), name
    metadata = preset(tuned)
    trained = sum(before[name].size for name in before if name not in frozen)
    assert metadata["parameters"] == preset(finished)["parameters"]
    now = metadata["stages"][-1]
    assert (now["frozen"], now["parameters"]) == ("*levels/0/*", metadata["parameters"])
    assert 0 < now["trained_parameters"] <= trained
    card = (tuned / "preset" / "README.md").read_text()
    assert f"{now['trained_parameters']:,} of {now['parameters']:,} parameters trained" in card


@pytest.mark.slow
def test_how_many_are_trained_is_said(finished, tmp_path, capsys):
    run(init=str(finished), workdir=str(tmp_path / "run"), freeze=["*shift", "*log_scale"])
    said = capsys.readouterr().out
    now = preset(tmp_path / "run")["stages"][-1]
    trained, count = now["trained_parameters"], now["parameters"]
    assert f"{trained} of {count} parameters are trained, the others are frozen" in said
    before, after = trained_weights(finished), trained_weights(tmp_path / "run")
    frozen = [name for name in before if name.endswith(("shift", "log_scale"))]
    assert count - trained == sum(before[name].size for name in frozen) > 0
    for name in frozen:
        np.testing.assert_array_equal(after[name], before[name], err_msg=name)


@pytest.mark.parametrize("kill", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_run_from_a_preset_that_was_killed_goes_on(kill, finished, tuned, tmp_path):
    workdir = killed(tuned)
    if kill == 0:
        workdir = tmp_path / "run"
        with killed_at_epoch(kill):
            run(init=str(finished), workdir=str(workdir), **FREEZE)
    with pytest.raises(
        ValueError, match=r"has not finished: .*--resume`. Received: .*/run(_killed)?, without"
    ):
        run(init=str(workdir), workdir=str(tmp_path / "other"))
    run(workdir=str(workdir), resume=True, report_every=2)
    check_same_weights(workdir, tuned)
    assert preset(tuned)["remarks"]["stopped"].startswith("after 6 of 8 steps, 1 reports")
    for key in ("steps", "stages", "remarks"):
        assert preset(workdir)[key] == preset(tuned)[key]
    for change in ({"init": "glow.digits"}, {"freeze": ["*shift"]}, {"init_act_norm": True}):
        with pytest.raises(ValueError, match=f"its {next(iter(change))} is"):
            run(workdir=str(workdir), resume=True, **change)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"init": "glow.digit"}, "There is no model of this name|must be a folder"),
        ({"init": "realnvp.digits"}, "has no pretrained weights; those that have"),
        ({"init": "balanced.two_moons"}, r"by path and shape\. Received: --init=.*none fits"),
        ({"init": ""}, "must be a preset or the folder of a run. Received: --init="),
        ({"freeze": ["*nothing*"]}, r"A pattern must match .*Received: '\*nothing\*', which"),
        ({"freeze": ["*shift", "levels"]}, "Received: 'levels', which matches none of"),
        ({"freeze": ["*"]}, r"must leave something to train. Received: --freeze=\*"),
    ],
)
def test_starts_that_no_run_can_have(values, match, tmp_path):
    with pytest.raises(ValueError, match=match):
        run(model="tiny.digits", workdir=str(tmp_path / "run"), **values)
    assert not (tmp_path / "run" / "preset").exists()


@pytest.mark.slow
def test_strange_metadata_are_no_trouble(finished, tmp_path):
    """A preset may come from strangers: of its metadata only short texts and numbers are taken."""
    strange = tmp_path / "strange"
    strange.mkdir()
    for path in (finished / "preset").iterdir():
        (strange / path.name).write_bytes(path.read_bytes())
    metadata = files.read_json(strange / "metadata.json")
    stages = [7, {"model": "a\nb", "steps": [1], "data": "x" * 10_000}]
    metadata |= {"metric": "none", "stages": stages, "command": {"a": 1}}
    files.write_json(strange / "metadata.json", metadata)
    run(init=str(strange), workdir=str(tmp_path / "run"), report_every=4, **STILL)
    first, _ = preset(tmp_path / "run")["stages"]
    assert len(first["data"]) == 500 and "command" not in first
    assert zoo.load(tmp_path / "run" / "preset").event_shape == (8, 8, 1)
