"""Where the data of the trainers come from: bundled digits, TFDS, folders, files, the plane."""

import dataclasses
import difflib
import functools
import pathlib
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image, UnidentifiedImageError

from trainers import node_sets, planar
from trainers.batching import Source, held, held_or_streamed

_IMAGE_SUFFIXES = (".jpeg", ".jpg", ".png")
_SPLITS = ("train", "validation", "test")
_DIGITS_SIZES = (1197, 200, 400)
_DRAWN_SIZES = (100_000, 10_000, 50_000)
_NODE_SETS_SIZES = (1_000_000, 10_000, 50_000)  # A run of 5000 steps of 256 takes 1.28 million.


def check_size(split: str, size: int, least: int = 1) -> None:
    """Refuses a split that is too small."""
    if size < least:
        raise ValueError(f"`{split}` must hold {least} images or more. Received: {size}.")


def open_source(name: str, split: str, data_dir: str | None) -> Source:
    """Opens a split by the name of its source; see `data.load`."""
    path = pathlib.Path(name.removeprefix("folder:")).expanduser()
    if name == "digits":
        return held(_select(split, _digits()), num_levels=17)
    for drawn, sizes in ((planar, _DRAWN_SIZES), (node_sets, _NODE_SETS_SIZES)):
        if name in drawn.NAMES:
            return held(_select(split, _drawn(drawn.sample, name, sizes)), num_levels=None)
    if path.suffix == ".npz":
        return held(_select(split, _npz_arrays(path)))
    if not name.startswith("folder:") and (builder := _tfds_builder(name, data_dir)):
        return _open_tfds(name, builder, split)
    if path.is_dir():
        return _open_folder(path, split)
    raise _unknown(name)


def _unknown(name: str) -> Exception:
    if name.startswith(("folder:", "/", ".", "~")):
        return FileNotFoundError(f"There must be a folder of images. Received: name={name!r}.")
    drawn = [*planar.NAMES, *node_sets.NAMES]
    known = ["digits", *drawn, *tfds.list_builders(with_community_datasets=False)]
    near = " or ".join(difflib.get_close_matches(name, known, n=3))
    return ValueError(
        "`name` must be digits, a planar set, a set of nodes, an image set of TFDS, a folder or a "
        f".npz file. Received: name={name!r}." + (f" Did you mean {near}?" if near else "")
    )


def _select(split: str, splits: Mapping[str, np.ndarray]) -> np.ndarray:
    """What TFDS would select, from splits in memory."""
    infos = {
        key: tfds.core.SplitInfo(
            name=key, shard_lengths=[len(images)], num_bytes=0, filename_template=None
        )
        for key, images in splits.items()
    }
    parts = tfds.core.ReadInstruction.from_spec(split).to_absolute(infos)
    chosen = [splits[part.splitname][part.from_ : part.to] for part in parts]
    check_size(split, sum(map(len, chosen)))
    return chosen[0] if len(chosen) == 1 else np.concatenate(chosen)


def _digits() -> dict[str, np.ndarray]:
    """Every k-th image of a random order sorted by digit, so that splits have all in proportion."""
    from sklearn import datasets  # Slow to import, and the other sources do without.

    digits, splits = datasets.load_digits(), {}
    # `RandomState` and not `Generator`: its stream, and so the split, is the same in every NumPy.
    rest = np.random.RandomState(0).permutation(len(digits.target))
    for split, size in zip(_SPLITS, _DIGITS_SIZES, strict=True):
        rest = rest[np.argsort(digits.target[rest], kind="stable")]
        chosen = np.diff(np.arange(len(rest) + 1) * size // len(rest)) == 1
        splits[split] = digits.images[np.sort(rest[chosen]), :, :, np.newaxis].astype(np.uint8)
        rest = rest[~chosen]
    return splits


@functools.lru_cache(1)
def _drawn(sample: Callable, name: str, sizes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """The splits of a set that `sample` draws, each with a seed of its own."""
    splits = enumerate(zip(_SPLITS, sizes, strict=True))
    return {split: sample(name, size, seed) for seed, (split, size) in splits}


def _open_folder(root: pathlib.Path, split: str) -> Source:
    folders = {s: root / s for s in _SPLITS if (root / s).is_dir()} or {"train": root}
    splits = {s: np.array(_image_paths(folder)) for s, folder in folders.items()}
    paths = _select(split, splits).tolist()
    shape = _common_shape(paths)

    def decode(path: tf.Tensor) -> tf.Tensor:
        file = tf.io.read_file(path)
        image = tf.cond(
            tf.io.is_jpeg(file),
            # Exact, and as Pillow does it: the default is faster and off by up to 6 levels.
            lambda: tf.io.decode_jpeg(file, dct_method="INTEGER_ACCURATE"),
            lambda: tf.io.decode_png(file),
        )
        return tf.ensure_shape(image, shape)

    records = tf.data.Dataset.from_tensor_slices(paths)
    source = held_or_streamed(records, decode, len(paths), shape, lambda i: f"`{paths[i]}`")
    names = tuple(pathlib.Path(path).relative_to(root).as_posix() for path in paths)
    return dataclasses.replace(source, names=names)


def _image_paths(folder: pathlib.Path) -> list[str]:
    paths = [str(p) for p in sorted(folder.rglob("*")) if p.suffix.lower() in _IMAGE_SUFFIXES]
    if not paths:
        raise FileNotFoundError(f"`{folder}` must hold images ({', '.join(_IMAGE_SUFFIXES)}).")
    return paths


def _common_shape(paths: list[str]) -> tuple[int, int, int]:
    """Height, width and channels of all images, from their headers."""
    shape = _header_shape(paths[0])
    for path in paths[1:]:
        if (other := _header_shape(path)) != shape:
            raise ValueError(
                f"Images must have one shape, that of `{paths[0]}`: {shape}. "
                f"Received: `{path}` of shape {other}. Crop or resize them first."
            )
    return shape


def _header_shape(path: str) -> tuple[int, int, int]:
    try:
        with Image.open(path) as image:
            (width, height), mode = image.size, image.mode
    except UnidentifiedImageError as error:
        raise ValueError(f"`{path}` must be a PNG or JPEG image; it is not readable.") from error
    if mode not in ("L", "RGB"):
        raise ValueError(
            f"`{path}` must be 8-bit grey or RGB (mode L or RGB). Received: mode={mode}. "
            "Convert it first."
        )
    return height, width, 1 if mode == "L" else 3


def _npz_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The splits of a `.npz` file, checked."""
    if not path.is_file():
        raise FileNotFoundError(f"`{path}` must be a .npz file; there is none.")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"`{path}` must be a whole .npz file of plain arrays: {error}") from error
    splits = {key: key for key in _SPLITS if key in arrays}
    splits = splits or {"train": "images" if "images" in arrays else _only_images(path, arrays)}
    return {s: _checked(f"`{path}`, key `{key}`,", arrays[key]) for s, key in splits.items()}


def _only_images(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> str:
    keys = [key for key, array in arrays.items() if array.ndim in (3, 4)]
    if len(keys) != 1:
        raise ValueError(
            f"`{path}` must have arrays train, validation or test, or `images`, or only one array "
            f"[N, H, W, C] or [N, H, W]. Received: keys={list(arrays)}."
        )
    return keys[0]


def _checked(what: str, images: np.ndarray) -> np.ndarray:
    """`uint8` images `[N, H, W, C]`, or an error."""
    if not np.issubdtype(images.dtype, np.integer):
        floats = np.issubdtype(images.dtype, np.floating)
        raise ValueError(
            f"{what} must hold integers 0 .. 255. Received: dtype={images.dtype}"
            + (f", {np.isnan(images).sum()} of {images.size} values NaN" if floats else "")
            + ". Store 8-bit values: images in 0 .. 1 as `np.round(255 * x).astype(np.uint8)`."
        )
    if images.ndim not in (3, 4) or not images.size:
        raise ValueError(
            f"{what} must be images [N, H, W, C] or [N, H, W]. Received: shape={images.shape}."
        )
    low, high = images.min(), images.max()
    if low < 0 or high > 255:
        raise ValueError(f"{what} must hold integers 0 .. 255. Received: {low} .. {high}.")
    images = images.astype(np.uint8, copy=False)
    return images if images.ndim == 4 else images[..., np.newaxis]


def _tfds_builder(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder | None:
    """The builder of a TFDS set, or `None` if there is no set of that name."""
    # A namespace, as in `huggingface:mnist`, would be looked up online.
    if not re.fullmatch(r"\w+(/[^:]*)?(:[\d.*]+)?", name):
        return None
    try:
        return tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except tfds.core.DatasetNotFoundError:
        return None


def _open_tfds(name: str, builder: tfds.core.DatasetBuilder, split: str) -> Source:
    key = _image_key(name, builder.info.features)
    if not builder.is_prepared():
        raise FileNotFoundError(_how_to_prepare(name, builder))
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
    shape = feature.shape
    if None in shape:
        shape = tuple(feature.decode_example(next(iter(records))).shape)

    def decode(record: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(feature.decode_example(record), shape)

    return held_or_streamed(records, decode, size, shape, lambda i: f"`{name}`, image {i},")


def _image_key(name: str, features: tfds.features.FeaturesDict) -> str:
    kinds = {key: f for key, f in features.items() if isinstance(f, tfds.features.Image)}
    keys = [key for key, feature in kinds.items() if feature.np_dtype == np.uint8]
    if len(keys) != 1 and "image" not in keys:
        raise ValueError(
            f"`{name}` must have one feature of 8-bit images, or one that is named `image`. "
            f"Received: features={list(features)}."
        )
    return "image" if "image" in keys else keys[0]


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
