"""Keras callbacks: exact resume, speed, logs, pictures."""

import json
import time

import keras


class Backup(keras.callbacks.BackupAndRestore):
    """`BackupAndRestore` whose position is that of the weights.

    Keras writes the weights and the number of the epoch into two files, and a run that is killed in
    between would do an epoch twice. The optimiser's counter is in the same file as the weights.

    Args:
      backup_dir: folder of its files.
      steps_per_epoch: steps between two backups.
    """

    def __init__(self, backup_dir, steps_per_epoch):
        super().__init__(backup_dir, double_checkpoint=True, delete_checkpoint=False)
        self._steps_per_epoch = steps_per_epoch

    def restore(self, model):
        """Loads the last backup, if there is one; returns the number of steps taken so far."""
        self.set_model(model)
        self.on_train_begin()
        return int(model.optimizer.iterations.numpy())

    def _load_model(self):
        super()._load_model()
        if self.model.optimizer.built:
            steps = int(self.model.optimizer.iterations.numpy())
            self.model._initial_epoch = steps // self._steps_per_epoch


class Throughput(keras.callbacks.Callback):
    """Adds images a second to what the progress bar and the logs show.

    Args:
      batch_size: global batch size.
    """

    def __init__(self, batch_size):
        super().__init__()
        self._batch_size = batch_size

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the clock; the first step, which compiles, is left out."""
        self._start, self._first = None, None

    def on_train_batch_end(self, batch, logs=None):
        """Computes the mean speed since the first step of the epoch."""
        now = time.perf_counter()
        if self._start is None:
            self._start, self._first = now, batch
        elif logs is not None:
            done = (batch - self._first) * self._batch_size
            self._speed = logs["images_per_second"] = done / (now - self._start)

    def on_epoch_end(self, epoch, logs=None):
        """Passes the speed on to the loggers."""
        if logs is not None and self._start is not None:
            logs["images_per_second"] = getattr(self, "_speed", 0.0)


class JsonLines(keras.callbacks.Callback):
    """Appends the metrics of every epoch to a file, one JSON object a line.

    Args:
      path: the file.
      steps_per_epoch: steps between two lines.
      seconds: training time of the run before it was resumed.
    """

    def __init__(self, path, steps_per_epoch, seconds=0.0):
        super().__init__()
        self._path = path
        self._steps_per_epoch = steps_per_epoch
        self._seconds = seconds

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the clock, if this is the first epoch."""
        if not hasattr(self, "_start"):
            self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Writes a line."""
        line = {
            "step": (epoch + 1) * self._steps_per_epoch,
            "seconds": round(self._seconds + time.perf_counter() - self._start, 3),
            **{key: float(value) for key, value in (logs or {}).items()},
        }
        with open(self._path, "a") as file:
            file.write(json.dumps(line) + "\n")


def read_lines(path):
    """Returns the lines of `JsonLines`, the last one for each step; `[]` without a file."""
    if not path.is_file():
        return []
    lines = {}
    for text in path.read_text().splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue  # A run was killed while it wrote.
        lines[line["step"]] = line
    return [lines[step] for step in sorted(lines)]


class SamplePictures(keras.callbacks.Callback):
    """Draws samples at the end of every epoch.

    Args:
      folder: where the pictures go, one an epoch.
      draw: a function that writes a picture to a path, as `pictures.sampler` returns.
      steps_per_epoch: steps between two pictures.
    """

    def __init__(self, folder, draw, steps_per_epoch):
        super().__init__()
        self._folder = folder
        self._draw = draw
        self._steps_per_epoch = steps_per_epoch

    def on_epoch_end(self, epoch, logs=None):
        """Draws and writes the picture."""
        step = (epoch + 1) * self._steps_per_epoch
        self._draw(self._folder / f"step_{step:07d}.png")
