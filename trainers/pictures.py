"""Pictures: grids of images, points in the plane, and the training curve."""

import math
import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from absl import logging
from PIL import Image

from tfflows.distributions import density_of, is_discrete, with_temperature
from trainers.data.batching import most_events

MOST_CLASSES = 50  # Rows of a picture.
CLASS_SAMPLES = 8  # In a row.
IMAGE_BATCH = 4  # Rank of a batch of images.
UNITS = {
    "bits_per_dim": "bits per dimension",
    "nats_per_node": "nats per node",
    "nats": "nats",
}  # Of a loss in the reports of a run, and their names on a curve.
_TALLEST = 10  # Of a curve, times the distance from its least value to its median.


def grid(images: Any, num_levels: int, columns: int | None = None) -> np.ndarray:
    """Returns the images side by side as one array `[h, w, 3]` of `uint8`.

    Args:
      images: integers `[N, H, W, C]`, `C` 1 or 3.
      num_levels: number of values of a pixel; the largest becomes white.
      columns: images a row, by default as many as rows.
    """
    images = np.asarray(images)
    count, height, width, channels = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    canvas = np.full([rows * (height + 1) + 1, columns * (width + 1) + 1, 3], 128, np.uint8)
    scaled = np.round(images * (255 / (num_levels - 1))).astype(np.uint8)
    for index, image in enumerate(np.broadcast_to(scaled, [count, height, width, 3])):
        top, left = index // columns * (height + 1) + 1, index % columns * (width + 1) + 1
        canvas[top : top + height, left : left + width] = image
    del channels
    return canvas


def save_grid(
    path: str | os.PathLike,
    images: Any,
    num_levels: int,
    columns: int | None = None,
    least_size: int = 512,
) -> None:
    """Writes `grid` as a PNG, enlarged by a whole factor to at least `least_size` pixels."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(grid(images, num_levels, columns))
    factor = max(1, math.ceil(least_size / max(picture.size)))
    size = (picture.width * factor, picture.height * factor)
    picture.resize(size, Image.Resampling.NEAREST).save(path)


def save_points(
    path: str | os.PathLike, points: np.ndarray, half_width: float = 4.0, least_size: int = 512
) -> None:
    """Writes a histogram of points `[N, 2]` on `[-half_width, half_width]^2` as a PNG.

    The nodes of sets `[N, k, 2]`, all in one, are in a square around all but 1 in 100.
    """
    points, center = np.asarray(points), np.zeros(2)
    if points.ndim == 3:
        points = points.reshape(-1, 2)
        low, high = np.quantile(points, [0.005, 0.995], axis=0)
        center, half_width = (low + high) / 2, 0.6 * (high - low).max()
    x, y = (c + np.linspace(-half_width, half_width, 129) for c in center)
    counts, _, _ = np.histogram2d(points[:, 1], points[:, 0], bins=(y, x))
    levels = np.sqrt(counts / max(counts.max(), 1))[::-1, :, np.newaxis]
    save_grid(path, np.round(255 * levels)[np.newaxis], 256, 1, least_size)


def save_ways(path: str | os.PathLike, samples: Any, ways: Any) -> None:
    """Draws ways in the plane among samples.

    Args:
      path: the PNG to write.
      samples: points `[N, 2]` or sets of them `[N, k, 2]`.
      ways: `[M, steps, 2]` or `[M, steps, k, 2]`.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    ways = np.asarray(ways)
    ways = ways.reshape(*ways.shape[:2], -1, 2).swapaxes(1, 2).reshape(-1, ways.shape[1], 2)
    figure, axes = pyplot.subplots(figsize=(5, 5), layout="constrained")
    axes.scatter(*np.asarray(samples).reshape(-1, 2).T, s=2, color="0.8")
    for way in ways:
        (line,) = axes.plot(*way.T, marker=".")
        axes.scatter(*way[[0, -1]].T, s=60, color=line.get_color(), zorder=3)
    axes.set_aspect("equal")
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def usual_count(distribution: tfp.distributions.Distribution) -> int:
    """Returns how many samples a picture shows: 64 images, fewer large ones, or 20,000 points."""
    if not is_discrete(distribution):
        return 20_000 // math.prod(distribution.event_shape[:-1])
    return most_events(64, distribution.event_shape)


def sampler(
    distribution: tfp.distributions.Distribution,
    seed: int,
    temperature: float = 1.0,
    count: int | None = None,
    save: Callable | None = None,
    columns: int | None = None,
    denoise: bool = False,
) -> Callable:
    """Returns a function `draw(path)` that writes a picture of samples, always of the same latents.

    Samples that are NaN, since an inverse did not converge, are left out, with a warning; if all
    are, there is no picture. `draw` returns the number of samples in it.

    Args:
      distribution: a model as it is trained: `Dequantized` for images. Of a batch of them, one
        sample each is drawn; of images those that are NaN are black, so that all are in place, and
        `save` gets all, of other events NaN or not.
      seed: Python `int`.
      temperature: factor on the standard deviation of the latents.
      count: number of samples; by default `usual_count(distribution)`.
      save: writes samples, as `save(path, samples, least_size)`; by default a grid of images or a
        histogram of points.
      columns: images a row of the grid; by default as many as rows.
      denoise: whether Gaussian noise that the density has is taken out, see `Dequantized.denoise`.
    """
    discrete, model = (
        is_discrete(distribution),
        with_temperature(density_of(distribution), temperature),
    )
    batch = model.batch_shape.num_elements() if model.batch_shape.rank else None
    count = batch or count or usual_count(distribution)

    @tf.function
    def sample():
        samples = model.sample(() if batch else count, seed=[seed, 1])
        return distribution.denoise(samples) if denoise else samples

    def draw(path, least_size=512):
        samples = sample()
        failed = tf.reduce_any(tf.math.is_nan(samples), axis=list(range(1, samples.shape.rank)))
        drawn = count - int(tf.math.count_nonzero(failed))
        if batch and drawn and (save is None or samples.shape.rank == IMAGE_BATCH):
            samples = tf.where(_as_events(failed, samples), tf.zeros_like(samples), samples)
        elif not batch or save is None:
            samples = tf.boolean_mask(samples, ~failed)
        if drawn < count:
            logging.warning(
                "%d of %d samples are NaN: an inverse did not converge. They are not in %s.",
                count - drawn,
                count,
                path,
            )
        samples = distribution.to_integers(samples) if drawn and discrete else samples
        if drawn and save is not None:
            save(path, samples, least_size)
        elif drawn and discrete:
            save_grid(path, samples, distribution.num_levels, columns, least_size)
        elif drawn:
            save_points(path, samples, least_size=least_size)
        return drawn

    return draw


def _as_events(rows, events):
    """Returns a flag for each row as one that broadcasts against the entries of its event."""
    return tf.reshape(rows, [-1, *[1] * (events.shape.rank - 1)])


def usual_class_count(event_shape: tf.TensorShape, num_classes: int) -> int:
    """Returns how many samples of each class a picture shows: 8, of large images fewer."""
    return max(1, most_events(CLASS_SAMPLES * num_classes, tuple(event_shape)) // num_classes)


def class_sampler(
    condition: Callable,
    num_classes: int,
    seed: int,
    temperature: float = 1.0,
    count: int | None = None,
    save: Callable | None = None,
    denoise: bool = False,
) -> Callable:
    """Returns `sampler` of a conditional model: a row for each class, in their order.

    Args:
      condition: returns the distribution given numbers of classes `[N]`, of batch shape `[N]`.
      num_classes: number of classes, of which the first 50 are drawn.
      seed: Python `int`.
      temperature: factor on the standard deviation of the latents.
      count: samples of a class; by default `usual_class_count`.
      save: see `sampler`.
      denoise: see `sampler`.
    """
    rows = min(num_classes, MOST_CLASSES)
    event_shape = condition(tf.zeros([1], tf.int32)).event_shape
    count = count or usual_class_count(event_shape, rows)
    distribution = condition(tf.repeat(tf.range(rows), count))
    return sampler(distribution, seed, temperature, save=save, columns=count, denoise=denoise)


def save_curve(path: str | os.PathLike, lines: list[dict], kept: int | None = None) -> None:
    """Draws the loss over steps, for a page of any colour: on nothing, with letters in grey.

    Args:
      path: the PNG to write.
      lines: what `callbacks.read_lines` returns.
      kept: the step whose weights were kept, marked if it is not the last.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    units = next(key for key in UNITS if key in lines[0])
    parts = ("text.color", "xtick.color", "ytick.color", "axes.labelcolor", "axes.edgecolor")
    with matplotlib.rc_context(dict.fromkeys(parts, "0.5")):
        figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
        drawn = []
        for key, label in ((units, "training"), (f"val_{units}", "validation")):
            points = [(line["step"], line[key]) for line in lines if key in line]
            if points:
                axes.plot(*zip(*points, strict=True), marker=".", label=label)
            drawn += [value for _, value in points if value is not None]
        if kept is not None and kept < lines[-1]["step"]:
            axes.axvline(kept, color="0.5", linestyle=":", label="weights kept")
        if drawn:  # What is far above all others leaves the picture, or nothing else is seen.
            low, median, high = np.quantile(drawn, [0, 0.5, 1])
            top = low + _TALLEST * (median - low)
            if low < top < high:
                axes.set_ylim(low - 0.05 * (top - low), top)
        axes.set(xlabel="step", ylabel=UNITS[units])
        axes.grid(alpha=0.3)
        axes.legend(framealpha=0)
        figure.savefig(path, dpi=120, transparent=True)
        pyplot.close(figure)
