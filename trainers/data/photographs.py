"""Pictures of any size as 8-bit images of one size: cropped, resized, in grey or colour.

What is held of a picture is that which every crop of it is cut from: the picture, resized so that
it covers an image. So a crop in the centre has the same pixels whether others are random or not.
"""

import concurrent.futures
import dataclasses
import io
import itertools
import math
import os
import re
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
import tensorflow as tf
from PIL import Image

from trainers.data import batching, image_files
from trainers.data.batching import Order, Source
from trainers.data.image_folders import list_causes
from trainers.data.image_paths import readable, say

CROPS = ("center", "random", "none")
FILTERS = ("area", "lanczos")
_LARGEST = 4096  # Height or width of an image.
_MOST_ELONGATED = 64  # Times as long as an image of the same width.
_AT_ONCE = 1000
_KEPT = 4  # Splits that stay decoded: a run opens its data several times.
_Size = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Preparation:
    """What is made of pictures: images of one size.

    Attributes:
        height: of the images.
        width: of the images.
        channels: 1 for grey, 3 for colour.
        crop: "center" or "random", the largest part with the proportions of an image; random where
            the order of the data is, else in the centre. Or "none": all of a picture, stretched if
            its proportions are others.
        resize: "area", the mean of what a pixel covers, or "lanczos", sharper. Both antialias.
    """

    height: int
    width: int
    channels: int
    crop: str = "center"
    resize: str = "area"

    def __post_init__(self) -> None:
        """Refuses what no file may ask for."""
        sides = (self.height, self.width)
        if not all(isinstance(side, int) and 0 < side <= _LARGEST for side in sides):
            raise ValueError(
                f"`image_size` must be one or two integers from 1 to {_LARGEST}. "
                f"Received: image_size={sides}."
            )
        for name, known in (("crop", CROPS), ("resize", FILTERS), ("channels", (1, 3))):
            if (value := getattr(self, name)) not in known:
                raise ValueError(
                    f"`{name}` must be one of {', '.join(map(str, known))}. "
                    f"Received: {name}={value!r}."
                )

    def to_json(self) -> dict:
        """Returns what a preset says of it; the channels are the model's."""
        size = [self.height, self.width]
        return {"image_size": size, "crop": self.crop, "resize": self.resize}

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of an image."""
        return self.height, self.width, self.channels

    def cover(self, size: _Size) -> _Size:
        """Returns height and width that a picture is resized to, before it is cropped."""
        height, width = size
        if self.crop == "none":
            return self.height, self.width
        if self.height * width >= self.width * height:
            return self.height, _rounded(self.height * width, height)
        return _rounded(self.width * height, width), self.width

    def check(self, size: _Size) -> _Size:
        """Returns the size of a picture that is not far too long for the proportions."""
        height, width = self.cover(size)
        if height * width > _MOST_ELONGATED * self.height * self.width:
            raise image_files.Unreadable(f"over {_MOST_ELONGATED} times too long for such a crop")
        return size

    def apply(self, picture: Image.Image) -> np.ndarray:
        """Returns the image, or with random crops what they are cut from, as `[h, w, channels]`.

        Raises:
            image_files.Unreadable: if the picture is far too long for the proportions.
        """
        self.check((picture.height, picture.width))
        height, width = self.cover((picture.height, picture.width))
        pixels = _resized(picture, (height, width), self.resize).reshape(height, width, -1)
        if self.crop == "random":
            return pixels
        top, left = (height - self.height) // 2, (width - self.width) // 2
        return pixels[top : top + self.height, left : left + self.width]

    def describe(self) -> str:
        """Returns what is made of pictures, in words."""
        shape = "squares" if self.height == self.width else f"{self.height}:{self.width}"
        how = {"center": "cropped to ", "random": "cropped at random to "}.get(self.crop)
        cut = f"{how}{shape}" if how else "in whole"
        colour = "grey" if self.channels == 1 else "colour"
        return f"{cut}, resized to {self.height}x{self.width} by {self.resize}, in {colour}"

    def describe_all(self, count: int, sizes: Sequence[_Size] = ()) -> str:
        """Returns what is made of how many pictures, in words.

        Args:
            count: number of pictures.
            sizes: their heights and widths; none if they are not known.
        """
        least, most = (f(sizes, key=math.prod, default=None) for f in (min, max))
        ends = [f"{size[0]}x{size[1]}" for size in dict.fromkeys((least, most)) if size]
        of = f" of {' to '.join(ends)} (height x width)" if ends else ""
        enlarged = sum(self._enlarges(size) for size in sizes)
        more = f", {enlarged} of them enlarged" if enlarged else ""
        return f"{count} picture{'s' * (count != 1)}{of}: {self.describe()}{more}"

    def _enlarges(self, size):
        return any(new > old for new, old in zip(self.cover(size), size, strict=True))


def _rounded(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)


def _resized(picture: Image.Image, size: _Size, how: str) -> np.ndarray:
    """The pixels of a picture of another size."""
    if size == (picture.height, picture.width):
        return np.asarray(picture)
    if how == "lanczos":
        return np.asarray(picture.resize(size[::-1], Image.Resampling.LANCZOS))
    # Pillow's box filter takes a pixel of the picture whole or not at all.
    pixels = np.asarray(picture).reshape(1, picture.height, picture.width, -1)
    with tf.device("CPU:0"):
        means = tf.image.resize(pixels, size, tf.image.ResizeMethod.AREA)[0]
        return tf.cast(tf.round(means), tf.uint8).numpy()


def parse_size(text: str) -> tuple[int, int]:
    """Returns height and width of "64" or "64x96".

    Raises:
        ValueError: if the text is neither.
    """
    match = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text)
    height, width = (int(side or match[1]) for side in match.groups()) if match else (0, 0)
    if not 0 < min(height, width) <= max(height, width) <= _LARGEST:
        raise ValueError(
            "`--image_size` must be a number of pixels, or height x width, as in 64 or 64x96, up "
            f"to {_LARGEST}. Received: --image_size={text}."
        )
    return height, width


def from_json(
    content: Mapping[str, Any], image_shape: Sequence[int], changes: Mapping[str, Any]
) -> Preparation:
    """Returns what `Preparation.to_json` wrote, which may come from strangers, with changes.

    Args:
        content: a dictionary with some of the entries.
        image_shape: of the model, whose size is the default.
        changes: entries that take the place of what was read.

    Raises:
        ValueError: if an entry is none that there can be.
    """
    height, width, channels = image_shape
    usual = {"image_size": (height, width), "crop": "center", "resize": "area"}
    if not isinstance(content, Mapping) or not set(content) <= set(usual):
        raise ValueError(
            f"The preparation of pictures must have the entries {', '.join(usual)}. "
            f"Received: {str(content)[:200]}."
        )
    entries = usual | dict(content) | dict(changes)
    size = entries.pop("image_size")
    if not isinstance(size, (list, tuple)) or len(size) != 2:
        raise ValueError(f"`image_size` must be height and width. Received: {str(size)[:200]}.")
    height, width = size
    return Preparation(height, width, channels, **entries)


# Sources.


def open_files(root: str, paths: Sequence[str], preparation: Preparation) -> Source:
    """Opens pictures named by their paths below `root`; what can't be read is left out."""
    states = [os.stat(path) if os.path.exists(path) else None for path in paths]
    versions = tuple(state and (state.st_mtime_ns, state.st_size) for state in states)
    names = tuple(readable(os.path.relpath(path, root)) for path in paths)

    def open_them():
        sizes, faults = _heads(paths, names, preparation)
        if batching.is_held(_pixels(sizes.values(), preparation), (preparation.channels,)):
            return _hold(readable(root), paths, names, preparation)
        _leave_out(readable(root), faults, len(paths))
        left = [(path, name) for path, name in zip(paths, names, strict=True) if name in sizes]
        records = tf.data.Dataset.from_tensor_slices([os.fsencode(path) for path, _ in left])
        source = _stream(records, os.fsdecode, len(left), preparation)
        made = preparation.describe_all(len(left), [*sizes.values()])
        kept = _which(names, sizes)
        names_left = tuple(name for _, name in left)
        return dataclasses.replace(source, names=names_left, made=made, kept=kept)

    return _once((root, tuple(paths), versions, preparation), open_them)


def open_records(
    key: Hashable, records: tf.data.Dataset, count: int, name: str, preparation: Preparation
) -> Source:
    """Opens pictures that a data set yields as the contents of their files.

    Args:
        key: tells these records from all others.
        records: yields them.
        count: their number.
        name: of the data, for messages.
        preparation: what is made of them.
    """

    def open_them():
        pixels = count * preparation.height * preparation.width
        if preparation.crop == "random":  # Cut from what is larger; how much is not known.
            pixels *= 2
        if not batching.is_held(pixels, (preparation.channels,)):
            source = _stream(records, io.BytesIO, count, preparation)
            return dataclasses.replace(source, made=preparation.describe_all(count))
        files = map(io.BytesIO, records.as_numpy_iterator())
        return _without_names(_hold(name, files, _numbers(count), preparation))

    return _once((key, preparation), open_them)


def open_arrays(key: Hashable, images: np.ndarray, name: str, preparation: Preparation) -> Source:
    """Makes images of an array of others, `[N, H, W, C]`; `key` and `name` as of `open_records`."""
    if images.shape[-1] not in (1, 3, 4):
        raise ValueError(f"{name} must have 1, 3 or 4 channels. Received: shape={images.shape}.")

    def open_them():
        pictures = (Image.fromarray(i[..., 0] if i.shape[-1] == 1 else i) for i in images)
        return _without_names(_hold(name, pictures, _numbers(len(images)), preparation))

    return _once((key, preparation), open_them)


_kept: dict[Hashable, Source] = {}


def _once(key: Hashable, make: Callable[[], Source]) -> Source:
    """Returns what was made for a key, of the last few."""
    if key not in _kept:
        source = make()
        while len(_kept) >= _KEPT:
            del _kept[next(iter(_kept))]
        _kept[key] = source
    return _kept[key]


def _numbers(count: int) -> list[str]:
    return [f"number {index}" for index in range(count)]


def _without_names(source: Source) -> Source:
    return dataclasses.replace(source, names=None)


def _heads(paths, names, preparation) -> tuple[dict[str, _Size], dict[str, str]]:
    """Sizes by name, from the heads of files; and why others can't be read."""
    sizes, faults = {}, {}
    for path, name in zip(paths, names, strict=True):
        try:
            sizes[name] = preparation.check(image_files.picture_size(path))
        except image_files.Unreadable as error:
            faults[name] = str(error)
    return sizes, faults


def _pixels(sizes: Iterable[_Size], preparation: Preparation) -> int:
    """How many pixels are held of pictures."""
    if preparation.crop != "random":
        return len([*sizes]) * preparation.height * preparation.width
    return sum(math.prod(preparation.cover(size)) for size in sizes)


def _hold(
    where: str,
    pictures: Iterable[str | BinaryIO | Image.Image],
    names: Sequence[str],
    preparation: Preparation,
) -> Source:
    """Reads all pictures, but for what can't be read, into memory."""
    found, sizes, faults, waiting = {}, [], {}, zip(pictures, names, strict=True)

    def read(item):
        picture, name = item
        try:
            make = image_files.read_picture
            if isinstance(picture, Image.Image):
                make = image_files.as_picture
            picture = make(picture, preparation.channels)
            return name, preparation.apply(picture), (picture.height, picture.width)
        except image_files.Unreadable as error:
            faults[name] = str(error)
            return None

    with concurrent.futures.ThreadPoolExecutor() as pool:
        while some := [*itertools.islice(waiting, _AT_ONCE)]:
            for name, pixels, size in filter(None, pool.map(read, some)):
                found[name] = pixels
                sizes.append(size)
    _leave_out(where, faults, len(names))
    images = [*found.values()]
    crops = preparation.crop == "random"
    source = _hold_crops(images, preparation) if crops else batching.hold(np.stack(images))
    made = preparation.describe_all(len(found), sizes)
    kept = _which(names, found)
    return dataclasses.replace(source, names=tuple(found), made=made, kept=kept)


def _which(names: Sequence[str], left: Collection[str]) -> np.ndarray | None:
    """Numbers of those that are left, unless all are."""
    if len(left) == len(names):
        return None
    left = set(left)
    return np.array([number for number, name in enumerate(names) if name in left])


def _leave_out(where: str, faults: Mapping[str, str], count: int) -> None:
    """Says what is left out; an error if it is all."""
    if len(faults) == count:
        raise ValueError(
            f"`{where}` must hold pictures. Received: {count} that can't be read: "
            f"{list_causes(faults)}."
        )
    if faults:
        what = f"left out {len(faults)} of {count} pictures that can't be read"
        say(f"`{where}`: {what}: {list_causes(faults)}.")


def _hold_crops(pictures: list[np.ndarray], preparation: Preparation) -> Source:
    """Pictures in memory, from which crops are cut."""
    areas = [picture.shape[0] * picture.shape[1] for picture in pictures]
    with tf.device("CPU:0"):
        table = tf.constant(np.concatenate([p.reshape(-1, p.shape[-1]) for p in pictures]))
        starts = tf.constant(np.cumsum([0, *areas[:-1]]), tf.int64)
        sizes = tf.constant([picture.shape[:2] for picture in pictures], tf.int64)

    def batches(order: Order) -> tf.data.Dataset:
        def cut(step: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
            size, start = tf.gather(sizes, keys), tf.gather(starts, keys)
            rows = tf.shape(keys)[0] if keys.shape[0] is None else keys.shape[0]
            draws = _draws(order, step)[:rows]
            corner = _corner(size, preparation, order, draws)
            y, x = (corner[:, i, None] + tf.range(n, dtype=tf.int64) for i, n in enumerate(shape))
            pixel = start[:, None] + y * size[:, 1, None]
            return tf.gather(table, (pixel[:, :, None] + x[:, None, :])[order.rows()])

        shape = preparation.shape[:2]
        keys = batching.indices(order, len(pictures)).enumerate(order.first_step(len(pictures)))
        return keys.map(cut, num_parallel_calls=tf.data.AUTOTUNE)

    return Source(batches, len(pictures), preparation.shape)


def _stream(
    records: tf.data.Dataset, opened: Callable, count: int, preparation: Preparation
) -> Source:
    """Pictures read as they are needed; `opened` makes of a record what Pillow opens."""

    def read(record: bytes) -> np.ndarray:
        file = opened(record)
        try:
            return preparation.apply(image_files.read_picture(file, preparation.channels))
        except image_files.Unreadable as error:
            name = f"`{readable(file)}`" if isinstance(file, str) else "A picture"
            raise ValueError(f"{name} can't be read: {error}. Remove it.") from None

    def decode(record: tf.Tensor) -> tf.Tensor:
        pixels = tf.numpy_function(read, [record], tf.uint8, stateful=False)
        if preparation.crop == "random":
            return tf.ensure_shape(pixels, [None, None, preparation.channels])
        return tf.ensure_shape(pixels, preparation.shape)

    def cut(pixels: tf.Tensor, order: Order, step: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
        size = tf.shape(pixels, tf.int64)[None, :2]
        corner = _corner(size, preparation, order, _draws(order, step)[row, None])[0]
        image = pixels[corner[0] :, corner[1] :][: preparation.height, : preparation.width]
        return tf.ensure_shape(image, preparation.shape)

    crop = cut if preparation.crop == "random" else None
    return batching.stream(records, decode, count, preparation.shape, crop)


def _draws(order: Order, step: tf.Tensor) -> tf.Tensor:
    """A number from 0 to 1 for each row of a batch, which only seed and step decide on."""
    if order.seed is None:
        return tf.zeros([order.batch_size])
    # Apart from those by which images are mirrored.
    seed = tf.random.experimental.stateless_fold_in([order.seed, step], 1, alg="philox")
    return tf.random.stateless_uniform([order.batch_size], seed, alg="philox")


def _corner(size: tf.Tensor, preparation: Preparation, order: Order, draws: tf.Tensor) -> tf.Tensor:
    """Where crops of pictures of a size `[N, 2]` begin; in their centre if the order is fixed."""
    free = size - tf.constant(preparation.shape[:2], tf.int64)
    if order.seed is None:
        return free // 2
    draws = tf.cast(draws[:, None] * tf.cast(free + 1, tf.float32), tf.int64)
    return tf.minimum(draws, free)
