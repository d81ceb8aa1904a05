"""Folders of images as sources: one shape, from the heads of files; pixels held or streamed."""

import concurrent.futures
import dataclasses
import os
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from trainers.data import image_files
from trainers.data.batching import Source, hold, is_held, stream
from trainers.data.image_paths import readable

_DECODED_AT_ONCE = 10_000
_CAUSES = 5  # In one message.


def open_images(root: str, paths: Sequence[str]) -> Source:
    """Opens images of one shape, named by their paths below `root`."""
    shape = _common_shape(root, paths)
    names = tuple(readable(os.path.relpath(path, root)) for path in paths)
    if is_held(len(paths), shape):
        return dataclasses.replace(hold(_decoded(root, paths, shape)), names=names)

    def decode(path: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(tf.numpy_function(_decode, [path], tf.uint8, stateful=False), shape)

    records = tf.data.Dataset.from_tensor_slices([os.fsencode(path) for path in paths])
    return dataclasses.replace(stream(records, decode, len(paths), shape), names=names)


def _decode(path: bytes) -> np.ndarray:
    """The pixels of an image, or an error that names it."""
    try:
        return image_files.read(os.fsdecode(path))
    except image_files.Unreadable as error:
        raise ValueError(f"`{readable(os.fsdecode(path))}` can't be read: {error}.") from None


def _decoded(root: str, paths: Sequence[str], shape: tuple[int, int, int]) -> np.ndarray:
    """All images, in one array."""
    images, faults = np.empty((len(paths), *shape), np.uint8), {}

    def fill(index: int) -> None:
        try:
            pixels = image_files.read(paths[index])
        except image_files.Unreadable as error:
            faults[paths[index]] = str(error)
            return
        if pixels.shape != shape:  # The head of a file does not always tell.
            faults[paths[index]] = f"an image of shape {pixels.shape}, and not {shape}"
            return
        images[index] = pixels

    with concurrent.futures.ThreadPoolExecutor() as pool:
        for start in range(0, len(paths), _DECODED_AT_ONCE):
            list(pool.map(fill, range(start, min(start + _DECODED_AT_ONCE, len(paths)))))
    _check(root, faults, len(paths))
    return images


def _common_shape(root: str, paths: Sequence[str]) -> tuple[int, int, int]:
    """Height, width and channels of all images, from their heads."""
    shapes, faults = {}, {}
    for path in paths:
        try:
            shapes.setdefault(image_files.shape(path), []).append(path)
        except image_files.Unreadable as error:
            faults[path] = str(error)
    _check(root, faults, len(paths))
    (shape, first), *others = shapes.items()
    if others:
        ((other, second), *_), rest = others, len(paths) - len(first)
        raise ValueError(
            f"Images must have one shape, that of `{readable(first[0])}`: {shape}. Received: "
            f"`{readable(second[0])}` of shape {other}; {rest} of {len(paths)} have others. With "
            "`image_size` (--image_size=64) they are cropped, resized and converted."
        )
    return shape


def list_causes(faults: Mapping[str, str]) -> str:
    """Counts what can't be read, by cause; `faults` has the cause for each name."""
    causes = {}
    for name in sorted(faults):
        causes.setdefault(faults[name], []).append(name)
    text = "; ".join(
        f"`{names[0]}`{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {cause}"
        for cause, names in [*causes.items()][:_CAUSES]
    )
    return f"{text}{'; ...' if len(causes) > _CAUSES else ''}"


def _check(root: str, faults: Mapping[str, str], count: int) -> None:
    """Raises an error that counts the images that can't be read, by cause."""
    if not faults:
        return
    named = {readable(os.path.relpath(path, root)): cause for path, cause in faults.items()}
    raise ValueError(
        f"`{readable(root)}` must hold images of 8 bits, grey or RGB. Received: {len(faults)} of "
        f"{count} that can't be read as they are: {list_causes(named)}. Convert or remove them."
    )
