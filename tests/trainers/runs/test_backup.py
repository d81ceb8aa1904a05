"""Backups: interrupted, damaged or foreign ones, and disks that fail."""

import contextlib
import ctypes
import errno
import os
import pathlib

import numpy as np
import pytest

from tests.trainers.runs.small_runs import run_in, small_model, take_steps, weights
from trainers.runs import backup, run_folder


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


def half_a_file(model, path, beside=None):
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
