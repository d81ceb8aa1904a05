"""What the processes of `benchmarks.tables` share: tables, the order of rows, sizes of the flows.

Imports neither TensorFlow nor PyTorch.
"""

import pathlib
from collections.abc import Callable, Iterator

import numpy as np

KINDS = ("affine autoregressive", "spline couplings", "transformer")
OWN_KINDS = ("transformer",)  # Which no other library has.
BLOCKS = {"affine autoregressive": 5, "spline couplings": 8}
WIDTH, DEPTH, BINS, BOUND = 64, 2, 8, 4.0
LEARNING_RATE, CLIP = 1e-3, 5.0
SPLITS = ("train", "validation", "test")
_FRACTIONS = (0.6, 0.8)  # Of the rows before validation, and before test.


def bundled(name: str) -> np.ndarray:
    """Returns the columns of a table of scikit-learn, `[N, D]`.

    What is rounded gets uniform noise of the size of its steps, as integers have to: the density of
    a column of few values has no bound. Columns of less than three values are left out.
    """
    from sklearn import datasets

    rows = np.asarray(getattr(datasets, f"load_{name}")().data, np.float64)
    rows = rows[:, [column for column in range(rows.shape[1]) if len(set(rows[:, column])) > 2]]
    return rows + np.random.RandomState(0).uniform(size=rows.shape) * steps(rows)


def steps(rows: np.ndarray) -> np.ndarray:
    """Returns the least distance of two values of each column."""
    return np.array([np.diff(np.unique(column.round(6))).min() for column in rows.T])


def patches(path: pathlib.Path, count: int = 10_000, size: int = 8) -> np.ndarray:
    """Returns grey patches of the photographs of a `.npz` file, as BSDS300 has them in the papers.

    With noise in [0, 1) for the 256 levels, in [0, 1), the mean of a patch taken off, the last
    pixel left out: `[count, size^2 - 1]`.

    Args:
      path: the file, with an array `[N, H, W, 3]` of `uint8`.
      count: number of patches, in equal shares of all photographs.
      size: of the sides.
    """
    with np.load(path) as file:
        images = next(file[key] for key in file.files if file[key].ndim == 4)
    rng, found = np.random.RandomState(0), []
    for image in images:
        grey = image.astype(np.float64).mean(axis=-1)
        grey = (grey + rng.uniform(size=grey.shape)) / 256
        corners = rng.randint([s - size + 1 for s in grey.shape], size=[count // len(images), 2])
        found += [grey[y : y + size, x : x + size].ravel() for y, x in corners]
    rows = np.array(found)
    return (rows - rows.mean(axis=1, keepdims=True))[:, :-1]


def split(rows: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Returns random rows for train, validation and test, of mean 0 and variance 1, in `float32`.

    Statistics are those of train.
    """
    order = np.random.RandomState(seed).permutation(len(rows))
    cuts = [round(len(rows) * fraction) for fraction in _FRACTIONS]
    parts = dict(zip(SPLITS, np.split(rows[order], cuts), strict=True))
    mean, deviation = parts["train"].mean(axis=0), parts["train"].std(axis=0)
    return {name: ((part - mean) / deviation).astype(np.float32) for name, part in parts.items()}


def batches(size: int, batch: int, seed: int, count: int) -> Iterator[np.ndarray]:
    """Yields the numbers of the rows of `count` batches: orders of all rows, cut up."""
    rng, left = np.random.RandomState(seed), np.array([], np.int64)
    for _ in range(count):
        while len(left) < batch:
            left = np.concatenate([left, rng.permutation(size)])
        yield left[:batch]
        left = left[batch:]


class Best:
    """The score on test where that on validation was best."""

    def __init__(self) -> None:
        self.step, self.validation, self.test = 0, np.inf, np.inf

    def see(self, step: int, score: Callable[[str], float]) -> None:
        """Takes note of a report; `score` returns the mean -log p(x) of a split, in nats."""
        validation = score("validation")
        if validation < self.validation:
            self.step, self.validation, self.test = step, validation, score("test")

    def answer(self) -> dict:
        """Returns what a process answers."""
        return {"step": self.step, "validation": self.validation, "test": self.test}
