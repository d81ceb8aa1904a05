"""Which weights of a run are kept, when it ends early, and when validation says it should."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging

import tfflows
from tfflows.variables import averages

_PARTING = 3  # Reports, and as many before.


class AveragedScores(keras.callbacks.Callback):
    """Lets a validation score the averaged weights, those that are kept, and nothing else.

    Keras's own `SwapEMAWeights` exchanges by sums and differences, which rounds what is trained.
    """

    def __init__(self) -> None:
        super().__init__()
        self._trained: list[tuple[tf.Variable, np.ndarray]] = []

    def on_test_begin(self, logs: dict | None = None) -> None:
        """Puts the averages in."""
        found = averages(self.model.optimizer)
        self._trained = [(variable, variable.numpy()) for variable, _ in found]
        for variable, average in found:
            variable.assign(average.numpy())

    def on_test_end(self, logs: dict | None = None) -> None:
        """Puts back what is trained."""
        for variable, value in self._trained:
            variable.assign(value)
        self._trained = []


class Stopping(keras.callbacks.Callback):
    """Follows the best score on the validation split, keeps its weights, and may end the run.

    Args:
      key: of the score in the logs; less is better.
      patience: reports without improvement after which the run ends, or `None`.
      keeps_best: whether the weights of the best report are kept.
    """

    def __init__(self, key: str, patience: int | None, keeps_best: bool) -> None:
        super().__init__()
        self._key, self._patience, self._keeps_best = key, patience, keeps_best
        # Variables, so that `strategies.broadcast` gives workers those of the first.
        self._best = tf.Variable(math.inf, trainable=False, dtype=tf.float64)
        self._step = tf.Variable(0, trainable=False, dtype=tf.int64)
        self._waited = tf.Variable(0, trainable=False, dtype=tf.int64)
        self._weights: dict[str, np.ndarray] = {}

    @property
    def variables(self) -> list[tf.Variable]:
        """Best score, its step, and the number of reports since."""
        return [self._best, self._step, self._waited]

    @property
    def score(self) -> float:
        """The best score; infinite before the first."""
        return float(self._best.numpy())

    @property
    def step(self) -> int:
        """The number of steps taken at the best report; 0 before the first."""
        return int(self._step.numpy())

    @property
    def waited(self) -> int:
        """The number of reports since."""
        return int(self._waited.numpy())

    @property
    def is_over(self) -> bool:
        """Whether the run ends here."""
        return self._patience is not None and self.waited >= self._patience

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Compares the score of a report."""
        score = float((logs or {})[self._key])
        if score < self.score:
            self._best.assign(score)
            self._step.assign(self.model.optimizer.iterations.numpy())
            self._waited.assign(0)
            if self._keeps_best:
                self._weights = _kept_weights(self.model)
        else:
            self._waited.assign_add(1)
        self.model.stop_training = self.model.stop_training or self.is_over

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns what a backup has to have of it."""
        numbers = {"score": self.score, "step": self.step, "waited": self.waited}
        found = {f"best.{name}": np.asarray(value) for name, value in numbers.items()}
        return found | {f"weights.{key}": value for key, value in self._weights.items()}

    def read(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Takes what `arrays` returned; of a backup that has none, nothing."""
        for name, variable in zip(("score", "step", "waited"), self.variables, strict=True):
            if f"best.{name}" in arrays:
                variable.assign(arrays[f"best.{name}"])
        kind = "weights."
        self._weights = {k.removeprefix(kind): v for k, v in arrays.items() if k.startswith(kind)}

    def load(self, model: tfflows.FlowModel) -> int | None:
        """Gives a model the weights that are kept; returns their step, or `None` without any."""
        if not self._weights:
            return None
        model.load_own_variables(self._weights)
        return self.step

    def describe(self, done: int, steps: int, data: str, label: str) -> dict[str, str]:
        """Returns what a card says of it.

        Args:
          done: steps taken.
          steps: steps that there should be.
          data: what was scored.
          label: units of the score.
        """
        best = f"the best of the reports, {self.score:.4f} {label} on {data}"
        remarks = {}
        if self._weights:
            remarks["weights"] = f"of step {self.step:,}, {best}"
        elif self.step:
            remarks["weights"] = f"of the last step; at step {self.step:,} was {best}"
        if self.is_over:
            remarks["stopped"] = (
                f"after {done:,} of {steps:,} steps, {self.waited} reports without improvement"
            )
        return remarks


def _kept_weights(model):
    """Returns copies of the weights as a preset would have them, averages where there are any."""
    store: dict[str, np.ndarray] = {}
    model.save_own_variables(store)
    named = tfflows.named_variables(model.distribution)
    keys = {id(variable): path.replace("/", ".") for path, variable in named.items()}
    for variable, average in averages(model.optimizer):
        store[keys[id(variable)]] = average.numpy()
    return store


def part_ways(reports: Sequence[tuple[float, float]]) -> bool:
    """Returns whether training and validation part ways at the end of these reports.

    They do if each of the last three has a better training score and a worse validation score than
    each of the three before. Reports are noisy: a rise from one to the next is not enough, and not
    needed.

    Args:
      reports: pairs of the training score and the validation score; less is better.
    """
    before, after = reports[-2 * _PARTING : -_PARTING], reports[-_PARTING:]
    pairs = list(itertools.product(before, after))
    return len(pairs) == _PARTING**2 and all(b[0] < a[0] and b[1] > a[1] for a, b in pairs)


class PartingWarning(keras.callbacks.Callback):
    """Warns once when training and validation part ways, see `part_ways`.

    Args:
      units: of the score, its key in the logs.
      lines: the reports of the run before it was resumed.
    """

    def __init__(self, units: str, lines: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        self._keys = units, f"val_{units}"
        self._reports: list[tuple[float, float]] = []
        self._said = False
        for line in lines:
            self._add(line)

    def _add(self, logs):
        """Adds a report; returns whether it is the first of which to warn."""
        if not all(key in logs for key in self._keys):
            return False
        self._reports.append(tuple(float(logs[key]) for key in self._keys))
        if self._said or not part_ways(self._reports):
            return False
        self._said = True
        return True

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Looks at a report."""
        if self._add(logs or {}):
            (train, score), (last, worst) = self._reports[-2 * _PARTING], self._reports[-1]
            logging.warning(
                "Training and validation part ways: in %d reports, training went from %.4f to %.4f "
                "and validation from %.4f to %.4f %s. The model begins to learn its data by heart; "
                "--early_stopping=%d ends a run and keeps the best weights.",
                *(2 * _PARTING, train, last, score, worst, self._keys[0], _PARTING),
            )
