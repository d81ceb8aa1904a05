"""The folder of a run: what may be in it, a lock, and what errors say."""

import contextlib
import errno
import fcntl
import os
import pathlib
import platform
import shlex
import sys
from collections.abc import Iterator

from absl import logging

from trainers.runs import backup, environment
from trainers.runs.run import CONFIG, Run, read_config
from zoo.storage import files

LOCK = ".lock"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


def check(run: Run) -> None:
    """Refuses a folder that holds something else than the run to make or to resume.

    Raises:
      ValueError: if the folder is not empty, or there is no run to resume, or it is one of another
        model or seed, or of data of another size.
    """
    workdir = run.workdir
    if not run.resume:
        # Of a run that was killed before its first step there is nothing to lose.
        if workdir.exists() and any(p.name != LOCK for p in workdir.iterdir()):
            raise ValueError(
                "`--workdir` is not empty: give --resume to go on with its run, or another "
                f"folder. Received: --workdir={workdir}."
            )
        return
    before = read_config(workdir)
    if before is None:
        raise ValueError(
            f"There is no run to resume: {workdir / CONFIG} does not exist. "
            f"Received: --workdir={workdir}, --resume."
        )
    for key, value in run.identity().items():
        if before.get(key, value) != value:
            raise ValueError(
                f"`--workdir` holds the run of another model: its {key} is "
                f"{before[key]!r}. Received: {value!r}."
            )
    if before.get("num_examples", run.num_examples) != run.num_examples:
        raise ValueError(
            "The training data have changed since the run was begun: they must be "
            f"{before['num_examples']} events, else the steps to come would not see what those of "
            f"an unbroken run see. Received: {run.num_examples} events. Put the data back, or "
            "begin a new run in another folder; nothing was changed in this one."
        )


def write(run: Run, decisions: dict) -> None:
    """Writes the configuration of the run, and what was decided where it left the choice."""
    config = run.to_json() | {
        "decisions": decisions,
        "command": shlex.join(["python", "-m", "trainers.train", *sys.argv[1:]]),
        "versions": environment.versions(),
    }
    files.write_json(run.workdir / CONFIG, config)


@contextlib.contextmanager
def hold(run: Run) -> Iterator[pathlib.Path]:
    """Makes the folder of the run, and holds it for this process until it ends, however it ends.

    Yields:
      The path of the folder.

    Raises:
      ValueError: if another process holds it; and see `check`.
    """
    workdir = run.workdir
    check(run)
    with contextlib.ExitStack() as stack:
        with _explain_errors(workdir):
            workdir.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open(workdir / LOCK, "a+"))
        _lock(file, workdir)
        check(run)  # Another run may have come and gone.
        stack.enter_context(_explain_errors(workdir))
        yield workdir


def _lock(file, workdir):
    """Takes the lock, which the system gives back with the death of the process."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        raise ValueError(
            f"`--workdir` is in use by another run, {file.read(200).strip()}. Wait for it, end it, "
            f"or take another folder. Received: --workdir={workdir}."
        ) from None
    except OSError as error:  # A file system without locks.
        logging.warning("No lock: a second run in %s would spoil this one. %s", workdir, error)
    file.truncate(0)
    file.write(f"process {os.getpid()} on {platform.node()}\n")
    file.flush()


@contextlib.contextmanager
def _explain_errors(workdir):
    """Adds to an error what is lost and how to go on."""
    try:
        yield
    except BaseException as error:
        number = error.errno if isinstance(error, OSError) else None
        if number in _FULL:
            error.add_note(f"There is no more room for {workdir}: make some.")
        elif number in _READ_ONLY:
            error.add_note(f"{workdir} can't be written: make it writable, or take another folder.")
        command = f"python -m trainers.train --workdir={shlex.quote(str(workdir))} --resume"
        kept = backup.paths(workdir / "backup")
        if kept:
            when = "" if isinstance(error, KeyboardInterrupt) else ", when the cause is mended"
            error.add_note(
                f"Nothing is lost up to step {backup.step_of(kept[0])}, of which there is a "
                f"backup. To go on{when}: {command}"
            )
        elif isinstance(error, KeyboardInterrupt) and (workdir / CONFIG).is_file():
            error.add_note(f"There is no backup yet. To begin again: {command}")
        raise
