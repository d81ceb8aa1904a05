"""The images of a data set that are nearest to some images."""

from collections.abc import Iterable

import numpy as np


def find_nearest(
    images: np.ndarray, batches: Iterable[np.ndarray], count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns those of all images that are nearest to each of a few, and how far away they are.

    The distance is `sqrt(mean((a - b)^2))`, over the values of an image. It is computed as
    `|a|^2 + |b|^2 - 2 a b` in float64, exactly, since the values are integers.

    Args:
      images: integers `[N, ...]`.
      batches: batches `[B, ...]` of all images, `count` of them at least.
      count: how many nearest images of each.

    Returns:
      The nearest images, `[N, count, ...]`, and their distances `[N, count]`, the smallest first;
      of those that are equally near, the ones that come first.

    Example:
      >>> images, distances = find_nearest(np.array([[3, 3]]), [np.array([[9, 9], [3, 4]])], 1)
      >>> images.tolist(), distances.round(3).tolist()
      ([[[3, 4]]], [[0.707]])
    """
    flat = _flat(images)
    squares = np.square(flat).sum(1, keepdims=True)
    found = np.empty([len(images), 0, *images.shape[1:]], images.dtype)
    distances = np.empty([len(images), 0])
    for batch in batches:
        others = _flat(batch)
        new = squares + np.square(others).sum(1) - 2 * flat @ others.T
        places = np.argsort(new, axis=1, kind="stable")[:, :count]
        new = np.take_along_axis(new, places, 1)
        order = np.argsort(np.concatenate([distances, new], 1), axis=1, kind="stable")[:, :count]
        distances = np.take_along_axis(np.concatenate([distances, new], 1), order, 1)
        both = np.concatenate([found, batch[places]], 1)
        found = both[np.arange(len(both))[:, np.newaxis], order]
    return found, np.sqrt(distances / flat.shape[1])


def _flat(images):
    return images.reshape(len(images), -1).astype(np.float64)
