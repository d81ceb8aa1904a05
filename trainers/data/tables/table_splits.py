"""Which rows of a table are of which split: train, validation, test."""

from collections.abc import Mapping, Sequence

import numpy as np

from trainers.data import split_names
from trainers.data.image_paths import say
from trainers.data.tables.table_names import Spec

FRACTIONS = (0.8, 0.1, 0.1)


def divide(
    spec: Spec, counts: Mapping[split_names.Path, int], labels: Sequence[str]
) -> tuple[dict[str, np.ndarray], str]:
    """Returns the numbers of the rows of each split, and how the splits came about, in words.

    They are, in this order, what a column says, what the names of files or arrays say, or parts of
    the rows by a hash of their numbers and a seed.

    Args:
      spec: what the name of the table says.
      counts: numbers of rows of each of its files or arrays, by their names from the outermost on.
      labels: what the column says that tells the split of each row, if there is one.

    Raises:
      ValueError: if it is not clear what is for training.
    """
    if spec.split_column is not None:
        splits, said = _by_column(spec, labels), f"by the column `{spec.split_column}`"
    elif len(counts) > 1 and split_names.tell(list(counts)):
        splits, said = _by_name(spec, counts)
    else:
        fractions = spec.split or FRACTIONS
        splits = _by_hash(np.arange(sum(counts.values())), fractions, spec.seed)
        parts = ", ".join(f"{100 * fraction:g}" for fraction in fractions)
        said = f"{parts} in 100 rows for train, validation and test, by seed {spec.seed}"
    return {split: rows for split, rows in splits.items() if len(rows)}, said


def _by_column(spec, labels):
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


def _by_name(spec, counts):
    """Splits of files or arrays; without any for validation, a tenth of those for training."""
    keys = list(counts)
    told = split_names.divide(keys, spec.path, "Name the files `train`, `validation` and `test`")
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
        parts = _by_hash(splits["train"], (0.9, 0.1, 0.0), spec.seed)
        splits |= {split: parts[split] for split in ("train", "validation")}
        said += f", and a tenth of train for validation, by seed {spec.seed}"
    return splits, said


def _by_hash(rows: np.ndarray, fractions: Sequence[float], seed: int) -> dict[str, np.ndarray]:
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
