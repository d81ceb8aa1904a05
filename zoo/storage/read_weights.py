"""Reads a weights file that may come from strangers, in a process of its own.

HDF5 is a C library that altered files can make crash, loop or take any amount of memory. So a
process of its own, with limits of memory and time, reads the file, and hands over plain arrays:

    python zoo/storage/read_weights.py model.weights.h5 60

Writes a line of JSON, then the arrays, byte by byte.
"""

import json
import os
import pathlib
import resource
import signal
import subprocess
import sys

import h5py
import numpy as np

MAX_BYTES = 64 << 30
MAX_ARRAYS = 20_000
_SECONDS = 60  # Of the processor, and another for each `_BYTES_A_SECOND`.
_WAIT = 10  # Times as long on a machine that has other work.
_BYTES_A_SECOND = 10 << 20


def read_weights(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns the arrays of a file of `FlowModel.save_weights`, by name.

    Args:
      path: the file, of at most `MAX_BYTES`.

    Raises:
      ValueError: if it is no such file, has links or arrays of a declared size that is not there,
        or reading it crashes or takes too long; names the file.
    """
    path = pathlib.Path(path)
    seconds = _SECONDS + path.stat().st_size // _BYTES_A_SECOND
    wait = _WAIT * seconds
    # The packages of this process: it may have other ones than the interpreter by itself.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment["OPENBLAS_NUM_THREADS"] = "1"  # Of many cores, they reserve more than the bound.
    try:
        result = subprocess.run(
            [sys.executable, "-P", __file__, str(path), str(seconds)],
            capture_output=True,
            timeout=wait,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ValueError(_damaged(path, f"reading it took more than {wait} s")) from None
    if result.returncode < 0:
        name = signal.Signals(-result.returncode).name
        raise ValueError(_damaged(path, f"reading it ended with {name}"))
    if result.returncode:
        lines = result.stderr.decode(errors="replace").strip().splitlines()
        raise ValueError(_damaged(path, lines[-1][:500] if lines else "it can't be read"))
    header, _, content = result.stdout.partition(b"\n")
    arrays, start = {}, 0
    for name, dtype, shape in json.loads(header):
        array = np.frombuffer(content, dtype, int(np.prod(shape)), start).reshape(shape)
        arrays[name] = array
        start += array.nbytes
    return arrays


def _damaged(path, why):
    return f"{path} must be a whole weights file of a preset. Received: {why}."


def _main(path, seconds):
    size = os.path.getsize(path)
    most = 3 * size + (2 << 30)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        with h5py.File(path, "r") as file:
            group = _child(file, "vars", h5py.Group)
            if len(group) > MAX_ARRAYS:
                raise ValueError(f"{len(group)} arrays")
            arrays = {name: _array(group, name, size) for name in group}
        if sum(array.nbytes for array in arrays.values()) > size:
            raise ValueError("arrays that are larger than the file")
    except Exception as error:  # Of a library that has many; its traceback helps nobody.
        message = " ".join(str(error).split()) or "no message"
        sys.exit(f"{type(error).__name__}, {message}")
    header = [[name, array.dtype.str, array.shape] for name, array in arrays.items()]
    sys.stdout.buffer.write(json.dumps(header).encode() + b"\n")
    for array in arrays.values():
        sys.stdout.buffer.write(array.tobytes())
    sys.stdout.flush()
    os._exit(0)  # Nothing of the library runs any more.


def _child(group, name, kind):
    """Returns what a group holds itself: no link leads elsewhere."""
    link = group.get(name, getlink=True, getclass=True)
    if link is not h5py.HardLink:
        raise ValueError(f"{name!r} as {link.__name__ if link else 'nothing'}")
    child = group[name]
    if not isinstance(child, kind):
        raise ValueError(f"{name!r} as {type(child).__name__}")
    return child


def _array(group, name, size):
    """Returns an array that the file holds, all of it and in plain form."""
    dataset = _child(group, name, h5py.Dataset)
    if dataset.external or dataset.is_virtual or dataset.chunks or dataset.dtype.kind not in "fiu":
        raise ValueError(f"{name!r} in another file, compressed, or of type {dataset.dtype}")
    # In Python's integers: the product may exceed 64 bits.
    declared = dataset.dtype.itemsize
    for length in dataset.shape or ():
        declared *= int(length)
    if dataset.shape is None or declared > size:
        raise ValueError(f"{name!r} of shape {dataset.shape}, {declared} bytes, in {size} bytes")
    return dataset[()] if dataset.shape else np.asarray(dataset[()])


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
