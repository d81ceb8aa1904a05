"""How images get into batches: held in memory, or streamed from records."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from zoo.registry import IMAGES, Kind

HELD_BYTES = 2 << 30
_SHUFFLE_BYTES = 1 << 30  # Decoded size of the images that wait, encoded, in a shuffle buffer.
_DECODE_BATCH = 500
_PIXELS_AT_ONCE = 1 << 20  # In one batch of a pass beside the steps, as for a picture of samples.


def most_events(count: int, event_shape: tuple[int, ...]) -> int:
    """Returns `count`, or fewer for large images: what a pass beside the steps has memory for."""
    return max(1, min(count, _PIXELS_AT_ONCE // math.prod(event_shape[:-1])))


@dataclasses.dataclass(frozen=True)
class Order:
    """Which batches, in which order: from image number `skipped` of epoch `first` on.

    Of each batch, only `part[0]` of the `part[1]` equal parts that it is cut into.
    """

    batch_size: int
    seed: int | None
    repeat: bool
    drop_remainder: bool
    first: int
    skipped: int
    part: tuple[int, int] = (0, 1)

    def rows(self) -> slice:
        """The rows of a batch that are in the part; of the last one, too, if it is not full."""
        number, count = self.part
        size = self.batch_size // count
        return slice(number * size, (number + 1) * size)

    def epochs(self) -> tf.data.Dataset:
        """The numbers of the epochs to go through."""
        counter = tf.data.Dataset.counter(self.first)
        return counter if self.repeat else counter.take(1 - min(self.first, 1))

    def first_step(self, num_examples: int) -> int:
        """The number of the first batch, counted from the start of epoch 0."""
        return (self.first * num_examples + self.skipped) // self.batch_size

    def steps(self, num_examples: int) -> int:
        """How many batches follow."""
        if self.repeat:
            return tf.data.INFINITE_CARDINALITY
        left = max(num_examples - self.first * num_examples - self.skipped, 0)
        return left // self.batch_size if self.drop_remainder else -(-left // self.batch_size)


@dataclasses.dataclass(frozen=True)
class Source:
    """A split of events of a kind, and what puts them into batches.

    Attributes:
        batches: yields the batches of an order: of events, or of pairs of these and what they are
            given.
        num_examples: number of events.
        event_shape: shape of an event.
        num_levels: number of values of a pixel; `None` if the events are no integers.
        names: those of the events, if they have any.
        made: what was made of pictures, in words, if anything was.
        kind: what the events are.
        kept: numbers of the events of the split that are left, if some can't be read; else `None`.
        window: within how many events the order is shuffled, if they are streamed; else `None`.
        classes: names of the classes of the events, if these are given their labels.
        labels: the numbers of their classes, `[num_examples]`.
    """

    batches: Callable[[Order], tf.data.Dataset]
    num_examples: int
    event_shape: tuple[int, ...]
    num_levels: int | None = 256
    names: tuple[str, ...] | None = None
    made: str | None = None
    kind: Kind = IMAGES
    kept: np.ndarray | None = None
    window: int | None = None
    classes: tuple[str, ...] | None = None
    labels: np.ndarray | None = None


def indices(order: Order, size: int) -> tf.data.Dataset:
    """Batches of the numbers of events, each in whole: whole orders of them, cut up."""

    def of_epoch(epoch: tf.Tensor) -> tf.Tensor:
        numbers = tf.range(size)
        if order.seed is not None:
            # Not `index_shuffle`, though it needs no table: its four rounds leave the orders
            # of successive epochs visibly correlated at 50,000 images.
            seeds = [order.seed, epoch]
            numbers = tf.random.experimental.stateless_shuffle(numbers, seeds, alg="philox")
        return numbers[tf.where(epoch == order.first, order.skipped, 0) :]

    return order.epochs().map(of_epoch).rebatch(order.batch_size, order.drop_remainder)


def hold(images: np.ndarray, num_levels: int | None = 256, kind: Kind = IMAGES) -> Source:
    """Images or points in memory."""
    with tf.device("CPU:0"):
        table = tf.constant(images)

    def batches(order: Order) -> tf.data.Dataset:
        keys, rows = indices(order, len(images)), order.rows()
        return keys.map(lambda k: tf.gather(table, k[rows]), num_parallel_calls=tf.data.AUTOTUNE)

    return Source(batches, len(images), tuple(images.shape[1:]), num_levels, kind=kind)


def hold_on_disk(rows: np.ndarray, numbers: np.ndarray, kind: Kind) -> Source:
    """Rows in a file that looks like an array, in the orders of those in memory.

    Args:
      rows: a `np.memmap`, `[N, D]`.
      numbers: of the rows of the split.
      kind: what a row is.
    """

    def read(keys):
        return rows[numbers[keys]]

    def gather(keys):
        found = tf.numpy_function(read, [keys], rows.dtype, stateful=False)
        return tf.ensure_shape(found, [*keys.shape, *rows.shape[1:]])

    def batches(order: Order) -> tf.data.Dataset:
        keys, part = indices(order, len(numbers)), order.rows()
        return keys.map(lambda k: gather(k[part]), num_parallel_calls=tf.data.AUTOTUNE)

    return Source(batches, len(numbers), tuple(rows.shape[1:]), None, kind=kind)


def stream(
    records: tf.data.Dataset,
    decode: Callable,
    size: int,
    shape: tuple,
    cut: Callable | None = None,
    window: int | None = None,
) -> Source:
    """Images decoded as they are needed, from records or paths.

    `cut(image, order, step, row)` makes of what is decoded an image of `shape`. They are shuffled
    within a `window`, by default one of 1 GiB.
    """
    window = window or max(1, min(size, _SHUFFLE_BYTES // int(np.prod(shape))))

    def batches(order: Order) -> tf.data.Dataset:
        def shuffled(epoch: tf.Tensor) -> tf.data.Dataset:
            if order.seed is None:
                return records
            # `shuffle` mixes in the global seed, here that of the graph this function is traced
            # into. Setting it makes the order independent of `tf.random.set_seed`.
            tf.compat.v1.set_random_seed(1)
            seeds = [order.seed, epoch]
            seed = tf.random.stateless_uniform([], seeds, None, None, tf.int64, alg="philox")
            return records.shuffle(window, seed, reshuffle_each_iteration=False)

        def image(i: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
            step, row = order.first_step(size) + i // order.batch_size, i % order.batch_size
            return cut(decode(key), order, step, row) if cut else decode(key)

        keys, rows = order.epochs().flat_map(shuffled).skip(order.skipped), order.rows()
        keys = keys.enumerate()
        if order.part[1] > 1:  # What is in other parts is read and not decoded.
            keys = keys.filter(
                lambda i, _: i % order.batch_size // (rows.stop - rows.start) == order.part[0]
            )
        images = keys.map(image, num_parallel_calls=tf.data.AUTOTUNE)
        return images.batch(rows.stop - rows.start, drop_remainder=order.drop_remainder)

    return Source(batches, size, shape, window=window)


def pair(source: Source, given: np.ndarray | Source) -> Source:
    """Returns a source of pairs: of the events of another one and what each is given.

    Args:
        source: the events.
        given: an array `[num_examples, ...]` in the order that is stored; or a source that puts
            them into the orders of the events.
    """
    if isinstance(given, Source):
        others = given
    elif source.window is None:
        others = hold(given)
    else:  # Shuffled alike: the order depends on sizes and seeds alone.
        size, shape = source.num_examples, given.shape[1:]
        records = tf.data.Dataset.from_tensor_slices(given)
        others = stream(records, tf.identity, size, shape, window=source.window)

    def batches(order: Order) -> tf.data.Dataset:
        return tf.data.Dataset.zip((source.batches(order), others.batches(order)))

    return dataclasses.replace(source, batches=batches)


def is_held(size: int, shape: tuple[int, ...]) -> bool:
    """Returns whether so many images fit into memory."""
    return size * math.prod(shape) <= HELD_BYTES


def hold_or_stream(
    records: tf.data.Dataset, decode: Callable, size: int, shape: tuple, what: Callable[[int], str]
) -> Source:
    """Images decoded once if they fit into memory; `what(i)` names image `i` in errors."""
    if not is_held(size, shape):
        return stream(records, decode, size, shape)
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
    return hold(images)


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
