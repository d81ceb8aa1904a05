"""Files that are whole or not there, and JSON that may come from strangers."""

import contextlib
import hashlib
import io
import json
import math
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import h5py
import keras
import numpy as np

MAX_JSON_BYTES = 8 << 20
_BESIDE = "beside"  # The group of a file of weights that Keras does not look into.


def expand_home(path: str | os.PathLike) -> str:
    """Returns a path as text, with the home directory for `~`, which shells leave in flags.

    Raises:
      ValueError: if there is no such user.
    """
    found = os.path.expanduser(path)
    if found.startswith("~") and not os.path.lexists(found):
        raise ValueError(f"There is no home directory of such a user. Received: {path}.")
    return found


def local(path: str | os.PathLike) -> pathlib.Path:
    """Returns a path that a person gave, as `pathlib.Path`; see `expanded`."""
    return pathlib.Path(expand_home(path))


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a file whole or not at all, also if the process or the machine stops meanwhile.

    Args:
      path: the file; its folder is made.
      text: what it shall hold.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")
        to_disk(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def appearing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a folder to write into, which gets its name when the block has ended without an error.

    Args:
      path: the name. An existing folder is replaced then; after an error it is what it was.
    """
    path = local(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    work = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    replaced = work.with_name(f"{work.name}.replaced")
    try:
        yield work
        work.chmod(0o755)
        if path.exists():  # Moved aside first: of the old and the new one is always whole.
            path.rename(replaced)
        work.rename(path)
        shutil.rmtree(replaced, ignore_errors=True)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        if replaced.exists() and not path.exists():
            replaced.rename(path)
        raise


def to_json(content: Any, indent: int | None = None) -> str:
    """Returns JSON, with null for numbers that are not finite, which it does not have."""
    try:
        return json.dumps(content, indent=indent, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(content), indent=indent, allow_nan=False)


def _finite(content):
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def write_json(path: str | os.PathLike, content: Any) -> None:
    """Writes a JSON file, as `to_json`, whole or not at all."""
    write_text(path, to_json(content, indent=2) + "\n")


class _Memory(io.BytesIO):
    """A file in memory, with a name such as `save_weights` asks for."""

    def __str__(self):
        return "memory.weights.h5"


def write_weights(
    model: keras.Model,
    path: str | os.PathLike,
    half: bool = False,
    beside: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Writes the weights of a Keras model, with the optimiser's state if it is compiled.

    HDF5 makes them in memory: after a write that failed, for a lack of room or of rights, that
    library crashes the process at its next file or at its end.

    Args:
      model: a `keras.Model`.
      path: the file.
      half: whether `float32` is rounded to `float16`, of half the size.
      beside: other arrays, by names without slashes, for `read_beside`.
    """
    content = _Memory()
    model.save_weights(content)
    if beside:
        with h5py.File(content, "a") as file:
            for name, array in beside.items():
                file.create_dataset(f"{_BESIDE}/{name}", data=array)
    if half:
        content = _halve(content)
    with open(path, "wb") as file:
        file.write(content.getbuffer())
    to_disk(path)


def read_beside(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns the arrays `beside` that `write_weights` wrote into a file of our own."""
    with h5py.File(path, "r") as file:
        return {name: array[()] for name, array in file.get(_BESIDE, {}).items()}


def _halve(content):
    """Returns a copy of a file of HDF5 with `float32` rounded to `float16`."""
    halved = _Memory()
    with h5py.File(content, "r") as source, h5py.File(halved, "w") as target:

        def copy(name, item):
            if isinstance(item, h5py.Group):
                target.require_group(name)
            else:
                target[name] = item[()].astype(
                    np.float16 if item.dtype == np.float32 else item.dtype
                )

        source.visititems(copy)
    return halved


def to_disk(path: str | os.PathLike) -> None:
    """Waits until a file, or the list of files in a folder, would outlast a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: str | os.PathLike) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_file(path: str | os.PathLike, max_bytes: int) -> None:
    """Refuses what is no regular file, which could be read without end, or is too large.

    Args:
      path: the file; a symbolic link to a file will do.
      max_bytes: the largest size.

    Raises:
      ValueError: if it is not there, no file, or larger.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise ValueError(f"The folder {path.parent} must have a file {path.name}; there is none.")
    if not path.is_file():
        raise ValueError(f"{path} must be a regular file. Received: a folder, pipe or device.")
    if (size := path.stat().st_size) > max_bytes:
        raise ValueError(f"{path} must have at most {max_bytes} bytes. Received: {size} bytes.")


def read_json(path: str | os.PathLike) -> dict:
    """Returns the object in a JSON file, of `MAX_JSON_BYTES` at most.

    Raises:
      ValueError: if the file is missing, too large or damaged, or holds no object; names the file.
    """
    path = pathlib.Path(path)
    check_file(path, MAX_JSON_BYTES)
    try:
        content = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:  # Also numbers of too many digits.
        raise ValueError(f"{path} is damaged, it is no JSON: {error}.") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object. Received: {type(content).__name__}.")
    return content
