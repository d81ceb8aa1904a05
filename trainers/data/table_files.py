"""Files of tables: CSV, Parquet and `.npz`, read in parts, of which every number is checked."""

import abc
import contextlib
import csv
import dataclasses
import gzip
import io
import os
import pathlib
import re
import shlex
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from trainers.data.image_paths import say
from zoo.columns import MAX_NAME

CSV_SUFFIXES = (".csv", ".tsv")
PARQUET_SUFFIXES = (".parquet", ".pq")
SUFFIXES = (*CSV_SUFFIXES, *PARQUET_SUFFIXES, ".npz")
WRITTEN = (".csv", ".parquet", ".npz")
ROWS_AT_ONCE, CELLS_AT_ONCE = 20_000, 1_000_000
_SAMPLE_BYTES, _SAMPLE_ROWS = 1 << 18, 200
_DELIMITERS = ",;\t|"
_MISSING = frozenset(["", "na", "n/a", "nan", "null", "none", "?", "-", "#n/a", "<na>", "nil"])
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf|infinity)", re.I)
_BOOLEANS = {"true": "1", "false": "0"}
_WITH_COMMA = re.compile(r"[+-]?\d+(,\d+)+(\.\d+)?|[+-]?\d{1,3}(\.\d{3})*,\d+")


@dataclasses.dataclass
class Part:
    """Some rows of a file.

    Attributes:
      rows: `float64`, `[n, D]`, all finite.
      is_integer: of which columns these rows are of an integer type, `[D]`.
      labels: what a column of text has in these rows, or `None`.
    """

    rows: np.ndarray
    is_integer: np.ndarray
    labels: list[str] | None = None


class TableFile(abc.ABC):
    """A file of a table.

    Attributes:
      path: for messages.
      names: of the columns, in order.
      usual: names of the columns to take if none are asked for.
    """

    path: str
    names: list[str]
    usual: list[str]

    @abc.abstractmethod
    def parts(self, columns: Sequence[int], label: int | None = None) -> Iterator[Part]:
        """Yields the rows in order.

        Args:
          columns: numbers of the columns to read.
          label: number of a column to read as text, or `None`.

        Raises:
          ValueError: names the column and the row of what is no finite number.
        """

    def refuse(self, name: str, row: int, what: str, remedy: str) -> NoReturn:
        """Raises an error about a cell; `row` counts from 1."""
        raise ValueError(
            f"`{self.path}`, column `{name}`, row {row}{self.line_of(row)}: must be a finite "
            f"number. Received: {what}. {remedy}"
        )

    def refuse_columns(self, names: Sequence[str], others: Mapping[str, str], what: str) -> None:
        """Raises an error about columns that are no numbers.

        Args:
          names: of all columns that are asked for.
          others: of those that are no numbers, and what is in them.
          what: that in a word.
        """
        shown = ", ".join(f"`{name}` ({text:.40})" for name, text in list(others.items())[:5])
        chosen = io.StringIO()
        left = [name for name in names if name not in others]
        csv.writer(chosen, lineterminator="").writerow(left)
        remedy = _ENCODE
        if left and len(chosen.getvalue()) < 300:
            given = shlex.quote(f"--columns={chosen.getvalue()}")
            remedy = f"Leave them out, {given}, or write numbers for them."
        raise ValueError(
            f"`{self.path}` must have numbers alone. Received: {what} in {len(others)} of "
            f"{len(names)} columns, {shown}. {remedy}"
        )

    def line_of(self, row: int) -> str:
        """Returns where a row is, if that is known."""
        del row
        return ""

    def check_finite(self, rows: np.ndarray, names: Sequence[str], before: int) -> None:
        """Refuses NaN and infinity."""
        if not np.isfinite(rows).all():
            row, column = np.argwhere(~np.isfinite(rows))[0]
            value = rows[row, column]
            if np.isnan(value):
                self.refuse(names[column], before + row + 1, "a missing value", _FILL)
            self.refuse(names[column], before + row + 1, f"{value}", _FILL)

    def _name(self, names: Sequence[str]) -> None:
        """Takes names for the columns, numbers where there are none."""
        self.names = [name.strip() or str(i) for i, name in enumerate(names)]
        numbers: dict[str, int] = {}
        for number, name in enumerate(self.names):
            if numbers.setdefault(name, number) != number:
                raise ValueError(
                    f"`{self.path}` must have different names of columns. Received: {name!r} twice."
                )
            if len(name) > MAX_NAME:
                raise ValueError(
                    f"`{self.path}` must have names of columns of at most {MAX_NAME} characters. "
                    f"Received: {len(name)} of column {number}."
                )
        self.usual = list(self.names)
        self._numbers = numbers

    def find(self, name: str) -> int:
        """Returns the number of a column of a name, or of a number from 0 on as text."""
        if name in self._numbers:
            return self._numbers[name]
        if re.fullmatch(r"\d+", name) and int(name) < len(self.names):
            return int(name)
        known = ", ".join(map(repr, self.names[:20])) + (", ..." if len(self.names) > 20 else "")
        raise ValueError(f"`{self.path}` must have a column {name!r}. Received: {known}.")


def rows_at_once(num_columns: int) -> int:
    """Returns how many rows of a file are in memory at a time."""
    return max(1, min(ROWS_AT_ONCE, CELLS_AT_ONCE // num_columns))


_FILL = "Leave out the row or the column (--columns), or fill in a number."
_ENCODE = "Leave the column out (--columns), or write a number for each category."


def open_file(path: pathlib.Path) -> dict[str, TableFile]:
    """Opens a file of a table by its suffix.

    Returns:
      The tables in it by name: those of the arrays of a `.npz` file, else `""`.

    Raises:
      FileNotFoundError: if there is none.
      ValueError: if it is damaged, or no table.
    """
    if not path.is_file():
        raise FileNotFoundError(f"`{path}` must be a file of a table; there is none.")
    suffix = suffix_of(path)
    if suffix == ".npz":
        return {key: npz_table(path, key) for key in npz_arrays(path)}
    return {"": ParquetFile(path) if suffix in PARQUET_SUFFIXES else CsvFile(path)}


def suffix_of(path: pathlib.Path) -> str:
    """Returns the suffix of a file of a table, without that of its compression; or ""."""
    suffixes = [s.lower() for s in path.suffixes[-2:]]
    if suffixes[-1:] == [".gz"] and suffixes[0] in CSV_SUFFIXES:
        return suffixes[0]
    return suffixes[-1] if suffixes and suffixes[-1] in SUFFIXES else ""


class CsvFile(TableFile):
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
        self._delimiter = match[1] if match else _find_delimiter(sample)
        found = _rows(sample, self._delimiter)
        if not found:
            raise ValueError(f"`{path}` must have rows of numbers. Received: an empty file.")
        width = len(found[0])
        if width == 1 and any(len(row[0].split()) > 1 for row in found[:2]):
            raise ValueError(
                f"`{path}` must have commas, semicolons, tabs or bars between its columns. "
                f"Received: the line {found[0][0]!r:.100}."
            )
        self._has_header = _has_header(found)
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
            for row in [next((r for r in body if _is_text(r, column)), None)]
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
        width, number = len(self.names), 0
        with self._text() as file:
            for _ in range(self._skipped):
                file.readline()
            reader = csv.reader(file, delimiter=self._delimiter, skipinitialspace=True)
            is_header = self._has_header
            try:
                for cells in reader:
                    if not cells:
                        continue
                    if is_header:
                        is_header = False
                        continue
                    number += 1
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
        """See `TableFile.parts`."""
        self._refuse_texts([self.names[column] for column in columns])
        before, records, at_once = 0, self._records(), rows_at_once(len(self.names))
        while True:
            lines, cells = [], []
            for line, record in records:
                lines.append(line)
                cells.append(record)
                if len(cells) == at_once:
                    break
            if not cells:
                return
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
            found = [[_BOOLEANS.get(c.strip().lower(), c) for c in record] for record in found]
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
        text = cell.strip()
        if text.lower() in _MISSING:
            self.refuse(name, row, f"{cell!r}, a missing value", _FILL)
        if _WITH_COMMA.fullmatch(text):
            self.refuse(
                name, row, f"{cell!r}", "Write numbers with a decimal point, and no commas."
            )
        try:
            float(text)
        except ValueError:
            self.refuse(name, row, f"{cell!r:.100}", _ENCODE)

    def _refuse_texts(self, names):
        """Refuses columns that are text from the start, all in one."""
        found = {name: self._texts[name] for name in names if name in self._texts}
        if not found:
            return
        if any(_WITH_COMMA.fullmatch(cell.strip()) for cell in found.values()):
            name, cell = next((n, c) for n, c in found.items() if _WITH_COMMA.fullmatch(c.strip()))
            raise ValueError(
                f"`{self.path}`, column `{name}`: must have numbers with a decimal point, and no "
                f"commas. Received: {cell!r}."
            )
        self.refuse_columns(names, {name: repr(cell) for name, cell in found.items()}, "text")

    def line_of(self, row: int) -> str:
        """See `TableFile.line_of`."""
        return f" (line {self._lines[row]})" if row in self._lines else ""


_COMMA = (
    " A comma inside of a number or a text? Put it in quotes, or write semicolons between cells."
)


def _decode(cell: str, path: pathlib.Path) -> str:
    """Returns a name, which is in Latin-1 if it is no UTF-8."""
    try:
        cell.encode()
    except UnicodeEncodeError:
        cell = cell.encode("utf-8", "surrogateescape").decode("latin-1")
        say(f"`{path}` is no UTF-8, and read as Latin-1: there is a column {cell.strip()!r}.")
    return cell


def _rows(sample: str, delimiter: str) -> list[list[str]]:
    """Returns the first rows of a text that are not empty."""
    reader = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter, skipinitialspace=True)
    found: list[list[str]] = []
    try:
        for row in reader:
            if row:
                found.append(row)
            if len(found) == _SAMPLE_ROWS:
                break
    except csv.Error:
        pass  # Said where the whole file is read.
    return found


def _find_delimiter(sample: str) -> str:
    """Returns the delimiter by which most cells are numbers, in rows of equal lengths."""

    def score(delimiter):
        rows = _rows(sample, delimiter)
        width = len(rows[0]) if rows else 1
        if width == 1:
            return 0, 0.0, 1
        alike = sum(len(row) == width for row in rows) / len(rows)
        cells = [cell for row in rows[1:] or rows for cell in row]
        numbers = sum(
            _is_number(cell) or bool(_WITH_COMMA.fullmatch(cell.strip())) for cell in cells
        )
        return alike > 0.9, numbers / max(len(cells), 1), width

    return max(_DELIMITERS, key=score)


def _is_number(cell: str) -> bool:
    """Whether a cell is a number, or true or false, which are 1 and 0."""
    text = cell.strip()
    return bool(_NUMBER.fullmatch(text)) or text.lower() in _BOOLEANS


def _is_missing(cell: str) -> bool:
    return cell.strip().lower() in _MISSING


def _is_text(row: Sequence[str], column: int) -> bool:
    """Whether a cell is neither a number nor missing; a row that is too short is for later."""
    if column >= len(row):
        return False
    return not (_is_number(row[column]) or _is_missing(row[column]))


def _has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Returns whether the first row has names: texts above numbers, or nothing but texts."""
    first, others = rows[0], rows[1:]
    if not any(_is_text(first, column) for column in range(len(first))):
        # Numbers, unless cells without a text are names that are missing, above numbers.
        return all(_is_missing(cell) for cell in first) and bool(others)
    if not others:
        return all(_is_text(first, column) for column in range(len(first)))
    numeric = [
        column
        for column in range(len(first))
        if not any(_is_text(row, column) for row in others)
        and any(column < len(row) and _is_number(row[column]) for row in others)
    ]
    if not numeric:
        return True
    return any(_is_text(first, column) for column in numeric) or not any(
        _is_number(first[column]) for column in numeric
    )


class ParquetFile(TableFile):
    """A Parquet file, of which one part after the other is in memory.

    Args:
      path: the file.

    Raises:
      ValueError: if it is damaged, or pyarrow is not installed.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = str(path)
        parquet = import_parquet(self.path)
        try:
            self._file = parquet.ParquetFile(path)
        except Exception as error:  # Of pyarrow, whose classes are no ValueErrors in all versions.
            text = str(error).partition("\n")[0]
            raise ValueError(f"`{path}` must be a whole Parquet file: {text}") from error
        self._keys = list(self._file.schema_arrow.names)
        self._name(self._keys)
        self.usual = [name for name in self.names if not name.startswith("__index_level_")]

    def parts(self, columns: Sequence[int], label: int | None = None) -> Iterator[Part]:
        """See `TableFile.parts`."""
        import pyarrow as pa

        keys = [self._keys[column] for column in columns]
        wanted = list(dict.fromkeys(keys + ([] if label is None else [self._keys[label]])))
        fields = {key: self._file.schema_arrow.field(key).type for key in keys}
        others = {
            self.names[column]: str(fields[key])
            for column, key in zip(columns, keys, strict=True)
            if not _is_numeric(pa, fields[key])
        }
        if others:
            self.refuse_columns([self.names[c] for c in columns], others, "other types")
        is_integer = np.array(
            [pa.types.is_integer(fields[k]) or pa.types.is_boolean(fields[k]) for k in keys]
        )
        before = 0
        for batch in self._file.iter_batches(rows_at_once(len(keys)), columns=wanted):
            rows = np.empty([len(batch), len(keys)])
            for number, key in enumerate(keys):
                column = batch.column(batch.schema.get_field_index(key))
                if column.null_count:
                    row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
                    self.refuse(key, before + row + 1, "a missing value (null)", _FILL)
                rows[:, number] = column.cast(pa.float64(), safe=False).to_numpy()
            self.check_finite(rows, keys, before)
            labels = None
            if label is not None:
                column = batch.column(batch.schema.get_field_index(self._keys[label]))
                labels = [str(value) for value in column.to_pylist()]
            yield Part(rows, is_integer, labels)
            before += len(batch)


def import_parquet(path: str) -> Any:
    """Returns `pyarrow.parquet`, or says how to get it."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError(
            f"`{path}`: Parquet needs pyarrow, which is not installed: `pip install pyarrow`."
        ) from error
    return pyarrow.parquet


def _is_numeric(pa, kind):
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
    return any(test(kind) for test in tests)


class ArrayTable(TableFile):
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
        """See `TableFile.parts`."""
        names = [self.names[column] for column in columns]
        whole = self._array.dtype.kind in "iub"
        at_once = rows_at_once(len(self.names))
        for before in range(0, len(self._array), at_once):
            part = self._array[before : before + at_once]
            rows = part[:, list(columns)].astype(np.float64)
            self.check_finite(rows, names, before)
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
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
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
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        return f"a damaged file: {error}"


def npz_table(path: pathlib.Path, key: str) -> ArrayTable:
    """Returns the table of an array of a `.npz` file; an array `columns` has the names."""
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
    return ArrayTable(f"{path}, key {key}", array, names)


def write(path: pathlib.Path, columns: Mapping[str, Any]) -> None:
    """Writes columns as CSV, Parquet or `.npz`, as the name says, whole or not at all.

    Args:
      path: the file; its folder is made.
      columns: arrays or lists `[N]` by name. In a `.npz` file each is an array.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_name(f".{path.name}.whole")
    if path.suffix == ".parquet":
        import_parquet(str(path))
        import pyarrow as pa

        pa.parquet.write_table(pa.table(columns), work)
    elif path.suffix == ".npz":
        with open(work, "wb") as file:
            np.savez(file, **{name: np.asarray(column) for name, column in columns.items()})
    else:
        cells = [
            [f"{v:.9g}" for v in c] if getattr(c, "dtype", None) == np.float32 else c
            for c in columns.values()
        ]
        with open(work, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(zip(*cells, strict=True))
    with open(work, "rb") as file:
        os.fsync(file.fileno())
    work.replace(path)


def columns_of(
    rows: np.ndarray, names: Sequence[str], are_integers: Sequence[bool]
) -> dict[str, np.ndarray]:
    """Returns the columns of rows `[N, D]` by name, integers as such if 64 bits hold them."""
    return {
        name: np.round(column).astype(np.int64) if whole and np.all(abs(column) < 2**63) else column
        for name, column, whole in zip(names, np.transpose(rows), are_integers, strict=True)
    }
