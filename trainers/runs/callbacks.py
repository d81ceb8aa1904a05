"""Keras callbacks: speed, logs, pictures."""

import json
import math
import pathlib
import time
from collections.abc import Callable

import keras

from zoo.storage import files


class Throughput(keras.callbacks.Callback):
    """Adds events a second to what the progress bar and the logs show.

    Args:
      batch_size: global batch size.
      event: what an event is, such as `"image"`.
    """

    def __init__(self, batch_size: int, event: str) -> None:
        super().__init__()
        self._batch_size, self._name = batch_size, f"{event}s_per_second"

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Starts the clock; the first step, which compiles, is left out."""
        self._start, self._first = None, None

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Computes the mean speed since the first step of the epoch."""
        now = time.perf_counter()
        if self._start is None:
            self._start, self._first = now, batch
        elif logs is not None:
            done = (batch - self._first) * self._batch_size
            self._speed = logs[self._name] = done / (now - self._start)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Passes the speed on to the loggers."""
        if logs is not None and self._start is not None:
            logs[self._name] = getattr(self, "_speed", 0.0)


class JsonLines(keras.callbacks.Callback):
    """Appends the metrics of every epoch to a file, one JSON object a line.

    Args:
      path: the file.
      seconds: training time of the run before it was resumed.
    """

    def __init__(self, path: pathlib.Path, seconds: float = 0.0) -> None:
        super().__init__()
        self._path = path
        self._seconds = seconds

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Starts the clock, if this is the first epoch."""
        if not hasattr(self, "_start"):
            self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Writes a line."""
        line = {
            "step": int(self.model.optimizer.iterations.numpy()),
            "seconds": round(self._seconds + time.perf_counter() - self._start, 3),
            **{key: float(value) for key, value in (logs or {}).items()},
        }
        with open(self._path, "a") as file:
            file.write(files.to_json(line) + "\n")


def read_lines(path: pathlib.Path) -> list[dict]:
    """Returns the lines of `JsonLines`, the last one for each step; `[]` without a file."""
    if not path.is_file():
        return []
    lines = {}
    for text in path.read_text(errors="replace").splitlines():
        try:
            line = json.loads(text)
            # What was not finite is null, since JSON has no NaN.
            lines[line["step"]] = {k: math.nan if v is None else v for k, v in line.items()}
        except (ValueError, TypeError, KeyError):
            continue  # Half a line, of a run that was killed or a disk that was full.
    return [lines[step] for step in sorted(lines)]


class TensorBoard(keras.callbacks.TensorBoard):
    """Logs the metrics over the steps, where that of Keras counts epochs, as reports are here."""

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Writes the metrics."""
        super().on_epoch_end(int(self.model.optimizer.iterations.numpy()), logs)


class SamplePictures(keras.callbacks.Callback):
    """Draws samples at the end of every epoch.

    Args:
      folder: where the pictures go, one an epoch.
      draw: a function that writes a picture to a path, as `pictures.sampler` returns.
    """

    def __init__(self, folder: pathlib.Path, draw: Callable) -> None:
        super().__init__()
        self._folder = folder
        self._draw = draw

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Draws and writes the picture."""
        step = int(self.model.optimizer.iterations.numpy())
        self._draw(self._folder / f"step_{step:07d}.png")
