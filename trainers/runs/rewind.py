"""Takes out of the folder of a run what it reported after the step from which it goes on.

A run that is killed between its report and its backup, or whose last backup is damaged, takes steps
again that it has reported.
"""

import json
import pathlib

import tensorflow as tf

from trainers.runs import volume
from zoo.storage import files


def rewind(workdir: pathlib.Path, step: int) -> None:
    """Drops the reports after a step: lines, TensorBoard's events and pictures.

    Args:
      workdir: the folder, a `pathlib.Path`.
      step: the step from which the run goes on; after 0, it is begun anew.
    """
    lines = _keep_lines(workdir / "metrics.jsonl", step)
    _keep_lines(workdir / volume.LINES, step)
    if lines is not None:  # Rows have no step, but there is one for each of the lines.
        _keep_rows(workdir / "metrics.csv", lines)
    for path in workdir.glob("tensorboard/**/*tfevents*"):
        _keep_events(path, step)
    for path in workdir.glob("samples/step_*.png"):
        if not _is_kept(int(path.stem.removeprefix("step_")), step):
            path.unlink()


def _is_kept(reported, step):
    return 0 < step >= reported


def _keep_lines(path, step):
    """Keeps the lines of JSON up to a step; returns how many there are, `None` without a file."""
    if not path.is_file():
        return None
    text = path.read_text(errors="replace")
    kept = [line for line in text.splitlines(keepends=True) if _is_line(line, step)]
    if "".join(kept) != text:
        files.write_text(path, "".join(kept))
    return len(kept)


def _is_line(text, step):
    try:  # Half a line ends a file that was written when the run was killed or the disk was full.
        return text.endswith("\n") and _is_kept(json.loads(text)["step"], step)
    except (ValueError, TypeError, KeyError):
        return False


def _keep_rows(path, count):
    """Keeps the head of a table and so many whole rows."""
    if path.is_file():
        text = path.read_text(errors="replace")
        rows = [row for row in text.splitlines(keepends=True) if row.endswith("\n")]
        kept = "".join(rows[: count + 1] if count else [])
        if kept != text:
            files.write_text(path, kept)


def _keep_events(path, step):
    """Keeps the whole events up to a step in a file of TensorBoard; no file if none are left."""
    kept, dropped = [], 0
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            if event.HasField("file_version") or _is_kept(event.step, step):
                kept.append(record)
            else:
                dropped += 1
    except tf.errors.DataLossError:  # Half an event at its end.
        dropped += 1
    if not dropped:
        return
    if len(kept) < 2:  # The version alone.
        path.unlink()
        return
    partial = path.with_name("partial")
    with tf.io.TFRecordWriter(str(partial)) as writer:
        for record in kept:
            writer.write(record)
    partial.replace(path)
