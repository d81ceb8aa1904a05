"""Backups of a run: written whole or not at all, checked when they are read, two of them kept.

    backup/step_0000150-1a2b3c4d5e6f7a8b.weights.h5

holds the weights, the optimiser's state and so the position after 150 steps; and of `stopping` the
best score on the validation split, its weights, and the number of reports since. The second part of
the name is the start of the file's SHA-256. `keras.callbacks.BackupAndRestore` writes over its last
file, and the number of the epoch into a second one: a run that is killed in its first backup can't
go on, and one that is killed between the two files does an epoch twice.
"""

import pathlib

import keras
from absl import logging

from trainers.runs.stopping import Stopping
from zoo.storage import files

KEPT = 2


class Backup(keras.callbacks.Callback):
    """Writes a backup at the end of every epoch.

    Args:
      folder: where they go.
      stopping: what else they hold, or `None`.
    """

    def __init__(self, folder: pathlib.Path, stopping: Stopping | None = None) -> None:
        super().__init__()
        self._folder = pathlib.Path(folder)
        self._stopping = stopping

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Writes a backup; the last one stays until this one is whole."""
        self._folder.mkdir(parents=True, exist_ok=True)
        step = int(self.model.optimizer.iterations.numpy())
        partial = self._folder / "partial.weights.h5"
        try:
            beside = self._stopping.arrays() if self._stopping else None
            files.write_weights(self.model, partial, beside=beside)
            digest = files.sha256(partial)[:16]
            partial.replace(self._folder / f"step_{step:07d}-{digest}.weights.h5")
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        files.to_disk(self._folder)
        for path in paths(self._folder)[KEPT:]:
            path.unlink()


def paths(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the backups in a folder, the newest, which is that of the last step, first."""
    return sorted(pathlib.Path(folder).glob("step_*-*.weights.h5"), key=step_of, reverse=True)


def step_of(path: pathlib.Path) -> int:
    """Returns the number of steps taken before a backup was written, from its name."""
    return int(path.name.removeprefix("step_").partition("-")[0])


def is_whole(path: pathlib.Path) -> bool:
    """Returns whether a backup is as it was written."""
    return files.sha256(path).startswith(path.name.partition("-")[2].partition(".")[0])


def restore(folder: pathlib.Path, model: keras.Model, stopping: Stopping | None = None) -> int:
    """Loads the last backup that is whole; returns its step, or 0 if there is no backup.

    Backups that are damaged are kept beside it, under the name `*.damaged`.

    Args:
      folder: where the backups are.
      model: a compiled `FlowModel` whose optimiser is built.
      stopping: what is to be as it was, too, or `None`.

    Raises:
      ValueError: if all backups are damaged, or the last one is that of another model or optimiser.
    """
    folder = pathlib.Path(folder)
    found = paths(folder)
    whole = next(filter(is_whole, found), None)
    damaged = found[: found.index(whole)] if whole else found
    if damaged and not whole:
        raise ValueError(
            f"All backups of the run are damaged: {', '.join(map(str, damaged))}. Put back a copy, "
            "or begin a new run in another folder. Nothing was changed."
        )
    if not whole:
        return _restore_first_form(folder / "latest.weights.h5", model)
    try:
        model.load_weights(whole)
        step = int(model.optimizer.iterations.numpy())
    except (OSError, ValueError) as error:
        raise ValueError(_foreign(whole, error)) from None
    if step != step_of(whole):  # Keras only warns where the optimiser is another one.
        raise ValueError(_foreign(whole, f"its optimiser is in step {step}"))
    if stopping:
        stopping.read(files.read_beside(whole))
    for path in damaged:
        path.rename(f"{path}.damaged")
        logging.warning(
            "%s is damaged (its SHA-256 is not that in its name); it is kept as %s.damaged. The "
            "run goes on from step %d.",
            path,
            path.name,
            step,
        )
    return step


def _restore_first_form(path, model):
    """Loads the backup of a run that was begun before they had their step in the name."""
    if not path.is_file():
        return 0
    model.load_weights(path)
    return int(model.optimizer.iterations.numpy())


def _foreign(path, why):
    return (
        f"{path} is no backup of this model with this optimiser: {why}. Give the flags that the "
        "run was begun with, or put the backups of this run into the folder."
    )
