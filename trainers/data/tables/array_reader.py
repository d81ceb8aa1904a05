"""Tables that are arrays: in memory, and in `.npz` files."""

import pathlib
import zipfile
import zlib
from collections.abc import Iterator, Sequence

import numpy as np

from trainers.data.tables.table_reader import Part, TableReader, row_slices

_DAMAGED = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)


class ArrayReader(TableReader):
    """An array in memory.

    Args:
      path: for messages.
      array: `[N, D]`, of numbers.
      names: of the columns.
    """

    def __init__(self, path: str, array: np.ndarray, names: Sequence[str]) -> None:
        self.path, self._array = path, array
        self._name(names)

    def parts(self, columns: Sequence[int], label: int | None = None) -> Iterator[Part]:
        """See `TableReader.parts`."""
        names = [self.names[column] for column in columns]
        whole = self._array.dtype.kind in "iub"
        for place in row_slices(*self._array.shape):
            part = self._array[place]
            rows = part[:, list(columns)].astype(np.float64)
            self.check_finite(rows, names, place.start)
            labels = None if label is None else [f"{value:g}" for value in part[:, label]]
            yield Part(rows, np.full(len(columns), whole), labels)


def npz_arrays(path: pathlib.Path) -> list[str]:
    """Returns the names of the arrays of two dimensions in a `.npz` file; `[]` if one has more."""
    found = []
    try:
        with zipfile.ZipFile(path) as file:
            for member in file.namelist():
                with file.open(member) as array:
                    version = np.lib.format.read_magic(array)
                    read = (
                        np.lib.format.read_array_header_1_0
                        if version == (1, 0)
                        else np.lib.format.read_array_header_2_0
                    )
                    shape, _, dtype = read(array)
                if len(shape) > 2:
                    return []
                if len(shape) == 2 and dtype.kind in "fiub":
                    found.append(member.removesuffix(".npy"))
    except _DAMAGED:
        return []  # What is wrong is said by `npz.read`.
    return found


def describe_npz(path: pathlib.Path) -> str:
    """Returns what arrays are in a `.npz` file, in words."""
    try:
        with np.load(path, allow_pickle=False) as file:
            found = []
            for key in file.files[:5]:
                try:
                    found.append(f"`{key}` {list(file[key].shape)} of {file[key].dtype}")
                except ValueError:
                    found.append(f"`{key}` of Python objects")
            return ", ".join(found)
    except _DAMAGED as error:
        return f"a damaged file: {error}"


def open_npz(path: pathlib.Path, key: str) -> ArrayReader:
    """Returns what reads an array of a `.npz` file; an array `columns` has the names."""
    with np.load(path, allow_pickle=False) as file:
        array = file[key]
        names = [str(i) for i in range(array.shape[1])]
        for given in ("columns", "names", "feature_names"):
            if given in file.files and file[given].dtype.kind in "US":
                names = [str(name) for name in file[given].ravel()]
                if len(names) != array.shape[1]:
                    raise ValueError(
                        f"`{path}`, key `{given}`: must have a name for each column of `{key}`. "
                        f"Received: {len(names)} names, {array.shape[1]} columns."
                    )
                break
    return ArrayReader(f"{path}, key {key}", array, names)
