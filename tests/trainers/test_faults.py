"""What a run does when something fails: nothing is lost, and the message says how to go on."""

import contextlib
import ctypes
import errno
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import flagsaver

import tfflows
import zoo
from tfflows.non_finite import NonFiniteError
from tfflows.variables import named_variables
from trainers import evaluate, train
from trainers.runs import backup, callbacks, rewind, run_folder, training
from trainers.runs.run import Run
from zoo import registry
from zoo.architectures import glow
from zoo.storage import files

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


# Backups of a small model.


def small_model(size=2, optimizer="adam"):
    """A model of `size` dimensions that trains in a moment, and has taken no step."""
    model = tfflows.FlowModel(tfflows.distributions.trainable_normal([size]), units="nats")
    model.compile(keras.optimizers.get(optimizer))
    model.optimizer.build(model.trainable_weights)
    return model


def take_steps(model, count, folder):
    """Takes steps, with a backup after each."""
    size = model.distribution.event_shape[0]
    x = np.random.default_rng(0).normal(size=[4, size]).astype("float32")
    model.fit(
        x, batch_size=4, epochs=count, verbose=0, shuffle=False, callbacks=[backup.Backup(folder)]
    )


def weights(model):
    return [v.numpy() for v in [*model.weights, *model.optimizer.variables]]


def assert_restores(folder, step, expected=None):
    """Checks that a new process would go on from `step`."""
    model = small_model()
    assert backup.restore(folder, model) == step
    if expected:
        for value, other in zip(weights(model), expected, strict=True):
            np.testing.assert_array_equal(value, other)


@pytest.fixture
def backups(tmp_path):
    """A folder with the backups of steps 1 and 2."""
    take_steps(small_model(), 2, tmp_path / "backup")
    return tmp_path / "backup"


def test_two_backups_are_kept_and_the_last_is_loaded(tmp_path):
    model = small_model()
    take_steps(model, 4, tmp_path)
    assert [backup.step_of(path) for path in backup.paths(tmp_path)] == [4, 3]
    assert_restores(tmp_path, 4, weights(model))
    assert backup.restore(tmp_path / "nothing", small_model()) == 0


def half_a_file(model, path):
    pathlib.Path(path).write_bytes(b"\x89HDF\r\n\x1a\n half")
    raise OSError(errno.ENOSPC, "No space left on device")


def no_rename(path, target):
    raise OSError(errno.EIO, "Input/output error")


def no_removal(path, missing_ok=False):
    if path.name.startswith("step_"):
        raise OSError(errno.EIO, "Input/output error")
    os.unlink(path)


@pytest.mark.parametrize(
    ("where", "name", "fault", "step"),
    [
        (backup.files, "write_weights", half_a_file, 2),
        (pathlib.Path, "replace", no_rename, 2),
        (pathlib.Path, "unlink", no_removal, 3),
    ],
    ids=["while it is written", "before it is renamed", "after it is renamed"],
)
def test_a_backup_that_is_interrupted(backups, monkeypatch, where, name, fault, step):
    model = small_model()
    backup.restore(backups, model)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space|Input/output"):
        patch.setattr(where, name, fault)
        take_steps(model, 1, backups)
    assert_restores(backups, step)
    take_steps(model, 1, backups)
    assert [backup.step_of(path) for path in backup.paths(backups)] == [4, max(step, 2)]
    assert not (backups / "partial.weights.h5").exists()


def test_what_a_kill_leaves_of_a_backup_is_no_backup(backups):
    (backups / "partial.weights.h5").write_bytes(b"half")
    assert_restores(backups, 2)
    take_steps(small_model(), 1, backups)
    assert not (backups / "partial.weights.h5").exists()


def cut(path):
    path.write_bytes(path.read_bytes()[:-50])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, flip, empty])
def test_a_damaged_backup_is_kept_aside_and_the_one_before_is_taken(backups, damage, caplog):
    last, before = backup.paths(backups)
    damage(last)
    assert_restores(backups, 1)
    assert f"{last} is damaged" in caplog.text
    assert "goes on from step 1" in caplog.text
    assert pathlib.Path(f"{last}.damaged").exists()
    assert before.exists()


def test_a_run_whose_backups_are_all_damaged_does_not_begin_anew(backups):
    for path in backup.paths(backups):
        cut(path)
    left = sorted(backups.iterdir())
    with pytest.raises(ValueError, match="All backups of the run are damaged.* Put back a copy"):
        backup.restore(backups, small_model())
    assert sorted(backups.iterdir()) == left


@pytest.mark.parametrize("model", [{"size": 3}, {"optimizer": "sgd"}], ids=["model", "optimiser"])
def test_a_foreign_backup_is_refused(backups, model):
    with pytest.raises(ValueError, match=r"step_0000002-.* is no backup of this model with this"):
        backup.restore(backups, small_model(**model))
    assert_restores(backups, 2)


def test_the_last_backup_is_that_of_the_last_step_whatever_the_clock_says(backups):
    last, before = backup.paths(backups)
    os.utime(last, (0, 0))
    os.utime(before, (2**31, 2**31))
    assert_restores(backups, 2)


@contextlib.contextmanager
def mounted(folder, options):
    """Mounts a file system of 1 MB in memory."""
    libc = ctypes.CDLL(None, use_errno=True)
    folder.mkdir()
    if libc.mount(b"none", os.fsencode(folder), b"tmpfs", 0, options):
        pytest.skip("Mounting needs the rights of root.")
    try:
        yield lambda flags: libc.mount(b"none", os.fsencode(folder), b"tmpfs", flags, options)
    finally:
        libc.umount2(os.fsencode(folder), 2)


def test_a_disk_that_is_full(tmp_path):
    model = small_model(20_000)  # With its optimiser 0.5 MB.
    with mounted(tmp_path / "disk", b"size=800k"):
        take_steps(model, 1, tmp_path / "disk" / "backup")
        with pytest.raises(OSError) as caught:
            take_steps(model, 1, tmp_path / "disk" / "backup")
        assert caught.value.errno == errno.ENOSPC
        (path,) = backup.paths(tmp_path / "disk" / "backup")
        assert backup.step_of(path) == 1
        assert backup.is_whole(path)
        assert list(path.parent.iterdir()) == [path]


def test_a_disk_that_becomes_read_only(tmp_path):
    remount, read_only = 32, 1
    model = small_model()
    with mounted(tmp_path / "disk", b"size=800k") as mount:
        folder = tmp_path / "disk" / "backup"
        take_steps(model, 1, folder)
        assert mount(remount | read_only) == 0
        with pytest.raises(OSError) as caught:
            take_steps(model, 1, folder)
        assert caught.value.errno == errno.EROFS
        assert_restores(folder, 1)
        with (
            pytest.raises(OSError) as caught,
            run_folder.hold(run_in(tmp_path / "disk" / "run")),
        ):
            pass
        assert "make it writable, or take another folder" in "".join(caught.value.__notes__)


# The folder of a run.


def run_in(workdir):
    entry = zoo.find("glow.digits")
    return Run(entry, entry.recipe, workdir, num_examples=1)


def test_a_second_run_in_the_folder_is_refused_until_the_first_has_died(tmp_path):
    code = (
        "import fcntl, sys; file = open(sys.argv[1], 'a+'); fcntl.flock(file, fcntl.LOCK_EX); "
        "file.write('process 7 on earth'); file.flush(); print(); sys.stdin.read()"
    )
    run = run_in(tmp_path)
    command = [sys.executable, "-c", code, str(tmp_path / run_folder.LOCK)]
    first = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    first.stdout.readline()
    with (
        pytest.raises(ValueError, match="in use by another run, process 7 on earth. Wait for"),
        run_folder.hold(run),
    ):
        pass
    first.send_signal(signal.SIGKILL)
    first.wait()
    with run_folder.hold(run):
        assert f"process {os.getpid()} on" in (tmp_path / run_folder.LOCK).read_text()
    first.stdin.close()
    first.stdout.close()


def events(workdir):
    """Returns what TensorBoard has, as (part, name, step), sorted."""
    return sorted(
        (path.parent.name, value.tag, event.step)
        for path in workdir.glob("tensorboard/*/*")
        for event in map(
            tf.compat.v1.Event.FromString, tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
        )
        for value in event.summary.value
    )


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


def test_reports_after_the_step_of_the_backup_are_dropped(tmp_path):
    """Also where two backups were damaged, or the run was killed within its report."""
    text = '{"step": 2, "nats": 3.0}\n[1]\n{"step": 4, "nats": 2}\n{"step": 6, "nats": 1}\n{"st'
    rows = ["epoch,nats\n", "0,3.0\n", "1,2\n", "2,1\n", "3,"]
    for step, left in ((9, 3), (6, 3), (5, 2), (2, 1), (0, 0)):
        (tmp_path / "metrics.jsonl").write_text(text)
        (tmp_path / "volume.jsonl").write_text('{"step": 0}\n{"step": 2}\n{"step": 4}\n')
        (tmp_path / "metrics.csv").write_text("".join(rows))
        rewind.rewind(tmp_path, step)
        lines = callbacks.read_lines(tmp_path / "metrics.jsonl")
        assert [line["step"] for line in lines] == [2, 4, 6][:left]
        assert (tmp_path / "metrics.csv").read_text() == "".join(rows[: left + 1] if left else [])
        volumes = callbacks.read_lines(tmp_path / "volume.jsonl")
        assert [line["step"] for line in volumes] == [s for s in (0, 2, 4) if 0 < step >= s]


def test_half_an_event_is_dropped(tmp_path):
    folder = tmp_path / "tensorboard" / "train"
    with tf.summary.create_file_writer(str(folder)).as_default():
        for step in (1, 2, 3):
            tf.summary.scalar("nats", 0.0, step=step)
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    rewind.rewind(tmp_path, 9)
    assert events(tmp_path) == [("train", "nats", 1), ("train", "nats", 2)]
    rewind.rewind(tmp_path, 1)
    assert events(tmp_path) == [("train", "nats", 1)]
    rewind.rewind(tmp_path, 0)
    assert not list(folder.iterdir())


def test_a_file_that_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    files.write_json(path, {"a": 1})
    monkeypatch.setattr(os, "fsync", lambda descriptor: no_rename(None, None))
    with pytest.raises(OSError, match="Input/output"):
        files.write_json(path, {"a": 2})
    assert [json.loads(p.read_text()) for p in tmp_path.iterdir()] == [{"a": 1}]


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
