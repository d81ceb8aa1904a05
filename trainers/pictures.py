"""Pictures: grids of images and the training curve."""

import math
import pathlib

import numpy as np
from PIL import Image


def grid(images, num_levels, columns=None):
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


def save_grid(path, images, num_levels, columns=None, least_size=512):
    """Writes `grid` as a PNG, enlarged by a whole factor to at least `least_size` pixels."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(grid(images, num_levels, columns))
    factor = max(1, math.ceil(least_size / max(picture.size)))
    size = (picture.width * factor, picture.height * factor)
    picture.resize(size, Image.Resampling.NEAREST).save(path)


def save_curve(path, lines):
    """Draws bits per dimension over steps.

    Args:
      path: the PNG to write.
      lines: what `callbacks.read_lines` returns.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    steps = [line["step"] for line in lines]
    for key, label in (("bits_per_dim", "training"), ("val_bits_per_dim", "validation")):
        points = [(s, line[key]) for s, line in zip(steps, lines, strict=True) if key in line]
        if points:
            axes.plot(*zip(*points, strict=True), marker=".", label=label)
    axes.set(xlabel="step", ylabel="bits per dimension")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
