"""Which files are tables, and which of them a path, a pattern or a folder stands for."""

import functools
import glob
import os
import pathlib

from trainers.data import image_files
from trainers.data.tables import array_reader, bundled, table_files
from trainers.data.tables.table_names import path_of
from zoo.storage import files


def is_table(name: str) -> bool:
    """Returns whether a name is that of a table, and not of images or points."""
    path = path_of(name)
    if path.startswith(bundled.PREFIX):
        return True
    local = files.local(path)
    if local.is_dir():
        return bool(files_of_folder(local))
    suffix = table_files.suffix_of(local)
    if suffix == ".npz" and not _is_pattern(path):
        return local.is_file() and bool(array_reader.npz_arrays(local))
    return bool(suffix)


def check_is_table(name: str) -> None:
    """Refuses the name of what is no table."""
    if not is_table(name):
        local = files.local(path_of(name))
        if local.is_file() and local.suffix.lower() == ".npz":
            raise ValueError(
                f"`{local}` must have an array [N, D] of numbers, or such arrays train, validation "
                f"and test. Received: {array_reader.describe_npz(local)}."
            )
        if local.is_file() and local.suffix.lower() == ".npy":
            whole = str(local.with_suffix(".npz"))
            raise ValueError(
                f"`{local}` must be a .npz file: `np.savez({whole!r}, np.load({str(local)!r}))`."
            )
        raise ValueError(
            "`--dataset` must be a table: a .csv, .tsv, .parquet or .npz file, a folder or pattern "
            f"of these, or {', '.join(bundled.NAMES)}. Received: --dataset={name}."
        )


def find(path: str) -> list[pathlib.Path]:
    """Returns the files that a path, a pattern of paths or a folder stands for.

    Raises:
      FileNotFoundError: if there are none.
    """
    local = files.local(path)
    if local.is_dir():
        return list(files_of_folder(local))
    if not _is_pattern(path):
        if not local.is_file():
            raise FileNotFoundError(f"`{local}` must be a file of a table; there is none.")
        return [local]
    found = sorted(map(pathlib.Path, glob.glob(files.expand_home(path), recursive=True)))
    found = [p for p in found if p.is_file()]
    if not found:
        raise FileNotFoundError(f"There must be files of this pattern; there are none: {path!r}.")
    return found


@functools.lru_cache(64)
def files_of_folder(folder: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """Returns the files of tables in a folder and those below; none if there are images."""
    found = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(n for n in folders if not n.startswith("."))
        for name in sorted(names):
            path = pathlib.Path(root, name)
            if name.startswith("."):
                continue
            if path.suffix.lower() in image_files.suffixes():
                return ()
            if table_files.suffix_of(path):
                found.append(path)
    if found and all(table_files.suffix_of(path) == ".npz" for path in found):
        return tuple(p for p in found if array_reader.npz_arrays(p))
    return tuple(found)


def _is_pattern(path):
    return bool(glob.has_magic(path)) and not os.path.exists(files.expand_home(path))
