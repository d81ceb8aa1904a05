"""Images for the trainers: integer batches whose order is a function of seed and step alone.

`load` reads one split of the bundled digits, of a prepared TensorFlow Datasets image set, of a
folder of pictures or of a `.npz` file. It never downloads: data that is not on disk is an error
that says how to get it.

A split of up to `HELD_BYTES` is decoded once and held in memory. A run that starts at step k then
continues as an unbroken run would, at no cost: the order of epoch e is a stateless permutation with
the seed (seed, e). A larger split is streamed, and a start at step k has to read, though not to
decode, what the epoch has before it: some 10,000 small images a second from TFDS, any number of
files in a folder.
"""

import dataclasses
import difflib
import pathlib
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image, UnidentifiedImageError

HELD_BYTES = 2 << 30
_SHUFFLE_BYTES = 1 << 30  # Decoded size of the images that wait, encoded, in a shuffle buffer.
_DECODE_BATCH = 500
_IMAGE_SUFFIXES = (".jpeg", ".jpg", ".png")
_SPLITS = ("train", "validation", "test")
_DIGITS_SIZES = (1197, 200, 400)


@dataclasses.dataclass(frozen=True)
class ImageData:
    """One split of a set of images.

    Attributes:
        dataset: yields `uint8` images `[batch, height, width, channels]`. The batch size is static
            unless the last batch is smaller.
        num_examples: images in the split, whatever part of it `dataset` yields.
        image_shape: `(height, width, channels)`.
        num_levels: the values are `0 .. num_levels - 1`: 256 levels for 8 bits, 17 for the digits.
    """

    dataset: tf.data.Dataset
    num_examples: int
    image_shape: tuple[int, int, int]
    num_levels: int


@dataclasses.dataclass(frozen=True)
class _Order:
    """Which batches, in which order: from image number `skipped` of epoch `first` on."""

    batch_size: int
    seed: int | None
    repeat: bool
    drop_remainder: bool
    first: int
    skipped: int

    def epochs(self) -> tf.data.Dataset:
        counter = tf.data.Dataset.counter(self.first)
        return counter if self.repeat else counter.take(1 - min(self.first, 1))

    def steps(self, num_examples: int) -> int:
        if self.repeat:
            return tf.data.INFINITE_CARDINALITY
        left = max(num_examples - self.first * num_examples - self.skipped, 0)
        return left // self.batch_size if self.drop_remainder else -(-left // self.batch_size)


@dataclasses.dataclass(frozen=True)
class _Source:
    """A split of images, and what puts them into batches."""

    batches: Callable[[_Order], tf.data.Dataset]
    num_examples: int
    image_shape: tuple[int, int, int]
    num_levels: int = 256


def load(
    name: str,
    split: str,
    *,
    batch_size: int,
    data_dir: str | None = None,
    shuffle_seed: int | None = None,
    repeat: bool = False,
    drop_remainder: bool = False,
    flip: bool = False,
    num_bits: int | None = None,
    start_step: int = 0,
) -> ImageData:
    """Opens one split of a set of images.

    The sources, by `name`:

    - `digits`: the 1797 8x8 digits of scikit-learn with their 17 levels, divided once and for all
      into train (1197), validation (200) and test (400) with every digit in proportion.
    - an image set of TFDS, prepared on this machine: `cifar10`, `imagenet_resized/32x32`.
    - `folder:/path`, or the path alone: PNG and JPEG files of one size, 8-bit grey or RGB, in the
      order of their paths. Sub-folders train, validation and test are the splits; without them
      everything is `train`.
    - the path of a `.npz` file: integer arrays `[N, H, W, C]` or `[N, H, W]`. The arrays train,
      validation and test are the splits; without them `images`, or the only array of such rank, is
      `train`.

    The batches depend on the arguments and the data alone. With `repeat`, epochs follow each other
    without a gap: all batches are full, and the images from `e * num_examples` on, `num_examples`
    of them, are the split in a new order. Batch k of a run is batch 0 with `start_step=k`.

    Args:
        name: the source.
        split: a split, or a part or a sum of splits as TFDS writes it: `train[:90%]`.
        batch_size: images in a batch, over all replicas.
        data_dir: where TFDS keeps its prepared sets; `None` is its own default.
        shuffle_seed: permutes each epoch anew; `None` keeps the stored order. A streamed TFDS set
            is shuffled within a moving window of 1 GiB of images.
        repeat: go on for ever instead of one pass.
        drop_remainder: drop the last batch of a pass if it is not full.
        flip: mirror each image left to right with probability 1/2. Needs `shuffle_seed`.
        num_bits: keep only this many of the highest bits of 8-bit images.
        start_step: the first batch.

    Returns:
        An `ImageData`.

    Raises:
        FileNotFoundError: the data is not there.
        ValueError: an argument or the data is not as described above.

    Example:
        >>> test = load("digits", "test", batch_size=150)
        >>> test.num_examples, test.image_shape, test.num_levels
        (400, (8, 8, 1), 17)
        >>> [batch.shape[0] for batch in test.dataset]
        [150, 150, 100]
    """
    _check_arguments(batch_size, start_step, flip, shuffle_seed)
    source = _open(name, split, data_dir)
    if drop_remainder and not repeat:
        _check_size(split, source.num_examples, batch_size)
    num_levels, shift = _reduced_levels(source.num_levels, num_bits)

    def finish(step: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
        images = _flipped(images, shuffle_seed, step) if flip else images
        return tf.bitwise.right_shift(images, shift) if shift else images

    drop_remainder = drop_remainder or repeat or source.num_examples % batch_size == 0
    start = divmod(start_step * batch_size, source.num_examples)
    order = _Order(batch_size, shuffle_seed, repeat, drop_remainder, *start)
    dataset = source.batches(order).enumerate(start_step)
    steps = order.steps(source.num_examples)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(steps))
    dataset = dataset.map(finish, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    dataset = dataset.with_options(_options())
    return ImageData(dataset, source.num_examples, source.image_shape, num_levels)


def _check_arguments(batch_size: int, start_step: int, flip: bool, seed: int | None) -> None:
    if batch_size < 1 or start_step < 0:
        raise ValueError(
            "`batch_size` must be positive and `start_step` must not be negative. "
            f"Received: batch_size={batch_size}, start_step={start_step}."
        )
    if flip and seed is None:
        raise ValueError("`flip` must have a seed to draw from. Received: shuffle_seed=None.")


def _check_size(split: str, size: int, least: int = 1) -> None:
    if size < least:
        raise ValueError(f"`{split}` must hold {least} images or more. Received: {size}.")


def _reduced_levels(num_levels: int, num_bits: int | None) -> tuple[int, int]:
    """The levels that are left, and the bits by which to shift."""
    if num_bits is None:
        return num_levels, 0
    if num_levels != 256 or not 1 <= num_bits <= 8:
        raise ValueError(
            "`num_bits` must be 1 to 8, and the images must have 256 levels. "
            f"Received: num_bits={num_bits}, num_levels={num_levels}."
        )
    return 2**num_bits, 8 - num_bits


# Batches.


def _flipped(images: tf.Tensor, seed: int, step: tf.Tensor) -> tf.Tensor:
    heads = tf.random.stateless_uniform([tf.shape(images)[0]], [seed, step], alg="philox") < 0.5
    # The old `where` takes whole images; the new one broadcasts, at five times the cost.
    return tf.compat.v1.where(heads, tf.reverse(images, [2]), images)


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    # By batch: there are no files to shard for images in memory.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return options


def _held(images: np.ndarray, num_levels: int = 256) -> _Source:
    """Images in memory: whole orders of indices, cut into batches."""
    with tf.device("CPU:0"):
        table = tf.constant(images)

    def batches(order: _Order) -> tf.data.Dataset:
        def indices(epoch: tf.Tensor) -> tf.Tensor:
            numbers = tf.range(len(images))
            if order.seed is not None:
                # Not `index_shuffle`, though it needs no table: its four rounds leave the orders
                # of successive epochs visibly correlated at 50,000 images.
                seeds = [order.seed, epoch]
                numbers = tf.random.experimental.stateless_shuffle(numbers, seeds, alg="philox")
            return numbers[tf.where(epoch == order.first, order.skipped, 0) :]

        keys = order.epochs().map(indices).rebatch(order.batch_size, order.drop_remainder)
        return keys.map(lambda k: tf.gather(table, k), num_parallel_calls=tf.data.AUTOTUNE)

    return _Source(batches, len(images), tuple(images.shape[1:]), num_levels)


def _streamed(records: tf.data.Dataset, decode: Callable, size: int, shape: tuple) -> _Source:
    """Images decoded as they are needed, from records or paths."""
    window = max(1, min(size, _SHUFFLE_BYTES // int(np.prod(shape))))

    def batches(order: _Order) -> tf.data.Dataset:
        def shuffled(epoch: tf.Tensor) -> tf.data.Dataset:
            if order.seed is None:
                return records
            # `shuffle` mixes in the global seed, here that of the graph this function is traced
            # into. Setting it makes the order independent of `tf.random.set_seed`.
            tf.compat.v1.set_random_seed(1)
            seeds = [order.seed, epoch]
            seed = tf.random.stateless_uniform([], seeds, None, None, tf.int64, alg="philox")
            return records.shuffle(window, seed, reshuffle_each_iteration=False)

        keys = order.epochs().flat_map(shuffled).skip(order.skipped)
        images = keys.map(decode, num_parallel_calls=tf.data.AUTOTUNE)
        return images.batch(order.batch_size, drop_remainder=order.drop_remainder)

    return _Source(batches, size, shape)


def _held_or_streamed(
    records: tf.data.Dataset, decode: Callable, size: int, shape: tuple, what: Callable[[int], str]
) -> _Source:
    if size * int(np.prod(shape)) > HELD_BYTES:
        return _streamed(records, decode, size, shape)
    images, filled = np.empty((size, *shape), np.uint8), 0
    batches = records.map(decode, num_parallel_calls=tf.data.AUTOTUNE).batch(_DECODE_BATCH)
    try:
        for batch in batches.as_numpy_iterator():
            images[filled : filled + len(batch)] = batch
            filled += len(batch)
    except tf.errors.InvalidArgumentError:
        _decode_one_by_one(records.skip(filled), decode, shape, lambda i: what(filled + i))
        raise
    if filled != size:
        raise ValueError(f"There must be {size} images. Received: {filled}, up to {what(filled)}.")
    return _held(images)


def _decode_one_by_one(
    records: tf.data.Dataset, decode: Callable, shape: tuple, what: Callable[[int], str]
) -> None:
    """Finds the image to blame."""
    for i, record in enumerate(records):
        try:
            decode(record)
        except (tf.errors.InvalidArgumentError, ValueError) as error:
            raise ValueError(
                f"{what(i)} must be an image of shape {shape}. Received: {error}"
            ) from error


# Sources.


def _open(name: str, split: str, data_dir: str | None) -> _Source:
    path = pathlib.Path(name.removeprefix("folder:")).expanduser()
    if name == "digits":
        return _held(_select(split, _digits()), num_levels=17)
    if path.suffix == ".npz":
        return _held(_select(split, _npz_arrays(path)))
    if not name.startswith("folder:") and (builder := _tfds_builder(name, data_dir)):
        return _open_tfds(name, builder, split)
    if path.is_dir():
        return _open_folder(path, split)
    raise _unknown(name)


def _unknown(name: str) -> Exception:
    if name.startswith(("folder:", "/", ".", "~")):
        return FileNotFoundError(f"There must be a folder of images. Received: name={name!r}.")
    known = ["digits", *tfds.list_builders(with_community_datasets=False)]
    near = " or ".join(difflib.get_close_matches(name, known, n=3))
    return ValueError(
        "`name` must be digits, an image set of TFDS, a folder or a .npz file. "
        f"Received: name={name!r}." + (f" Did you mean {near}?" if near else "")
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
    _check_size(split, sum(map(len, chosen)))
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


def _open_folder(root: pathlib.Path, split: str) -> _Source:
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
    return _held_or_streamed(records, decode, len(paths), shape, lambda i: f"`{paths[i]}`")


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


def _open_tfds(name: str, builder: tfds.core.DatasetBuilder, split: str) -> _Source:
    key = _image_key(name, builder.info.features)
    if not builder.is_prepared():
        raise FileNotFoundError(_how_to_prepare(name, builder))
    size = builder.info.splits[split].num_examples
    _check_size(split, size)
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

    return _held_or_streamed(records, decode, size, shape, lambda i: f"`{name}`, image {i},")


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
