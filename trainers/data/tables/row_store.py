"""Where the rows of a table are held: in memory, or in a temporary file."""

import tempfile

import numpy as np

from trainers.data import batching
from trainers.data.image_paths import say


class RowStore:
    """Rows in memory, from `batching.HELD_BYTES` on in a temporary file without a name.

    Args:
      width: number of columns.
    """

    def __init__(self, width: int) -> None:
        self._width, self._parts, self._file = width, [], None
        self._count = 0

    def append(self, rows: np.ndarray) -> None:
        """Adds rows, `float32` `[n, width]`."""
        self._count += len(rows)
        if self._file is not None:
            self._file.write(rows.tobytes())
            return
        self._parts.append(rows)
        if 4 * self._count * self._width > batching.HELD_BYTES:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  The array outlives this.
            for part in self._parts:
                self._file.write(part.tobytes())
            self._parts = []

    def finish(self, path: str) -> np.ndarray:
        """Returns all rows, in a file as an `np.memmap`.

        Args:
          path: of the table, for what is said.
        """
        if self._file is None:
            return np.concatenate(self._parts) if self._parts else np.empty([0, self._width])
        self._file.flush()
        say(
            f"`{path}` is larger than {batching.HELD_BYTES / 2**30:g} GiB: its numbers are kept in "
            f"a temporary file in {tempfile.gettempdir()} (TMPDIR)."
        )
        return np.memmap(self._file, np.float32, "r", shape=(self._count, self._width))
