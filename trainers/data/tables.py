"""Tables: rows of numbers in files, their splits, and what their columns are.

The name of a table is a path, a pattern of paths, a folder of files, or `sklearn:wine`; options
follow it as in an address, so that the name alone says what the data are:

    rows.csv?columns=age,income&condition=sex&split_column=part

`name_with` adds them. Splits are, in this order: what a column says (`split_column`); what the
names of several files, or of the arrays of one, say; or parts of the rows by a hash of their
numbers and a seed, 80, 10 and 10 in 100 (`split`, `seed`). The split `all` has all rows.

Rows are held in memory as `float32`; beyond `batching.HELD_BYTES` in a temporary file, from which
batches are read in any order. Files themselves are read in parts.
"""

import collections
import csv
import dataclasses
import functools
import glob
import io
import os
import pathlib
import re
import tempfile
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from trainers.data import batching, image_files, split_names, table_files
from trainers.data.image_paths import say
from trainers.data.table_files import ArrayTable
from zoo import columns as table_columns
from zoo.registry import TABLES, Model
from zoo.storage import files

BUNDLED = {"wine": "target", "breast_cancer": "target", "diabetes": "target", "iris": "target"}
_PREFIX = "sklearn:"
_OPTIONS = ("columns", "condition", "split_column", "split", "seed")
_QUERY = re.compile(rf"\?(?=(?:{'|'.join(_OPTIONS)})=)")
FRACTIONS = (0.8, 0.1, 0.1)
_COARSE = 1e-3  # Of a standard deviation: what float32 may round off.
_LISTED = 10  # Columns in a message.
_FINE = 1 / 128  # Of an integer: what of its noise may be, whatever the deviation.


@dataclasses.dataclass(frozen=True)
class Spec:
    """What a name says.

    Attributes:
      path: path, pattern, or name of a bundled table.
      columns: names or numbers of the columns, patterns of names such as `*_share`, or `-name` for
        all but some; `None` for all.
      condition: columns that the others are conditioned by.
      split_column: a column that says of which split a row is, or `None`.
      split: fractions of rows for train, validation and test, or `None` for the usual ones.
      seed: of the order from which these are taken.
    """

    path: str
    columns: tuple[str, ...] | None = None
    condition: tuple[str, ...] = ()
    split_column: str | None = None
    split: tuple[float, ...] | None = None
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Table:
    """A table in memory, or in a temporary file.

    Attributes:
      rows: `float32`, `[N, D]`: the columns, then those of the condition.
      names: of the columns.
      num_conditions: how many of them, the last, are of the condition.
      is_integer: which columns are of an integer type.
      rounded: the most that `float32` rounded off, by column.
      spread: from the least to the largest number, before that, by column.
      splits: numbers of the rows of each split.
      said: how the splits came about, in words.
    """

    rows: np.ndarray
    names: tuple[str, ...]
    num_conditions: int
    is_integer: np.ndarray
    rounded: np.ndarray
    spread: np.ndarray
    splits: dict[str, np.ndarray]
    said: str


def parse(name: str) -> Spec:
    """Returns what a name says.

    Raises:
      ValueError: if an option is unknown or has no such value.
    """
    path, rest = path_of(name), _QUERY.split(name, maxsplit=1)[1:]
    if not rest:
        return Spec(path)
    pairs = urllib.parse.parse_qsl(rest[0], keep_blank_values=True, strict_parsing=True)
    found: dict[str, Any] = dict(pairs)
    if set(found) - set(_OPTIONS) or len(found) < len(pairs):
        raise ValueError(
            f"The options of a table must be among {', '.join(_OPTIONS)}, each once. "
            f"Received: {name!r}."
        )
    for key in ("columns", "condition"):
        if key in found:
            found[key] = tuple(next(csv.reader([found[key]], skipinitialspace=True), ()))
    if "split" in found:
        found["split"] = _fractions(found["split"])
    if "seed" in found:
        if not re.fullmatch(r"\d+", found["seed"]):
            raise ValueError(f"The seed of a split must be 0 or more. Received: {name!r}.")
        found["seed"] = int(found["seed"])
    return Spec(path, **found)


def _fractions(text):
    try:
        values = tuple(map(float, text.split(",")))
    except ValueError:
        values = ()
    if len(values) != 3 or min(values) < 0 or not values[0] > 0 or abs(sum(values) - 1) > 1e-6:
        raise ValueError(
            "The split of a table must be three fractions for train, validation and test whose "
            f"sum is 1, such as 0.8,0.1,0.1. Received: {text!r}."
        )
    return values


def name_with(name: str, **options: Any) -> str:
    """Returns a name with options in the place of those that it has; `None` takes one away.

    Args:
      name: the name of a table.
      **options: attributes of `Spec`, lists as lists.
    """
    spec = dataclasses.asdict(parse(name))
    path = spec.pop("path")
    given = {key: value for key, value in {**spec, **options}.items() if value not in (None, ())}
    if not given.get("seed"):
        given.pop("seed", None)
    texts = {}
    for key in _OPTIONS:
        if key in given:
            value = given[key]
            texts[key] = _listed(value) if isinstance(value, (list, tuple)) else str(value)
    query = urllib.parse.urlencode(texts, quote_via=urllib.parse.quote, safe=",")
    return f"{path}?{query}" if texts else path


def _listed(values):
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue()


def is_table(name: str) -> bool:
    """Returns whether a name is that of a table, and not of images or points."""
    path = path_of(name)
    if path.startswith(_PREFIX):
        return True
    local = files.local(path)
    if local.is_dir():
        return bool(_files_of_folder(local))
    suffix = table_files.suffix_of(local)
    if suffix == ".npz" and not _is_pattern(path):
        return local.is_file() and bool(table_files.npz_arrays(local))
    return bool(suffix)


def path_of(name: str) -> str:
    """Returns a name without its options."""
    return _QUERY.split(name, maxsplit=1)[0].removeprefix("folder:")


def _is_pattern(path):
    return bool(glob.has_magic(path)) and not os.path.exists(files.expand_home(path))


@functools.lru_cache(64)
def _files_of_folder(folder):
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
        return tuple(p for p in found if table_files.npz_arrays(p))
    return tuple(found)


def name_with_columns_of(name: str, entry: Model) -> str:
    """Returns the name of a table, of which the columns of a model are taken, by name.

    Args:
      name: the name of a table.
      entry: an entry of the zoo, with the columns that it was built from.

    Raises:
      ValueError: if the name is not that of a table.
    """
    check_is_table(name)
    found = {
        option: table_columns.names(entry.arguments[argument])
        for option, argument in (("columns", "columns"), ("condition", "condition_columns"))
    }
    return name_with(name, **{key: value or None for key, value in found.items()})


def shown(name: str) -> str:
    """Returns a name for messages: of a table, without the list of its columns, which is long."""
    return name_with(name, columns=None, condition=None) if _QUERY.search(name) else name


def check_is_table(name: str) -> None:
    """Refuses the name of what is no table."""
    if not is_table(name):
        local = files.local(path_of(name))
        if local.is_file() and local.suffix.lower() == ".npz":
            raise ValueError(
                f"`{local}` must have an array [N, D] of numbers, or such arrays train, validation "
                f"and test. Received: {table_files.describe_npz(local)}."
            )
        if local.is_file() and local.suffix.lower() == ".npy":
            whole = str(local.with_suffix(".npz"))
            raise ValueError(
                f"`{local}` must be a .npz file: `np.savez({whole!r}, np.load({str(local)!r}))`."
            )
        raise ValueError(
            "`--dataset` must be a table: a .csv, .tsv, .parquet or .npz file, a folder or pattern "
            f"of these, or {', '.join(_PREFIX + n for n in BUNDLED)}. Received: --dataset={name}."
        )


def open_table(name: str) -> Table:
    """Returns a table by its name; one that was read already is not read again.

    Raises:
      FileNotFoundError: if there is none.
      ValueError: if it is damaged, a column is missing, or what is in one is no number.
    """
    spec = parse(name)
    if spec.path.startswith(_PREFIX):
        return _read(spec, ())
    paths = _paths(spec.path)
    stamps = tuple((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in paths)
    return _read(spec, stamps)


def _paths(path):
    local = files.local(path)
    if local.is_dir():
        return list(_files_of_folder(local))
    if not _is_pattern(path):
        if not local.is_file():
            raise FileNotFoundError(f"`{local}` must be a file of a table; there is none.")
        return [local]
    found = sorted(map(pathlib.Path, glob.glob(files.expand_home(path), recursive=True)))
    found = [p for p in found if p.is_file()]
    if not found:
        raise FileNotFoundError(f"There must be files of this pattern; there are none: {path!r}.")
    return found


@functools.lru_cache(2)
def _read(spec: Spec, stamps: tuple) -> Table:
    tables = _bundled(spec) if not stamps else _opened(spec, [pathlib.Path(s[0]) for s in stamps])
    first = next(iter(tables.values()))
    wanted = _wanted(spec, first)
    names = [first.names[first.find(name)] for name in (*wanted, *spec.condition)]
    _check_different(names, spec)
    store, counts, labels = _Store(len(names)), {}, []
    whole, rounded = np.ones(len(names), bool), np.zeros(len(names))
    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    for key, table in tables.items():
        columns = [table.find(name) for name in names]
        label = None if spec.split_column is None else table.find(spec.split_column)
        counts[key] = 0
        for part in table.parts(columns, label):
            with np.errstate(over="ignore"):
                rows = part.rows.astype(np.float32)
            table.check_finite(rows, names, counts[key])
            rounded = np.maximum(rounded, abs(rows - part.rows).max(axis=0))
            low, high = np.minimum(low, part.rows.min(0)), np.maximum(high, part.rows.max(0))
            whole &= part.is_integer
            store.append(rows)
            labels += part.labels or []
            counts[key] += len(rows)
    total = sum(counts.values())
    if not total:
        raise ValueError(f"`{spec.path}` must have rows. Received: none.")
    splits, said = _split(spec, counts, labels, total)
    splits = {split: rows for split, rows in splits.items() if len(rows)}
    rows = store.finish(spec.path)
    count = len(spec.condition)
    return Table(rows, tuple(names), count, whole, rounded, high - low, splits, said)


def _opened(spec, paths):
    """Returns the tables in files by a tuple of names, from that of the folder on."""
    root = files.local(spec.path)
    found = {}
    for path in paths:
        inside = table_files.open_file(path)
        if len(inside) > 1 and not split_names.tell([tuple(key.split("/")) for key in inside]):
            raise ValueError(
                f"`{path}` must have one array [N, D], or arrays train, validation and test. "
                f"Received: {', '.join(f'`{key}`' for key in inside)}."
            )
        for key, table in inside.items():
            inner = path.relative_to(root) if root.is_dir() else pathlib.Path(path.name)
            stem = inner.name[: -len("".join(inner.suffixes))] or inner.name
            parts = (*inner.parent.parts, *((stem,) if len(paths) > 1 else ()))
            found[(*parts, *key.split("/")) if key else parts] = table
    return found


def _bundled(spec):
    name = spec.path.removeprefix(_PREFIX)
    if name not in BUNDLED:
        raise ValueError(
            f"A table of scikit-learn must be one of {', '.join(_PREFIX + n for n in BUNDLED)}. "
            f"Received: {spec.path!r}."
        )
    from sklearn import datasets  # Slow to import.

    data = getattr(datasets, f"load_{name}")()
    array = np.column_stack([data.data, data.target])
    table = ArrayTable(spec.path, array, [*data.feature_names, BUNDLED[name]])
    table.usual = table.names[:-1]
    return {(): table}


def _wanted(spec, table):
    """Returns the names of the columns to read."""
    left = {
        table.names[table.find(n)] for n in (*spec.condition, spec.split_column) if n is not None
    }
    usual = [name for name in table.usual if name not in left]
    found, asked = list(usual), spec.columns or ()
    if asked and (asked[0] in table.names or not asked[0].startswith("-")):
        found = []
    for name in asked:
        if name in table.names or not (name.startswith("-") or "*" in name):
            found.append(table.names[table.find(name)])
        elif name.startswith("-"):
            gone = _matching(name[1:], table.names) or [table.names[table.find(name[1:])]]
            found = [other for other in found if other not in gone]
        else:
            found += [other for other in _matching(name, usual) if other not in found]
    if not found:
        raise ValueError(f"`{table.path}` must have columns. Received: none but {sorted(left)}.")
    return found


def _matching(pattern, names):
    """Returns the names that are a pattern, in which `*` is any text."""
    if pattern in names:
        return [pattern]
    expression = re.compile(".*".join(map(re.escape, pattern.split("*"))))
    return [name for name in names if expression.fullmatch(name)]


def _check_different(names, spec):
    twice = next((name for name, count in collections.Counter(names).items() if count > 1), None)
    if twice is not None or (spec.split_column is not None and spec.split_column in names):
        raise ValueError(
            "A column must be used once, as one of the columns, of the condition, or for splits. "
            f"Received: {twice or spec.split_column!r} twice."
        )


def _split(spec, counts, labels, total):
    """Returns the rows of each split, and how they were found."""
    if spec.split_column is not None:
        return _split_by_column(spec, labels), f"by the column `{spec.split_column}`"
    keys = list(counts)
    if len(keys) > 1 and split_names.tell(keys):
        return _split_by_name(spec, counts)
    rows = np.arange(total)
    return _divide(rows, spec.split or FRACTIONS, spec.seed), _said(spec.split, spec.seed)


def _said(fractions, seed):
    fractions = ", ".join(f"{100 * f:g}" for f in fractions or FRACTIONS)
    return f"{fractions} in 100 rows for train, validation and test, by seed {seed}"


def _split_by_column(spec, labels):
    told = {label: split_names.of(label) for label in dict.fromkeys(labels)}
    unknown = [label for label, split in told.items() if not split]
    if unknown:
        raise ValueError(
            f"`{spec.path}`, column `{spec.split_column}`: must have train, validation and test. "
            f"Received: {unknown[0]!r}, in row {labels.index(unknown[0]) + 1}."
        )
    found = np.array([told[label] for label in labels])
    splits = {name: np.flatnonzero(found == name) for name in split_names.NAMES}
    if not len(splits["train"]):
        raise ValueError(
            f"`{spec.path}`, column `{spec.split_column}`: must have rows of train. Received: none."
        )
    return splits


def _split_by_name(spec, counts):
    """Splits of files or arrays; without any for validation, a tenth of those for training."""
    keys = list(counts)
    remedy = "Name the files `train`, `validation` and `test`"
    told = split_names.divide(keys, spec.path, remedy)
    starts = np.cumsum([0, *counts.values()])
    rows: dict[str, list] = {}
    for split, start, count in zip(told, starts, counts.values(), strict=False):
        if split:
            rows.setdefault(split, []).append(np.arange(start, start + count))
    left = ["/".join(key) for key, split in zip(keys, told, strict=True) if not split]
    if left:
        say(f"`{spec.path}`: left out {', '.join(left[:5])}.")
    splits = {split: np.concatenate(parts) for split, parts in rows.items()}
    said = "by the names of files"
    if "validation" not in splits and "train" in splits:
        parts = _divide(splits["train"], (0.9, 0.1, 0.0), spec.seed)
        splits |= {split: parts[split] for split in ("train", "validation")}
        said += f", and a tenth of train for validation, by seed {spec.seed}"
    return splits, said


def _divide(rows: np.ndarray, fractions: Sequence[float], seed: int) -> dict[str, np.ndarray]:
    """Cuts rows into splits: in the order of a hash of their numbers and a seed."""
    order = np.argsort(_hash(rows, seed), kind="stable")
    counts = [round(len(rows) * fraction) for fraction in fractions[1:]]
    first = len(rows) - sum(counts)
    cuts = np.split(order, [first, first + counts[0]])
    return {split: rows[np.sort(part)] for split, part in zip(split_names.NAMES, cuts, strict=True)}


def _hash(numbers: np.ndarray, seed: int) -> np.ndarray:
    """Returns random numbers for numbers: SplitMix64, the same on every machine."""
    with np.errstate(over="ignore"):
        z = numbers.astype(np.uint64) + np.uint64(1)
        for salt in (np.uint64(seed % 2**64), np.uint64(0x9E3779B97F4A7C15)):
            z = (z + salt) * np.uint64(0x9E3779B97F4A7C15)
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            z ^= z >> np.uint64(31)
    return z


class _Store:
    """Rows in memory, from `batching.HELD_BYTES` on in a temporary file without a name."""

    def __init__(self, width: int) -> None:
        self._width, self._parts, self._file = width, [], None
        self._count = 0

    def append(self, rows: np.ndarray) -> None:
        """Adds rows."""
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
        """Returns all rows."""
        if self._file is None:
            return np.concatenate(self._parts) if self._parts else np.empty([0, self._width])
        self._file.flush()
        say(
            f"`{path}` is larger than {batching.HELD_BYTES / 2**30:g} GiB: its numbers are kept in "
            f"a temporary file in {tempfile.gettempdir()} (TMPDIR)."
        )
        return np.memmap(self._file, np.float32, "r", shape=(self._count, self._width))


def open_source(table: Table, numbers: np.ndarray) -> batching.Source:
    """Returns rows of a table, by their numbers, for batches: pairs, if there is a condition."""
    if isinstance(table.rows, np.memmap):
        source = batching.hold_on_disk(table.rows, numbers, TABLES)
    else:
        source = batching.hold(table.rows[numbers], None, TABLES)
    if not table.num_conditions:
        return source
    count = len(table.names) - table.num_conditions

    def batches(order: batching.Order) -> tf.data.Dataset:
        return source.batches(order).map(lambda rows: (rows[:, :count], rows[:, count:]))

    return dataclasses.replace(source, batches=batches, event_shape=(count,))


def parts(table: Table, numbers: np.ndarray) -> Iterator[np.ndarray]:
    """Yields rows of a table by their numbers, as many at a time as are read of a file."""
    at_once = table_files.rows_at_once(len(table.names))
    for first in range(0, len(numbers), at_once):
        yield np.asarray(table.rows[numbers[first : first + at_once]], np.float64)


@dataclasses.dataclass(frozen=True)
class Summary:
    """What the numbers of each column are like, `[D]`.

    Attributes:
      least: the least.
      mean: their mean.
      largest: the largest.
      deviation: their standard deviation.
      skewness: the mean of their third powers, of mean 0 and variance 1.
    """

    least: np.ndarray
    mean: np.ndarray
    largest: np.ndarray
    deviation: np.ndarray
    skewness: np.ndarray


def summarize(table: Table, numbers: np.ndarray) -> Summary:
    """Returns what rows of a table are like."""
    shift = None
    for rows in parts(table, numbers):
        if shift is None:  # For the digits of the variance.
            shift, sums = rows.mean(axis=0), np.zeros([3, rows.shape[1]])
            least, largest = rows.min(axis=0), rows.max(axis=0)
        least = np.minimum(least, rows.min(axis=0))
        largest = np.maximum(largest, rows.max(axis=0))
        sums += [((rows - shift) ** power).sum(axis=0) for power in (1, 2, 3)]
    first, second, third = sums / len(numbers)
    deviation = np.sqrt(np.maximum(second - first**2, 0))
    centred = third - 3 * first * second + 2 * first**3
    skewness = centred / np.where(deviation > 0, deviation, 1) ** 3
    return Summary(least, shift + first, largest, deviation, skewness)


def make_columns(
    table: Table, split: np.ndarray, kinds: Mapping[str, "ColumnKind"], path: str
) -> tuple[list[dict], list[dict]]:
    """Returns the columns of a table, and those of its condition, as arguments of a builder.

    A column is real, or integer if all of its numbers are of an integer type; other kinds are said.

    Args:
      table: the table.
      split: numbers of the rows that the statistics are of.
      kinds: what was said, by the name of the column or a pattern of names.
      path: of the table, for errors.

    Raises:
      ValueError: if a column is constant, too fine for `float32`, or not of the kind that was said.
    """
    said = _kinds_by_column(table, kinds)
    count = len(table.names) - table.num_conditions
    for name in table.names[count:]:
        if name in said and name in kinds:
            raise ValueError(
                "`--column_kind` must be of columns that are modelled, not of those that they are "
                f"conditioned by. Received: --column_kind={name}={said[name].kind}."
            )
    specs = []
    for number, name in enumerate(table.names):
        usual = "integer" if table.is_integer[number] and number < count else "real"
        kind = said.get(name, ColumnKind(usual)) if number < count else ColumnKind("real")
        spec = {"name": name, "kind": kind.kind, "loc": 0.0, "scale": 1.0}
        spec |= {k: v for k, v in (("low", kind.low), ("high", kind.high)) if v is not None}
        specs.append(spec | ({"group": kind.group} if kind.group else {}))
    table_columns.check(specs)
    _check_spread(table, split, specs, path)
    columns = specs[:count]
    check_support(columns, table, np.arange(len(table.rows)), path)
    columns = table_columns.fit(columns, (rows[:, :count] for rows in parts(table, split)))
    conditions = specs[count:]
    if conditions:
        conditions = table_columns.fit(conditions, (r[:, count:] for r in parts(table, split)))
    return columns, conditions


@dataclasses.dataclass(frozen=True)
class ColumnKind:
    """What was said of a column.

    Attributes:
      kind: one of `zoo.columns.KINDS`.
      low: lower bound, or `None`.
      high: upper bound, of a simplex the sum, or `None`.
      group: which columns are a simplex.
    """

    kind: str
    low: float | None = None
    high: float | None = None
    group: int = 0


def parse_kinds(texts: Sequence[str]) -> dict[str, ColumnKind]:
    """Returns what `name=kind` or `name=kind:low:high` say of columns.

    `positive` is from 0 on, or from `low`; `integer` may have bounds, `interval` must; `simplex`
    may have the sum of its columns, 1 by default, and the number of a group.

    Raises:
      ValueError: if a text is not of this form.
    """
    found = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        kind, *numbers = value.split(":")
        try:
            bounds = [float(number) if number else None for number in numbers]
        except ValueError:
            bounds = [None] * 3
        most = {"real": 0, "positive": 1, "integer": 2, "interval": 2, "simplex": 2}.get(kind, -1)
        missing = kind == "interval" and (len(bounds) < 2 or None in bounds)
        if not name or len(bounds) > most or missing:
            raise ValueError(
                "`--column_kind` must be NAME=KIND with KIND one of real, integer, "
                "integer:LOW:HIGH, positive, positive:LOW, interval:LOW:HIGH, simplex, "
                f"simplex:SUM, simplex:SUM:GROUP. Received: --column_kind={text}."
            )
        bounds += [None] * (2 - len(bounds))
        if kind == "simplex":
            found[name] = ColumnKind(kind, None, bounds[0] or 1.0, int(bounds[1] or 0))
        elif kind == "positive":
            found[name] = ColumnKind(kind, bounds[0] or 0.0)
        else:
            found[name] = ColumnKind(kind, *bounds)
    return found


def _kinds_by_column(table, kinds):
    """Returns what was said of each column; names go before patterns."""
    found: dict[str, ColumnKind] = {}
    for pattern, kind in kinds.items():
        names = _matching(pattern, table.names)
        if not names:
            raise ValueError(
                f"`--column_kind` must name a column. Received: {pattern!r}; there are "
                f"{', '.join(table.names[:20])}."
            )
        for name in names:
            if name == pattern or name not in found:
                found[name] = kind
    return found


def _check_spread(table, split, specs, path):
    """Refuses columns that are constant, or of which `float32` rounds off too much."""
    found = summarize(table, split)
    largest = np.maximum(abs(found.least), abs(found.largest)).astype(np.float32)
    # Noise that is added to integers is rounded off, too.
    noise = np.where([spec["kind"] == "integer" for spec in specs], np.spacing(largest) / 2, 0)
    rounded = np.maximum(table.rounded, np.where(noise > _FINE, noise, 0))
    for name, error, deviation, spread in zip(
        table.names, rounded, found.deviation, table.spread, strict=True
    ):
        if spread and error > _COARSE * (deviation or spread):
            raise ValueError(
                f"`{path}`, column `{name}`: must have numbers that float32 can tell apart. "
                f"Received: numbers of which it rounds off {error:.2g}, with a standard "
                f"deviation of {deviation:.2g}. Subtract a constant."
            )
    if len(split) == 1:
        raise ValueError(f"`{path}` must have 2 rows or more to train on. Received: 1.")
    constant = np.flatnonzero(found.least == found.largest)
    if len(constant):
        names = ", ".join(f"`{table.names[number]}`" for number in constant[:_LISTED])
        more = f" and {len(constant) - _LISTED} others" if len(constant) > _LISTED else ""
        value = found.least[constant[0]]
        raise ValueError(
            f"`{path}`: columns must vary. Received: {names}{more}, of which "
            f"{'it' if len(constant) == 1 else 'the first'} is {value:g}"
            f"{' in float32' if abs(value) >= 2**24 else ''} in all {len(split)} rows to train on. "
            "Leave constant columns out (--columns)."
        )


def check_support(columns: table_columns.Columns, table: Table, numbers: Any, path: str) -> None:
    """Refuses rows that are not within the bounds of the columns, or no integers where they must.

    Args:
      columns: the columns.
      table: a table with these columns first.
      numbers: numbers of the rows to look at.
      path: of the table, for errors.

    Raises:
      ValueError: names the first such column and row.
    """
    first = 0
    for rows in parts(table, numbers):
        _check_support(columns, rows, numbers[first : first + len(rows)], path)
        first += len(rows)


def _check_support(columns, rows, numbers, path):
    specs = table_columns.as_list(columns)
    for number, spec in enumerate(specs):
        if spec["kind"] == "real":
            continue
        values = rows[:, number].astype(np.float32)
        name, (low, high) = spec["name"], table_columns.support(spec)
        if spec["kind"] == "integer":
            _refuse(values != np.floor(values), values, numbers, path, name, "must be an integer")
            # Bounds are those of the values.
            high = high - 1
            bad, what = (values < low) | (values > high), f"from {low:g} to {high:g}"
        else:
            bad = (values <= low) | (values >= high)
            what = f"between {low:g} and {high:g}" if np.isfinite(high) else f"above {low:g}"
            if spec["kind"] == "simplex":
                bad, what = values <= 0, "positive, as a part of a whole"
        _refuse(bad, values, numbers, path, name, f"must be {what}")
    for simplex in table_columns.simplexes(specs):
        total = specs[simplex[0]]["high"]
        sums = rows[:, simplex].sum(axis=1)
        names = " + ".join(specs[number]["name"] for number in simplex)
        _refuse(abs(sums - total) > 1e-3 * total, sums, numbers, path, names, f"must be {total:g}")


def _refuse(bad, values, numbers, path, name, what):
    if np.any(bad):
        first = int(np.argmax(bad))
        raise ValueError(
            f"`{path}`, column `{name}`, row {numbers[first] + 1}: {what}, as its kind says. "
            f"Received: {values[first]:g}."
        )


def describe_columns(columns: Sequence[Mapping], found: Summary, most: int = 40) -> Iterator[str]:
    """Yields the lines of a table about columns: kind, least, mean, largest; and a hint.

    Args:
      columns: the columns, the first of the table.
      found: what the rows are like.
      most: number of columns to describe.
    """
    width = max(6, *(min(len(c["name"]), 30) for c in columns[:most]))
    yield f"  {'column':{width}}  kind              least      mean   largest"
    for number, column in enumerate(columns[:most]):
        low, high = column.get("low"), column.get("high")
        kind = column["kind"] + "".join(
            f":{b:g}" for b in (low, high) if b is not None and column["kind"] != "positive"
        )
        hint = ""
        if column["kind"] == "real" and found.least[number] > 0 and found.skewness[number] > 2:
            hint = "   above 0 and skewed: positive?"
        values = (found.least, found.mean, found.largest)
        numbers = "".join(f"{value[number]:10.4g}" for value in values)
        yield f"  {column['name'][:30]:{width}}  {kind:14}{numbers}{hint}"
    if len(columns) > most:
        yield f"  and {len(columns) - most} others"
