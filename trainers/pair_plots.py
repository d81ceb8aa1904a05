"""Pair plots: every two columns of a table, data below the diagonal and samples above it."""

import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

MOST_COLUMNS = 6
MOST_ROWS = 2000
_DATA, _SAMPLES = "#4477aa", "#ee7733"


def save(
    path: str | os.PathLike,
    samples: Any,
    names: Sequence[str],
    data: Any | None = None,
    least_size: int = 512,
) -> None:
    """Writes a pair plot of the first columns as a PNG.

    On the diagonal are histograms of both; below it the data, above it the samples. Axes hold all
    but 1 in 100 of the data.

    Args:
      path: the PNG.
      samples: rows `[N, D]`.
      names: of the columns.
      data: rows `[M, D]`; `None` to show samples alone.
      least_size: pixels of its sides.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    count = min(len(names), MOST_COLUMNS)
    samples = np.asarray(samples, np.float64)
    samples = samples[~np.isnan(samples).any(axis=1)][:MOST_ROWS, :count]
    data = samples if data is None else np.asarray(data, np.float64)[:MOST_ROWS, :count]
    low, high = np.quantile(data, [0.005, 0.995], axis=0)
    margin = 0.15 * np.maximum(high - low, 1e-6 * np.maximum(np.abs(high), 1e-30))
    low, high = low - margin, high + margin
    inches = max(1.3 * count, 2.0)
    figure, axes = pyplot.subplots(
        count, count, figsize=(inches, inches), squeeze=False, layout="constrained"
    )
    for row in range(count):
        for column in range(count):
            axis = axes[row, column]
            axis.set(xticks=[], yticks=[], xlim=(low[column], high[column]))
            if row == column:
                bins = np.linspace(low[row], high[row], 25)
                for rows, color in ((data, _DATA), (samples, _SAMPLES)):
                    axis.hist(rows[:, row], bins, density=True, histtype="step", color=color)
            else:
                rows, color = (data, _DATA) if row > column else (samples, _SAMPLES)
                axis.scatter(rows[:, column], rows[:, row], s=1.5, c=color, linewidths=0)
                axis.set(ylim=(low[row], high[row]))
            if row == count - 1:
                axis.set_xlabel(_short(names[column]), fontsize=6)
            if column == 0:
                axis.set_ylabel(_short(names[row]), fontsize=6)
    title = "samples" if data is samples else "data below, samples above the diagonal"
    others = f"; {count} of {len(names)} columns" if len(names) > count else ""
    figure.suptitle(f"{title}{others}", fontsize=7)
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=max(100, int(np.ceil(least_size / inches))))
    pyplot.close(figure)


def _short(name: str) -> str:
    """Returns a name that fits, with nothing in it that matplotlib takes for mathematics."""
    name = name if len(name) <= 22 else f"{name[:20]}..."
    return name.replace("$", r"\$")


def saver(names: Sequence[str], data: Any | None) -> Callable:
    """Returns a function `save(path, samples, least_size)`, as `pictures.sampler` takes it."""

    def save_samples(path, samples, least_size):
        save(path, samples, names, data, least_size)

    return save_samples
