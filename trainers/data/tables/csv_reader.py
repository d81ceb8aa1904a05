"""CSV files of tables."""

import contextlib
import csv
import gzip
import io
import itertools
import pathlib
import re
import zlib
from collections.abc import Iterator, Sequence

import numpy as np

from trainers.data.image_paths import say
from trainers.data.tables import csv_cells, csv_dialect
from trainers.data.tables.table_reader import ENCODE, Part, TableReader, rows_at_once

_SAMPLE_BYTES = 1 << 18
_COMMA = (
    " A comma inside of a number or a text? Put it in quotes, or write semicolons between cells."
)


class CsvReader(TableReader):
    """Text: UTF-8, or Latin-1; delimited by commas, semicolons, tabs or bars; with a header or not.

    Args:
      path: the file, which may be compressed by gzip.

    Raises:
      ValueError: if there is no table of numbers in it.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path, self._path = str(path), path
        with self._text() as file:
            sample = file.read(_SAMPLE_BYTES)
            whole = not file.read(1)
        if not whole:  # The last line may be cut.
            sample = sample[: max(sample.rfind("\n"), sample.rfind("\r")) + 1] or sample
        self._skipped = 0
        if match := re.match(r"sep=(.)\r?\n", sample):
            self._skipped, sample = 1, sample[match.end() :]
        self._delimiter = match[1] if match else csv_dialect.find_delimiter(sample)
        found = csv_dialect.split_rows(sample, self._delimiter)
        if not found:
            raise ValueError(f"`{path}` must have rows of numbers. Received: an empty file.")
        width = len(found[0])
        if width == 1 and any(len(row[0].split()) > 1 for row in found[:2]):
            raise ValueError(
                f"`{path}` must have commas, semicolons, tabs or bars between its columns. "
                f"Received: the line {found[0][0]!r:.100}."
            )
        self._has_header = csv_dialect.has_header(found)
        self._name([_decode(cell, path) for cell in found[0]] if self._has_header else [""] * width)
        if not self._has_header:
            say(f"`{path}` has no header: its columns are 0 to {width - 1}.")
        self._lines: dict[int, int] = {}
        body = found[1:] if self._has_header else found
        if not body:
            raise ValueError(f"`{path}` must have rows below its header. Received: none.")
        self._leave_out_index(found[0], body)
        self._leave_out_empty(found[0], body)
        self._texts = {
            name: row[column]
            for column, name in enumerate(self.names)
            for row in [next((r for r in body if csv_cells.is_text(r, column)), None)]
            if row is not None
        }

    @contextlib.contextmanager
    def _text(self) -> Iterator[io.TextIOBase]:
        opened = gzip.open if self._path.suffix.lower() == ".gz" else open
        try:
            with opened(self._path, "rb") as file:
                start = file.read(512)
                file.seek(0)
                if start.startswith((b"\xff\xfe", b"\xfe\xff")):
                    raise ValueError(
                        f"`{self._path}` must be in UTF-8. Received: UTF-16. "
                        f"`iconv -f utf-16 -t utf-8` converts it."
                    )
                if b"\0" in start or start.startswith((b"PK", b"PAR1", b"\x1f\x8b")):
                    raise ValueError(
                        f"`{self._path}` must be text. Received: a file that begins with "
                        f"{start[:8]!r}, which is of another kind than its name says."
                    )
                with io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline="") as text:
                    yield text
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"`{self._path}` is damaged: {error}.") from error

    def _leave_out_index(self, header, body):
        """Leaves out a first column without a name that counts the rows, as pandas writes it."""
        if self._has_header and not header[0].strip() and len(header) > 1:
            counted = [row[0].strip() for row in body]
            if counted == [str(i + int(counted[0] == "1")) for i in range(len(counted))]:
                say(f"`{self.path}`: left out its first column, which has no name and counts rows.")
                self.usual = self.usual[1:]

    def _leave_out_empty(self, header, body):
        """Leaves out columns without name and cells, as commas at the ends of lines make them."""
        empty = [
            self.names[number]
            for number in range(len(header))
            if not any("".join(row[number:][:1]).strip() for row in (header, *body))
        ]
        if self._has_header and empty and len(empty) < len(header):
            say(f"`{self.path}`: left out {len(empty)} empty column(s) without a name.")
            self.usual = [name for name in self.usual if name not in empty]

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """Yields the rows of cells below the header with the numbers of their lines."""
        width = len(self.names)
        with self._text() as file:
            for _ in range(self._skipped):
                file.readline()
            reader = csv.reader(file, delimiter=self._delimiter, skipinitialspace=True)
            records = filter(None, reader)  # Without empty lines.
            try:
                if self._has_header:
                    next(records, None)
                for number, cells in enumerate(records, start=1):
                    line = reader.line_num + self._skipped
                    if len(cells) != width:
                        raise ValueError(
                            f"`{self.path}`, row {number} (line {line}): must have {width} "
                            f"cells, as the first has. Received: {len(cells)}."
                            + (_COMMA if self._delimiter == "," and len(cells) > width else "")
                        )
                    yield line, cells
            except csv.Error as error:
                line = reader.line_num + self._skipped
                raise ValueError(f"`{self.path}`, line {line}: {error}.") from error

    def parts(self, columns: Sequence[int], label: int | None = None) -> Iterator[Part]:
        """See `TableReader.parts`."""
        self._refuse_texts([self.names[column] for column in columns])
        before, records, at_once = 0, self._records(), rows_at_once(len(self.names))
        while found := list(itertools.islice(records, at_once)):
            lines, cells = zip(*found, strict=True)
            self._lines = dict(enumerate(lines, start=before + 1))
            yield self._part(cells, columns, label, before)
            before += len(cells)

    def _part(self, cells, columns, label, before):
        names = [self.names[column] for column in columns]
        found = [[row[column] for column in columns] for row in cells]
        shape = len(cells), len(columns)
        try:
            texts = np.array(found).reshape(shape)
            rows = texts.astype(np.float64)
        except ValueError:
            found = [
                [csv_cells.BOOLEANS.get(c.strip().lower(), c) for c in record] for record in found
            ]
            for row, record in enumerate(found):
                for name, cell in zip(names, record, strict=True):
                    self._check_cell(name, before + row + 1, cell)
            texts = np.array(found).reshape(shape)
            rows = texts.astype(np.float64)
        self.check_finite(rows, names, before)
        is_integer = (rows == np.floor(rows)).all(axis=0)
        for column in np.flatnonzero(is_integer):
            found = texts[:, column]
            points = [np.char.find(found, sign) >= 0 for sign in ".eE"]
            is_integer[column] = not np.any(points)
        labels = None if label is None else [row[label].strip() for row in cells]
        return Part(rows, is_integer, labels)

    def _check_cell(self, name, row, cell):
        """Refuses a cell that is no number, and says what it is."""
        if csv_cells.is_missing(cell):
            self.refuse(name, row, f"{cell!r}, a missing value")
        if csv_cells.has_comma(cell):
            self.refuse(
                name, row, f"{cell!r}", "Write numbers with a decimal point, and no commas."
            )
        try:
            float(cell)
        except ValueError:
            self.refuse(name, row, f"{cell!r:.100}", ENCODE)

    def _refuse_texts(self, names):
        """Refuses columns that are text from the start, all in one."""
        found = {name: self._texts[name] for name in names if name in self._texts}
        if not found:
            return
        for name, cell in found.items():
            if csv_cells.has_comma(cell):
                raise ValueError(
                    f"`{self.path}`, column `{name}`: must have numbers with a decimal point, and "
                    f"no commas. Received: {cell!r}."
                )
        self.refuse_columns(names, {name: repr(cell) for name, cell in found.items()}, "text")

    def line_of(self, row: int) -> str:
        """See `TableReader.line_of`."""
        return f" (line {self._lines[row]})" if row in self._lines else ""


def _decode(cell: str, path: pathlib.Path) -> str:
    """Returns a name, which is in Latin-1 if it is no UTF-8."""
    try:
        cell.encode()
    except UnicodeEncodeError:
        cell = cell.encode("utf-8", "surrogateescape").decode("latin-1")
        say(f"`{path}` is no UTF-8, and read as Latin-1: there is a column {cell.strip()!r}.")
    return cell
