"""Where the data of the trainers come from: bundled digits, TFDS, folders, files, the plane."""

import dataclasses
import difflib
import functools
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from trainers.data import (
    image_files,
    image_folders,
    image_paths,
    labels,
    node_sets,
    npz,
    photographs,
    planar,
    split_names,
)
from trainers.data.batching import Source, hold, hold_or_stream, pair
from trainers.data.labels import Labels, NoLabelsError
from trainers.data.photographs import Preparation
from trainers.data.tables import table_names, table_paths
from trainers.data.tables.table import Table, open_rows, open_table
from zoo.registry import IMAGES, POINTS, SETS, Kind
from zoo.storage import files

_DIGITS_SIZES = (1197, 200, 400)
_DRAWN_SIZES = (100_000, 10_000, 50_000)
_LABELS_AT_ONCE = 10_000
_NODE_SETS_SIZES = (1_000_000, 10_000, 50_000)  # A run of 5000 steps of 256 takes 1.28 million.


def check_size(split: str, size: int, least: int = 1) -> None:
    """Refuses a split that is too small."""
    if size < least:
        raise ValueError(f"`{split}` must hold {least} images or more. Received: {size}.")


class _Found(NamedTuple):
    """What a name stands for.

    Attributes:
        splits: the splits, by name.
        open: opens a split, or a part or sum of splits.
        labels: returns the labels of one, given the condition that asks for them.
    """

    splits: Mapping
    open: Callable[[str], Source]
    labels: Callable[[str, str], Labels]


def open_source(
    name: str,
    split: str,
    data_dir: str | None,
    preparation: Preparation | None = None,
    condition: str | None = None,
    classes: Sequence[str] | None = None,
) -> Source:
    """Opens a split by the name of its source; see `data.load`."""
    found = _find(name, data_dir, preparation)
    if condition is None:
        return found.open(split)
    of_events = found.labels(split, condition)  # An error before images are read.
    if classes is not None:
        of_events = of_events.among(classes, f"`{name}`, {split},")
    source = found.open(split)
    if source.kept is not None:
        of_events = of_events[source.kept]
    known = {"classes": of_events.classes, "labels": of_events.numbers}
    return dataclasses.replace(pair(source, of_events.numbers), **known)


def labels_of(name: str, split: str, data_dir: str | None, condition: str) -> Labels:
    """Returns the labels of a split, of all of its images; see `data.load`."""
    return _find(name, data_dir).labels(split, condition)


def count_examples(name: str, split: str, data_dir: str | None) -> int:
    """Returns how many events a split has, before any is read: some may then be left out."""
    found = _find(name, data_dir)
    if not isinstance(found.splits, tfds.core.splits.SplitDict):
        return len(_select(split, found.splits))
    is_known = bool(found.splits)  # Of a set that is prepared.
    return found.splits[split].num_examples if is_known else found.open(split).num_examples


def names_of_splits(name: str, data_dir: str | None) -> tuple[str, ...]:
    """Returns the names of the splits of a source."""
    return tuple(_find(name, data_dir).splits)


def is_shuffled(name: str, data_dir: str | None) -> bool:
    """Whether any part of a split is like the whole: TFDS stores its sets in random order."""
    return isinstance(_find(name, data_dir).splits, tfds.core.splits.SplitDict)


def _find(name: str, data_dir: str | None, preparation: Preparation | None = None) -> _Found:
    """The splits of a source, and what opens one of them or a part."""
    path, is_table = files.local(table_names.path_of(name)), table_paths.is_table(name)
    if preparation and name in ("digits", *planar.NAMES, *node_sets.NAMES):
        raise ValueError(
            "`image_size` (--image_size) is for pictures of 8 bits: a folder, an image set of TFDS "
            f"or a .npz file. Received: {name}."
        )
    if name == "digits":
        images, digits = _digits()
        return _in_memory(images, 17, read_labels=lambda split: digits[split])
    for drawn, sizes, kind in (
        (planar, _DRAWN_SIZES, POINTS),
        (node_sets, _NODE_SETS_SIZES, SETS),
    ):
        if name in drawn.NAMES:
            return _in_memory(_drawn(drawn.sample, name, sizes), None, kind, name=name)
    if is_table and not path.is_dir():
        return _table(name)
    if path.suffix.lower() == ".npz" and not path.is_dir():
        read_labels, images = functools.partial(npz.read_labels, path), npz.read(path)
        found = _in_memory(images, read_labels=read_labels)
        return found._replace(open=_prepared(path, images, preparation)) if preparation else found
    if not name.startswith("folder:") and (builder := _tfds_builder(name, data_dir)):
        return _Found(
            builder.info.splits,
            lambda split: _open_tfds(name, builder, split, preparation),
            functools.partial(_labels_of_tfds, name, data_dir),
        )
    if is_table and name not in ("", "folder:"):
        return _table(name)
    if path.is_dir() and name not in ("", "folder:"):
        found = image_paths.find(str(path))
        return _Found(
            found,
            lambda split: _open_folder(str(path), _select(split, found), preparation),
            functools.partial(_labels_of_folders, str(path), found),
        )
    raise _unknown(name, path)


def _open_folder(root: str, paths: np.ndarray, preparation: Preparation | None) -> Source:
    if preparation:
        return photographs.open_files(root, paths.tolist(), preparation)
    return image_folders.open_images(root, paths.tolist())


def _prepared(
    path: pathlib.Path, found: Mapping[str, np.ndarray], preparation: Preparation
) -> Callable[[str], Source]:
    """What opens pictures that are arrays."""
    version = path.stat().st_mtime_ns, path.stat().st_size

    def open_split(split: str) -> Source:
        key, images = (str(path), version, split), _select(split, found)
        return photographs.open_arrays(key, images, str(path), preparation)

    return open_split


def _in_memory(
    found: Mapping[str, np.ndarray],
    num_levels: int | None = 256,
    kind: Kind = IMAGES,
    name: str = "",
    read_labels: Callable[[str], np.ndarray] | None = None,
) -> _Found:
    def of_split(split: str, condition: str) -> Labels:
        if read_labels is None:
            raise _without_labels(name, kind.noun)
        _check_condition(condition, [labels.CONDITION])
        values = [read_labels(p.splitname)[p.from_ : p.to] for p in _parts(split, found)]
        return labels.of_values(np.concatenate(values), "The labels")

    return _Found(found, lambda split: hold(_select(split, found), num_levels, kind), of_split)


def _labels_of_folders(
    root: str, found: Mapping[str, np.ndarray], split: str, condition: str
) -> Labels:
    _check_condition(condition, [labels.CONDITION])
    return labels.of_folders(root, found, _select(split, found))


def _without_labels(name: str, noun: str) -> Exception:
    return NoLabelsError(
        "`--condition` needs data with labels: digits, an image set of TFDS that has some, folders "
        "of classes, or a .npz file with an array `labels`. "
        f"Received: --dataset={name}, {noun} without any."
    )


def _check_condition(condition: str, known: Sequence[str]) -> None:
    """Refuses conditions that the data do not have."""
    if condition not in known:
        raise ValueError(
            f"`--condition` must be {' or '.join(known)} for these data. "
            f"Received: --condition={condition}."
        )


def _table(name: str) -> _Found:
    table = open_table(name)

    def no_labels(split: str, condition: str) -> Labels:
        del split
        raise ValueError(
            "`--condition` is for images; rows of a table are conditioned by `--condition_columns`."
            f" Received: --condition={condition}, --dataset={table_names.shown(name)}."
        )

    return _Found(table.splits, lambda split: open_rows(*rows_of(name, split)), no_labels)


def rows_of(name: str, split: str) -> tuple[Table, np.ndarray]:
    """Returns a table, and the numbers of the rows of a split, or a part or sum of splits."""
    table = open_table(name)
    if split == "all":  # In the order of the rows, where TFDS would have one split after the other.
        return table, np.arange(len(table.rows))
    return table, _select(split, table.splits)


def _unknown(name: str, path: pathlib.Path) -> Exception:
    if path.is_file():
        return ValueError(
            f"`{path}` must be a folder of images, a .npz file of them or a table. {_remedy(path)}"
        )
    if name.startswith(("folder:", "/", ".", "~")):
        return FileNotFoundError(f"There must be a folder of images. Received: name={name!r}.")
    drawn = [*planar.NAMES, *node_sets.NAMES]
    known = ["digits", *drawn, *tfds.list_builders(with_community_datasets=False)]
    near = " or ".join(difflib.get_close_matches(name, known, n=3))
    return ValueError(
        "`name` must be digits, a planar set, a set of nodes, an image set of TFDS, a folder, a "
        f".npz file or a table. Received: name={name!r}."
        + (f" Did you mean {near}?" if near else "")
    )


def _remedy(path: pathlib.Path) -> str:
    """What to do with a file that is no data set."""
    suffix = path.suffix.lower()
    if suffix in image_files.suffixes():
        return "It is one image: name the folder it is in."
    if suffix == ".npy":
        file = str(path.with_suffix(".npz"))
        return f"Write one: `np.savez({file!r}, train=np.load({str(path)!r}))`."
    if suffix in (".xls", ".xlsx", ".ods", ".json", ".jsonl", ".feather", ".arrow", ".h5", ".dat"):
        return "Save a table as .csv or .parquet."
    if suffix in (".txt", ".data"):
        return "Rename it, if it is a table with commas, semicolons or tabs between columns: .csv."
    if suffix in (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"):
        return "Unpack it and name the folder."
    return (
        "Write the images as arrays of 8-bit integers, `np.savez('images.npz', train=images)` with "
        "images [N, H, W, C]. Other data are for `tfflows.FlowModel.fit`."
    )


def _parts(split: str, splits: Mapping[str, np.ndarray]) -> list:
    """What TFDS would select, from splits in memory, as `splitname`, `from_` and `to`."""
    infos = {
        key: tfds.core.SplitInfo(
            name=key, shard_lengths=[len(images)], num_bytes=0, filename_template=None
        )
        for key, images in splits.items()
    }
    return _resolve(split, infos)


def _resolve(split: str, infos: Mapping[str, tfds.core.SplitInfo]) -> list:
    """What TFDS selects, or an error that lists the splits that there are."""
    try:
        return tfds.core.ReadInstruction.from_spec(split).to_absolute(infos)
    except (NotImplementedError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1].partition(" Should be one of")[0]
        known = ", ".join(infos)
        raise ValueError(
            f"`split` (--split) must be one that the data have, {known} or all, or a part or sum "
            f"of these, as in {next(iter(infos))}[:9]. Received: split={split!r}: {reason}"
        ) from None


def _select(split: str, splits: Mapping[str, np.ndarray]) -> np.ndarray:
    """What TFDS would select, from splits in memory."""
    chosen = [splits[part.splitname][part.from_ : part.to] for part in _parts(split, splits)]
    check_size(split, sum(map(len, chosen)))
    return chosen[0] if len(chosen) == 1 else np.concatenate(chosen)


def _digits() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The splits of the digits, and their labels.

    A split has every k-th image of a random order sorted by digit, so that all have the digits in
    proportion.
    """
    from sklearn import datasets  # Slow to import, and the other sources do without.

    digits, splits, of_splits = datasets.load_digits(), {}, {}
    # `RandomState` and not `Generator`: its stream, and so the split, is the same in every NumPy.
    rest = np.random.RandomState(0).permutation(len(digits.target))
    for split, size in zip(split_names.NAMES, _DIGITS_SIZES, strict=True):
        rest = rest[np.argsort(digits.target[rest], kind="stable")]
        chosen = np.diff(np.arange(len(rest) + 1) * size // len(rest)) == 1
        numbers = np.sort(rest[chosen])
        splits[split] = digits.images[numbers, :, :, np.newaxis].astype(np.uint8)
        of_splits[split] = digits.target[numbers]
        rest = rest[~chosen]
    return splits, of_splits


@functools.lru_cache(1)
def _drawn(sample: Callable, name: str, sizes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """The splits of a set that `sample` draws, each with a seed of its own."""
    splits = enumerate(zip(split_names.NAMES, sizes, strict=True))
    return {split: sample(name, size, seed) for seed, (split, size) in splits}


def _tfds_builder(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder | None:
    """The builder of a TFDS set, or `None` if there is no set of that name."""
    # A namespace, as in `huggingface:mnist`, would be looked up online.
    if not re.fullmatch(r"\w+(/[^:]*)?(:[\d.*]+)?", name):
        return None
    try:
        return tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except tfds.core.DatasetNotFoundError:
        return None


def _open_tfds(
    name: str, builder: tfds.core.DatasetBuilder, split: str, preparation: Preparation | None
) -> Source:
    key = _image_key(name, builder.info.features)
    _check_prepared(name, builder, split)
    size = builder.info.splits[split].num_examples
    check_size(split, size)
    feature = builder.info.features[key]
    records = builder.as_dataset(
        split=split,
        # One file after the other: the stored order. No cache: what is held is read once.
        read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
        decoders=tfds.decode.PartialDecoding(
            {key: True}, decoders={key: tfds.decode.SkipDecoding()}
        ),
    ).map(lambda example: example[key])
    if preparation:
        version = str(builder.data_dir), split
        return photographs.open_records(version, records, size, name, preparation)
    shape = feature.shape
    if None in shape:
        shape = tuple(feature.decode_example(next(iter(records))).shape)

    def decode(record: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(feature.decode_example(record), shape)

    return hold_or_stream(records, decode, size, shape, lambda i: f"`{name}`, image {i},")


def _labels_of_tfds(name: str, data_dir: str | None, split: str, condition: str) -> Labels:
    """The labels of a set: a feature of that name, or `label` for the only one of classes."""
    builder = tfds.builder(name, data_dir=data_dir, try_gcs=False)
    features = builder.info.features
    known = {
        key: feature
        for key, feature in features.items()
        if isinstance(feature, tfds.features.Tensor)
        and (feature.shape, np.issubdtype(feature.np_dtype, np.integer)) == ((), True)
    }
    if not known:
        raise _without_labels(name, f"images with features {list(features)}")
    classes = [key for key in known if isinstance(known[key], tfds.features.ClassLabel)]
    key = condition
    if condition == labels.CONDITION and condition not in known and len(classes) == 1:
        key = classes[0]
    _check_condition(key, list(known))
    _check_prepared(name, builder, split)
    found = _read_labels(name, data_dir, split, key)
    names = known[key].names if key in classes else None
    return labels.of_values(found, f"`{name}`, {split}, feature `{key}`,", names)


@functools.lru_cache(8)
def _read_labels(name: str, data_dir: str | None, split: str, key: str) -> np.ndarray:
    """The values of a feature, in the stored order."""
    builder = tfds.builder(name, data_dir=data_dir, try_gcs=False)
    records = builder.as_dataset(
        split=split,
        read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
        decoders=tfds.decode.PartialDecoding({key: True}),
    )
    batches = records.map(lambda example: example[key]).batch(_LABELS_AT_ONCE)
    return np.concatenate(list(batches.as_numpy_iterator()))


def _image_key(name: str, features: tfds.features.FeaturesDict) -> str:
    kinds = {key: f for key, f in features.items() if isinstance(f, tfds.features.Image)}
    keys = [key for key, feature in kinds.items() if feature.np_dtype == np.uint8]
    if len(keys) != 1 and "image" not in keys:
        raise ValueError(
            f"`{name}` must have one feature of 8-bit images, or one that is named `image`. "
            f"Received: features={list(features)}."
        )
    return "image" if "image" in keys else keys[0]


def _check_prepared(name: str, builder: tfds.core.DatasetBuilder, split: str) -> None:
    """Refuses a set that is not there, or has no such split."""
    if not builder.is_prepared():
        raise FileNotFoundError(_how_to_prepare(name, builder))
    _resolve(split, builder.info.splits)


def _how_to_prepare(name: str, builder: tfds.core.DatasetBuilder) -> str:
    root = str(builder.data_dir).removesuffix(f"/{builder.info.full_name}")
    # A folder of its own for downloads: MNIST and Fashion-MNIST share file names, and the second
    # would silently be filled with the images of the first.
    command = (
        f"import tensorflow_datasets as tfds; tfds.load({name!r}, data_dir={root!r}, "
        f"download_and_prepare_kwargs=dict(download_dir={f'{root}/downloads/{name}'!r}))"
    )
    return (
        f"`{name}` must be prepared before a run; there is nothing in `{builder.data_dir}`. With a "
        f'network: `python -c "{command}"`. If it is elsewhere, name that folder with `data_dir` '
        "(--data_dir)."
    )
