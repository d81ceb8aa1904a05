"""Which files of a folder are images, and of which split."""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from absl import logging

from trainers.data import image_files, split_names

# Besides what begins with a dot: of macOS, of NAS systems and of Windows.
_HIDDEN = ("__macosx", "@eadir", "$recycle.bin", "thumbs.db", "desktop.ini")
_LISTS = (".csv", ".json", ".lst", ".tsv", ".txt")  # May say what is of which split.
_REMEDY = (
    "Put the images into folders `train`, `validation` and `test`, or name a folder of images to "
    "train on alone"
)
_ID = tuple[int, int]


@dataclasses.dataclass
class _Folder:
    """The images of a folder, by name; `linked` if a link leads there."""

    parts: split_names.Path
    linked: bool
    images: list[tuple[str, _ID | None]] = dataclasses.field(default_factory=list)


class _LeftOut:
    """Counts what is not read, by kind, with the first of each; and keeps lists of splits."""

    def __init__(self) -> None:
        self._found: dict[str, list] = {}
        self.lists: list[split_names.Path] = []

    def add(self, kind: str, path: split_names.Path) -> None:
        self._found.setdefault(kind, [0, path])[0] += 1
        name, suffix = os.path.splitext(path[-1])
        if suffix.lower() in _LISTS and split_names.of(name) not in (None, "train"):
            self.lists.append(path)

    def __str__(self) -> str:
        return ", ".join(f"{n} {kind} (`{_text(path)}`)" for kind, (n, path) in self._found.items())


def find(root: str) -> dict[str, np.ndarray]:
    """Returns the paths of the images in a folder and in those below it, by split.

    Links are followed, but not to a folder that they are in. What is hidden is left out; what is
    left out is logged in one line.

    Args:
        root: the folder.

    Raises:
        FileNotFoundError: if there are no images.
        ValueError: if it is not clear which are for training, or a file is in two splits.
    """
    left = _LeftOut()
    folders = [folder for folder in _walk(root, left) if folder.images]
    folders.sort(key=lambda folder: folder.parts)
    if not folders:
        raise FileNotFoundError(
            f"`{readable(root)}` must hold images ({', '.join(image_files.suffixes())}). "
            f"Received: {str(left) or 'an empty folder'}."
        )
    paths = [folder.parts for folder in folders]
    found = split_names.divide(paths, readable(root), _REMEDY)
    if not split_names.tell(paths):
        _check_names(root, folders, left.lists)
    chosen = _chosen(folders, found, left)
    if str(left):
        say(f"`{readable(root)}`: left out {left}.")
    return {
        split: np.array([os.path.join(root, *parts) for parts in sorted(chosen[split])], object)
        for split in split_names.NAMES
        if split in chosen
    }


def readable(path: str) -> str:
    r"""Returns a path as Unicode: of a name in Latin-1, say, `\xe9` for a byte that is none."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _text(path: split_names.Path) -> str:
    return readable("/".join(path))


def _walk(root: str, left: _LeftOut) -> Iterator[_Folder]:
    """Finds the folders and their images, and counts what is none."""
    waiting = [(_Folder((), False), root, False, {_identity(os.stat(root))})]
    while waiting:
        (folder, path, hidden, above), below = waiting.pop(), []
        for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
            parts, suffix = (*folder.parts, entry.name), os.path.splitext(entry.name)[1].lower()
            unseen = hidden or entry.name.startswith(".") or entry.name.lower() in _HIDDEN
            if _is(entry, os.path.isdir):
                identity = _identity(entry.stat())
                if identity in above:
                    left.add("links to a folder that they are in", parts)
                elif not (unseen and entry.is_symlink()):
                    linked = folder.linked or entry.is_symlink()
                    below.append((_Folder(parts, linked), entry.path, unseen, {*above, identity}))
            elif unseen or suffix not in image_files.suffixes():
                if not unseen:
                    left.add(suffix or "without a suffix", parts)
                elif suffix in image_files.suffixes():
                    left.add("hidden", parts)
            elif _is(entry, os.path.isfile):
                folder.images.append((entry.name, _identity(entry.stat())))
            elif entry.is_symlink():  # To nothing: an error when it is opened.
                folder.images.append((entry.name, None))
            else:
                left.add("not regular files", parts)
        waiting += below[::-1]
        yield folder


def _is(entry: os.DirEntry, kind: Callable[[str], bool]) -> bool:
    """Whether an entry, or what a link leads to, is of a kind; a link in a circle is of none."""
    if entry.is_symlink():
        return kind(entry.path)
    return entry.is_dir() if kind is os.path.isdir else entry.is_file()


def _identity(status: os.stat_result) -> _ID:
    return status.st_dev, status.st_ino


def _chosen(
    folders: Sequence[_Folder], found: Sequence[str | None], left: _LeftOut
) -> dict[str, list[split_names.Path]]:
    """Names of the images by split; each once, whatever links lead to it."""
    chosen, seen = {}, {}
    pairs = zip(folders, found, strict=True)
    for folder, split in sorted(pairs, key=lambda pair: pair[0].linked):
        for name, identity in folder.images:
            path = (*folder.parts, name)
            before, other = seen.get(identity, (split, None))
            if split is None:
                left.add("in no split", path)
            elif before != split:
                raise ValueError(
                    f"An image must be in one split. Received: `{_text(other)}` and "
                    f"`{_text(path)}`, which are one file."
                )
            elif other and folder.linked:
                left.add("that a link leads to once more", path)
            else:
                chosen.setdefault(split, []).append(path)
                if identity:
                    seen[identity] = split, path
    return chosen


def _check_names(root: str, folders: Sequence[_Folder], lists: Sequence[split_names.Path]) -> None:
    """Asks if names of files read like splits, train_0.png and test_0.png, or lists of them."""
    names = (name for folder in folders for name, _ in folder.images)
    found = {}
    for name in names:
        split = split_names.of(os.path.splitext(name)[0])
        found.setdefault(split, name)
        if split is None:
            break
    if None not in found and len(found) > 1:
        doubt = " and ".join(f"`{readable(name)}`" for name in found.values())
    elif lists:
        doubt = f"a list, `{_text(lists[0])}`,"
    else:
        return
    raise ValueError(
        f"`{readable(root)}` must say what to train on: {doubt} may tell of splits. Put the images "
        "into the folders `train`, `validation` and `test`; or all into `train`, if it is not so."
    )


@functools.cache
def say(line: str) -> None:
    """Logs a line, once: a run opens its data several times."""
    logging.warning("%s", line)
