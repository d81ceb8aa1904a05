"""Images in `.npz` files: which arrays, of which split."""

import pathlib
import zipfile
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from trainers.data import labels, split_names
from trainers.data.image_paths import say

_SPLITTING = ("fold", "folds", "partition", "split", "splits", "subset")


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns the images in a `.npz` file, by split: `uint8` arrays `[N, H, W, C]`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged or another kind of file, holds no images of 8 bits, or it is
            not clear which are for training.
    """
    arrays, found = _find(path)
    return {s: _checked(f"`{path}`, key `{key}`,", arrays[key]) for s, key in found.items()}


def read_labels(path: pathlib.Path, split: str) -> np.ndarray:
    """Returns the labels beside the images of a split, integers or texts `[N]`.

    Raises:
        NoLabelsError: if there are none.
        ValueError: if they are not as many as the images, or no labels; and see `read`.
    """
    arrays, found = _find(path)
    key = labels.key_beside(list(arrays), found[split], split, len(found) == 1, f"`{path}`")
    what = f"`{path}`, key `{key}`,"
    if arrays[key] is None:
        raise ValueError(f"{what} must be a plain array. Received: Python objects.")
    values, count = labels.of_values(arrays[key], what), len(arrays[found[split]])
    if len(values.numbers) != count:
        raise ValueError(
            f"{what} must have a label for each of the {count} images of `{found[split]}`. "
            f"Received: {len(values.numbers)}."
        )
    return arrays[key].reshape(count)


def _find(
    path: pathlib.Path,
) -> tuple[dict[str, np.ndarray | None], dict[str, str]]:
    """The arrays of a file, and the keys of those that are the images of its splits."""
    if not path.is_file():
        raise FileNotFoundError(f"`{path}` must be a .npz file; there is none.")
    arrays = _arrays(path)
    keys = [
        key
        for key, array in arrays.items()
        if split_names.of(key, strictly=True) or (array is not None and array.ndim in (3, 4))
    ]
    paths = [tuple(key.split("/")) for key in keys]
    if split_names.tell(paths):
        remedy = "Name the arrays `train`, `validation` and `test`"
        splits = split_names.divide(paths, str(path), remedy)
        found = {split: key for key, split in zip(keys, splits, strict=True) if split}
    else:
        found = {"train": _only_images(path, arrays, keys)}
    left = [f"`{key}`" for key in keys if key not in found.values()]
    if left:
        say(f"`{path}`: left out {', '.join(left)}.")
    return arrays, found


def _arrays(path: pathlib.Path) -> dict[str, np.ndarray | None]:
    """The arrays of a file; `None` for those of Python objects, whose code is not run."""
    if not zipfile.is_zipfile(path):
        raise ValueError(f"`{path}` must be a whole .npz file of arrays. {_what(path)}")
    arrays = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            for key in file.files:
                try:
                    arrays[key] = file[key]
                except ValueError as error:
                    if "allow_pickle" not in str(error):
                        raise
                    arrays[key] = None
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"`{path}` must be a whole .npz file of arrays: {error}.") from error
    for key, array in arrays.items():
        if isinstance(array, bytes):
            raise ValueError(
                f"`{path}` must be a whole .npz file of arrays. Received: a file {key!r} in it. If "
                "it is a .zip file of images, unpack it and name the folder."
            )
    return arrays


def _what(path: pathlib.Path) -> str:
    """Says what a file is that is `.npz` by name only."""
    with open(path, "rb") as file:
        start = file.read(16)
    if start.startswith(b"\x93NUMPY"):
        return f"It is a .npy file: `np.savez({str(path)!r}, train=np.load({str(path)!r}))`."
    if start.startswith(b"PK"):
        return "It is cut short: copy or download it again."
    return f"It is one by name only, and begins with {start!r}: write it with `np.savez`."


def _only_images(
    path: pathlib.Path, arrays: Mapping[str, np.ndarray | None], keys: Sequence[str]
) -> str:
    """The one array of images of a file without splits, if nothing in it tells of splits."""
    told = [key for key in arrays if key.lower() in _SPLITTING or split_names.of(key) is not None]
    if "images" in arrays:
        keys = ["images"]
    if len(keys) != 1:
        raise ValueError(
            f"`{path}` must have arrays train, validation or test, or `images`, or only one array "
            f"[N, H, W, C] or [N, H, W]. Received: keys={list(arrays)}."
        )
    if told:
        raise ValueError(
            f"`{path}` must say what to train on: `{told[0]}` may divide `{keys[0]}` into splits. "
            "Name the arrays of images `train`, `validation` and `test`."
        )
    return keys[0]


def _checked(what: str, images: np.ndarray | None) -> np.ndarray:
    """`uint8` images `[N, H, W, C]`, or an error."""
    if images is None:
        raise ValueError(
            f"{what} must be a plain array. Received: Python objects, which are not read. Store "
            "images of one shape as one array of 8-bit integers, [N, H, W, C]."
        )
    if not np.issubdtype(images.dtype, np.integer):
        nans = np.isnan(images).sum() if np.issubdtype(images.dtype, np.floating) else 0
        raise ValueError(
            f"{what} must hold integers 0 .. 255. Received: dtype={images.dtype}"
            + (f", {nans} of {images.size} values NaN" if nans else "")
            + ". Store 8-bit values: images in 0 .. 1 as `np.round(255 * x).astype(np.uint8)`."
        )
    if images.ndim not in (3, 4) or not images.size:
        raise ValueError(
            f"{what} must be images [N, H, W, C] or [N, H, W]. Received: shape={images.shape}."
        )
    low, high = images.min(), images.max()
    if low < 0 or high > 255:
        raise ValueError(f"{what} must hold integers 0 .. 255. Received: {low} .. {high}.")
    images = images.astype(np.uint8, copy=False)
    return images if images.ndim == 4 else images[..., np.newaxis]
