"""Labels of images: numbers of classes that have names, in whatever form data bring them."""

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trainers.data import split_names

CONDITION = "label"  # What `--condition` calls them.
_MOST = 4096  # Classes, as a preset may have.
_SHOWN = 12  # Names in a message.
_WORDS = {"y", "label", "labels", "target", "targets", "class", "classes"}


class NoLabelsError(ValueError):
    """Says that data have no labels, or none that a model knows."""


@dataclasses.dataclass(frozen=True)
class Labels:
    """The labels of a split.

    Attributes:
        numbers: of the class of each event, `int32` `[N]`.
        classes: names of the classes.
    """

    numbers: np.ndarray
    classes: tuple[str, ...]

    def __getitem__(self, chosen: Any) -> "Labels":
        """Returns the labels of some of the events."""
        return Labels(self.numbers[chosen], self.classes)

    def among(self, classes: Sequence[str], what: str) -> "Labels":
        """Returns the same labels as numbers of other classes, those of a model.

        Args:
            classes: names, in their order.
            what: names the data, in errors.

        Raises:
            NoLabelsError: if no event is of any of these classes.
            ValueError: if one is of another.
        """
        numbers = {name: number for number, name in enumerate(classes)}
        found = [self.classes[number] for number in np.unique(self.numbers)]
        unknown = [name for name in found if name not in numbers]
        if unknown:
            error = NoLabelsError if len(unknown) == len(found) else ValueError
            count = np.isin(self.numbers, [self.classes.index(n) for n in unknown]).sum()
            raise error(
                f"{what} must have labels of the model's {describe(classes)}. Received: {count} of "
                f"{len(self.numbers)} events of {describe(unknown, 'other class')}."
            )
        table = np.array([numbers.get(name, -1) for name in self.classes], np.int32)
        return Labels(table[self.numbers], tuple(classes))


def describe(classes: Sequence[str], noun: str = "class") -> str:
    """Returns how many classes there are, and their names or the first of them, in words."""
    shown = ", ".join([*classes[:_SHOWN], *(["..."] if len(classes) > _SHOWN else [])])
    return f"{len(classes)} {noun}{'' if len(classes) == 1 else 'es'}: {shown}"


def of_values(values: Any, what: str, names: Sequence[str] | None = None) -> Labels:
    """Returns labels of integers, whose order is that of the classes, or of texts.

    Args:
        values: `[N]`, or a column `[N, 1]`.
        what: names them, in errors.
        names: those of the classes, if the values are their numbers.

    Raises:
        ValueError: if the values are no labels.
    """
    values = np.asarray(values)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "backslashreplace")
    if values.ndim != 1 or values.dtype.kind not in "iubU":
        raise ValueError(
            f"{what} must be labels: a whole number or a text for each event, [N]. "
            f"Received: dtype={values.dtype}, shape={values.shape}."
        )
    if names is not None:
        if len(values) and not 0 <= values.min() <= values.max() < len(names):
            raise NoLabelsError(
                f"{what} must be 0 .. {len(names) - 1}. "
                f"Received: labels from {values.min()} to {values.max()}."
            )
        return Labels(values.astype(np.int32), tuple(names))
    if values.dtype.kind == "b":
        values = values.astype(np.int32)
    found, numbers = np.unique(values, return_inverse=True)
    return Labels(numbers.reshape(-1).astype(np.int32), tuple(str(value) for value in found))


def check_classes(classes: Sequence[str], what: str) -> None:
    """Refuses labels that there is nothing to learn of, or that are no classes.

    Raises:
        ValueError: if there is one class alone, or there are too many.
    """
    if not 2 <= len(classes) <= _MOST:
        raise ValueError(
            f"{what} must have labels of 2 to {_MOST} classes. Received: {describe(classes)}."
        )


def of_folders(root: str, found: Mapping[str, np.ndarray], split: np.ndarray) -> Labels:
    """Returns the labels of files: the names of the folders of classes that they are in.

    Such a folder is the outermost one below that of a split, as in `train/CLASS/1.png`, and below
    those that all files are in.

    Args:
        root: the folder of all.
        found: paths of the files of all splits.
        split: paths of those of which the labels are returned.

    Raises:
        NoLabelsError: if a file is in no such folder.
    """
    everything = np.concatenate(list(found.values()))
    folders = [os.path.relpath(path, root).split(os.sep)[:-1] for path in everything]
    left = split_names.without([tuple(parts) for parts in folders])
    common = _count_common(left)
    # Of a single folder, which is then the class.
    common -= all(len(parts) == common for parts in left) and common > 0
    classes = {
        path: parts[common] if len(parts) > common else None
        for path, parts in zip(everything, left, strict=True)
    }
    outside = [path for path in split if classes[path] is None]
    if outside:
        name = os.fsencode(os.path.relpath(outside[0], root)).decode("utf-8", "backslashreplace")
        raise NoLabelsError(
            f"`{root}` must have a folder for each class, as in train/CLASS/1.png. "
            f"Received: {len(outside)} of {len(split)} images in none, such as `{name}`."
        )
    names = [os.fsencode(classes[path]).decode("utf-8", "backslashreplace") for path in split]
    return of_values(np.array(names, str), f"`{root}`")


def _count_common(paths):
    """Returns how many of their first names all paths have."""
    first, last = min(paths), max(paths)
    return next(
        (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b),
        min(len(first), len(last)),
    )


def key_beside(keys: Sequence[str], images: str, split: str, is_alone: bool, where: str) -> str:
    """Returns which array of a file has the labels of the images of a split.

    That is the one whose name says both, as `train_labels` or `y_train`; or `labels`, beside an
    array that is the only one of images.

    Args:
        keys: names of the arrays.
        images: name of the array of images.
        split: of these.
        is_alone: whether it is the only one of images.
        where: names the file, in errors.

    Raises:
        NoLabelsError: if there is none, or there are several.
    """
    told = [key for key in keys if key != images and _WORDS & set(_words(key))]
    chosen = [key for key in told if split_names.of(key) == split]
    if is_alone:
        chosen = chosen or [key for key in told if split_names.of(key) is None]
    if len(chosen) != 1:
        raise NoLabelsError(
            f"{where} must have labels of `{images}`, an array such as "
            f"`{'labels' if is_alone else f'{split}_labels'}`. Received: keys={list(keys)}."
        )
    return chosen[0]


def _words(key):
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", key)
    return [word.lower() for word in re.findall(r"[^\W\d_]+", spaced)]
