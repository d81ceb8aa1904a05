"""What a run does when something fails: nothing is lost, and the message says how to go on."""

import errno
import json
import pathlib
import shutil
import time

import numpy as np
import pytest
from absl.testing import flagsaver

import zoo
from tests.trainers.runs.small_runs import events, small_model, weights
from tfflows.non_finite import NonFiniteError
from tfflows.variables import named_variables
from trainers import evaluate, train
from trainers.runs import backup, callbacks, training
from zoo import registry
from zoo.architectures import glow

TINY = {
    "image_shape": (8, 8, 1),
    "num_levels": 32,
    "steps": (1,),
    "widths": (2,),
    "network": "conv_net",
    "exponentials": 0,
    "mixing": "conv1x1",
}

RECIPE = zoo.Recipe(dataset="digits", batch_size=16, steps=4, warmup_steps=2, ema=0.5)


def reported(workdir):
    """Returns the steps of lines, rows of the table, what TensorBoard has, and pictures."""
    found = [
        [json.loads(line)["step"] for line in (workdir / name).read_text().splitlines()]
        for name in ("metrics.jsonl", "volume.jsonl")
        if (workdir / name).exists()
    ]
    rows = (workdir / "metrics.csv").read_text().splitlines()
    pictures = sorted(path.name for path in (workdir / "samples").iterdir())
    return found, [row.partition(",")[0] for row in rows], events(workdir), pictures


# Whole runs.


class KilledError(Exception):
    """Stands for a signal."""


def run(main=train.main, **values):
    """Runs a binary with flags, which are then as they were."""
    with flagsaver.flagsaver(**values):
        main(["binary"])


def images(path, count):
    """Writes `count` images as a data set."""
    rng = np.random.default_rng(0)
    arrays = {s: rng.integers(0, 256, [count, 8, 8]).astype("uint8") for s in ("train", "test")}
    np.savez(path, **arrays)


def trained(workdir):
    model = zoo.create(str(workdir / "preset"), pretrained=True)
    return {name: v.numpy() for name, v in named_variables(model).items()}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of 4 steps, unbroken; and one that an error ended after 2; in one folder."""
    folder = tmp_path_factory.mktemp("some runs")
    zoo.register(
        "faulty.npz", glow.glow, kind=zoo.IMAGES, recipe=RECIPE, summary="-", paper="-", **TINY
    )
    images(folder / "images.npz", 40)
    common = {
        "model": "faulty.npz",
        "dataset": str(folder / "images.npz"),
        "report_every": 2,
        "num_validation": 16,
        "seed": 5,
        "shards": 1,
        "weight_l2": 0.01,
        "volume": True,
        "volume_iterations": 0,
    }
    run(workdir=str(folder / "whole"), **common)

    def full(self, epoch, logs=None):
        if epoch == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(self, epoch, logs)

    original = backup.Backup.on_epoch_end
    with pytest.MonkeyPatch.context() as patch, pytest.raises(OSError) as caught:
        patch.setattr(backup.Backup, "on_epoch_end", full)
        run(workdir=str(folder / "broken"), **common)
    (folder / "notes.txt").write_text("\n".join(caught.value.__notes__))
    yield folder
    registry._MODELS.pop("faulty.npz")


@pytest.fixture
def broken(runs, tmp_path):
    """A copy of the run that an error ended."""
    return pathlib.Path(shutil.copytree(runs / "broken", tmp_path / "the broken"))


def test_the_error_says_what_is_left_and_how_to_go_on(runs):
    notes = (runs / "notes.txt").read_text()
    workdir = runs / "broken"
    assert f"There is no more room for {workdir}: make some." in notes
    assert "Nothing is lost up to step 2, of which there is a backup" in notes
    assert f"python -m trainers.train --workdir='{workdir}' --resume" in notes


def test_resume_alone_goes_on_as_the_run_was_begun_while_the_clock_goes_back(
    runs, broken, monkeypatch, capsys
):
    start, count = time.time(), iter(range(10**9))
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: start - 3600 * next(count))
        run(workdir=str(broken), resume=True)
    expected = trained(runs / "whole")
    for name, value in trained(broken).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-6, atol=1e-7, err_msg=name)
    assert reported(broken) == reported(runs / "whole")
    assert f"Next: python -m trainers.evaluate --workdir='{broken}'\n" in capsys.readouterr().out
    lines = callbacks.read_lines(broken / "metrics.jsonl")
    assert [line["step"] for line in lines] == [2, 4]
    assert lines[0]["seconds"] < lines[1]["seconds"]
    assert json.loads((broken / "config.json").read_text())["weight_l2"] == 0.01


def test_a_run_that_dies_after_its_last_step_still_ends_with_the_moving_average(
    runs, broken, monkeypatch
):
    def die(*args):
        raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(training, "finish", die)
        run(workdir=str(broken), resume=True)
    (broken / ".preset.half").mkdir()
    run(workdir=str(broken), resume=True)
    expected = trained(runs / "whole")
    for name, value in trained(broken).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-6, atol=1e-7, err_msg=name)
    assert not (broken / ".preset.half").exists()


def test_other_steps_than_before(broken):
    with pytest.raises(ValueError, match="has taken 2 steps: `--steps` must not be less"):
        run(workdir=str(broken), resume=True, steps=1)
    run(workdir=str(broken), resume=True, steps=5)  # 3 steps left, in which 2 do not divide.
    assert json.loads((broken / "preset" / "metadata.json").read_text())["steps"] == 5
    assert reported(broken)[0] == [[2, 3, 4, 5], [0, 2, 3, 4, 5]]
    model = small_model()
    del model
    assert backup.step_of(backup.paths(broken / "backup")[0]) == 5


def test_data_of_another_size_are_refused(broken, tmp_path):
    before = (broken / "config.json").read_text()
    images(tmp_path / "images.npz", 41)
    with pytest.raises(
        ValueError, match="must be 40 events.* Received: 41 events. Put the data back"
    ):
        run(workdir=str(broken), resume=True, dataset=str(tmp_path / "images.npz"))
    assert (broken / "config.json").read_text() == before


@pytest.mark.parametrize("content", ["{ half", '{"model": "faulty.npz"}', "[]"])
def test_a_damaged_configuration_is_named(broken, content):
    (broken / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"broken/config\.json (is damaged|must h)"):
        run(workdir=str(broken), resume=True)


def test_scores_are_printed_before_they_are_written(runs, tmp_path, monkeypatch, capsys):
    def fail(*args):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(evaluate.files, "write_json", fail)
    with pytest.raises(OSError, match="Read-only"):
        run(evaluate.main, workdir=str(runs / "whole"), split="test[:16]")
    assert "bits/dim" in capsys.readouterr().out


# Data with NaN.


def test_a_batch_with_nan_stops_before_it_changes_anything():
    model = small_model()
    x = np.random.default_rng(0).normal(size=[32, 2]).astype("float32")
    x[[17, 19], [0, 1]] = [np.nan, np.inf]  # In the third batch of 8.
    with pytest.raises(NonFiniteError) as caught:
        model.fit(x, batch_size=8, shuffle=False, verbose=0)
    message = "In step 3: The data are not finite: of the batch, 2 event(s) contain NaN or "
    assert message + "infinity, number 1, 3. Mend or leave out these data." in str(caught.value)
    assert int(model.optimizer.iterations) == 2
    assert all(np.isfinite(value).all() for value in weights(model))
    x[[17, 19]] = 0
    model.fit(x[16:], batch_size=8, shuffle=False, verbose=0)
    assert int(model.optimizer.iterations) == 4
