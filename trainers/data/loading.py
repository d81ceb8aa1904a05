"""Data for the trainers: batches whose order is a function of seed and step alone.

`load` reads one split of the bundled digits, of a prepared TensorFlow Datasets image set, of a
folder of pictures, of a `.npz` file, of points in the plane or of sets of these. It never
downloads: data that is not on disk is an error that says how to get it.

A split of up to `batching.HELD_BYTES` is decoded once and held in memory. A run that starts at
step k then continues as an unbroken run would, at no cost: the order of epoch e is a stateless
permutation with the seed (seed, e). A larger split is streamed, and a start at step k has to read,
though not to decode, what the epoch has before it: some 10,000 small images a second from TFDS, any
number of files in a folder.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from trainers.data.batching import Order
from trainers.data.photographs import Preparation
from trainers.data.sources import (
    check_size,
    count_examples,
    is_shuffled,
    names_of_splits,
    open_source,
)
from zoo.registry import IMAGES, Kind
from zoo.storage import files


@dataclasses.dataclass(frozen=True)
class Data:
    """One split of a set of images or points.

    Attributes:
        dataset: yields `uint8` images `[batch, height, width, channels]`, or `float32` points
            `[batch, 2]` or sets of them `[batch, k, 2]`. The batch size is static unless the last
            batch is smaller. Of a conditional set, pairs of these and what they are given: `int32`
            labels `[batch]`, or `float32` contexts `[batch, K]`.
        num_examples: images in the split, whatever part of it `dataset` yields.
        event_shape: `(height, width, channels)`, `(2,)` or `(k, 2)`.
        num_levels: the values are `0 .. num_levels - 1`: 256 levels for 8 bits, 17 for the digits;
            `None` for points.
        names: the files of a folder, relative to it, in the order that is stored; else `None`.
        made: what was made of how many pictures, in words; `None` if they are as they were.
        kind: what they are.
        classes: names of the classes that labels are the numbers of; `None` without labels.
        labels: those of all events, in the order that is stored, `[num_examples]`.
    """

    dataset: tf.data.Dataset
    num_examples: int
    event_shape: tuple[int, ...]
    num_levels: int | None
    names: tuple[str, ...] | None = None
    made: str | None = None
    kind: Kind = IMAGES
    classes: tuple[str, ...] | None = None
    labels: np.ndarray | None = None

    @property
    def is_conditional(self) -> bool:
        """Whether batches are pairs of events and what these are given."""
        return isinstance(self.dataset.element_spec, tuple)

    def describe(self) -> str:
        """Returns what the data are like, in words."""
        return self.kind.describe(self.event_shape, self.num_levels)


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
    part: tuple[int, int] = (0, 1),
    preparation: Preparation | None = None,
    condition: str | None = None,
    classes: Sequence[str] | None = None,
) -> Data:
    """Opens one split of a set of images or points.

    The sources, by `name`:

    - `digits`: the 1797 8x8 digits of scikit-learn with their 17 levels, divided once and for all
      into train (1197), validation (200) and test (400) with every digit in proportion.
    - a name of `planar.NAMES`, such as `checkerboard`, or of `node_sets.NAMES`, such as `mog4`:
      points, or sets of them, in train (100,000 points, 1,000,000 sets), validation (10,000) and
      test (50,000).
    - an image set of TFDS, prepared on this machine: `cifar10`, `imagenet_resized/32x32`.
    - `folder:/path`, or the path alone: image files of one size, grey or RGB, that can be read as 8
      bits without a loss (`image_files`), in the order of their paths. Folders with names such as
      train, val and Test_images are the splits (`split_names`); without them everything is `train`.
    - a table, see `tables`: `rows.csv`, `rows.parquet`, `sklearn:wine`.
    - the path of a `.npz` file: integer arrays `[N, H, W, C]` or `[N, H, W]`. The arrays train,
      validation and test, or x_train and so on, are the splits; without them `images`, or the only
      array of such rank, is `train`.

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
        part: `(i, n)`: of each batch, only the rows of its `i`-th of `n` equal parts, which are
            those of the whole batch. For hosts that share the work; the others' images are not
            decoded. Needs full batches: `repeat` or `drop_remainder`.
        preparation: what is made of pictures of any size, in folders, TFDS sets and `.npz` files.
            Random crops are so with a `shuffle_seed` alone. What can't be read is left out.
        condition: `label`, or of a TFDS set another feature, for pairs of images and labels: those
            of `digits`; of the set; the names of the folders of classes, as in `train/CLASS/1.png`;
            or of arrays `labels`, or `train_labels` beside `train`, of a `.npz` file.
        classes: names of the classes, in the order of their numbers; by default those of the split,
            sorted, or those of the TFDS set.

    Returns:
        A `Data`.

    Raises:
        FileNotFoundError: the data is not there.
        ValueError: an argument or the data is not as described above.

    Example:
        >>> test = load("digits", "test", batch_size=150)
        >>> test.num_examples, test.event_shape, test.num_levels
        (400, (8, 8, 1), 17)
        >>> [batch.shape[0] for batch in test.dataset]
        [150, 150, 100]
    """
    _check_arguments(batch_size, start_step, flip, shuffle_seed)
    _check_part(part, batch_size, repeat or drop_remainder)
    data_dir = data_dir and files.expand_home(data_dir)
    source = open_source(name, split, data_dir, preparation, condition, classes)
    if drop_remainder and not repeat:
        check_size(split, source.num_examples, batch_size)
    check_flip(flip, source.event_shape)
    num_levels, shift = _reduced_levels(source.num_levels, num_bits)

    def finish(step: tf.Tensor, batch: Any) -> Any:
        images, *given = batch if isinstance(batch, tuple) else (batch,)
        images = _flipped(images, shuffle_seed, step, order) if flip else images
        images = tf.bitwise.right_shift(images, shift) if shift else images
        return (images, *given) if given else images

    drop_remainder = drop_remainder or repeat or source.num_examples % batch_size == 0
    start = divmod(start_step * batch_size, source.num_examples)
    order = Order(batch_size, shuffle_seed, repeat, drop_remainder, *start, part)
    dataset = source.batches(order).enumerate(start_step)
    steps = order.steps(source.num_examples)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(steps))
    dataset = dataset.map(finish, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    dataset = dataset.with_options(_options())
    return Data(
        dataset,
        source.num_examples,
        source.event_shape,
        num_levels,
        source.names,
        source.made,
        source.kind,
        source.classes,
        source.labels,
    )


def has_split(name: str, split: str, data_dir: str | None = None) -> bool:
    """Returns whether a source, as `load` takes it, has a split of this name."""
    return split in names_of_splits(name, data_dir)


def divide(
    name: str,
    num_validation: int,
    replicas: int = 1,
    data_dir: str | None = None,
) -> tuple[str, str | None]:
    """Returns what to train on and what to score meanwhile, as splits for `load`.

    A set of TFDS without a validation split gives the end of its training split for that, a tenth
    of it at most; a folder or file, whose order may be that of its classes, gives nothing. The test
    split is for the figure that is quoted.

    Args:
        name: the source.
        num_validation: events to score at most; 0 for none.
        replicas: a divisor that their number must have.
        data_dir: see `load`.

    Returns:
        The split to train on, and the one to score or `None`.
    """
    train, validation, first, size = "train", "validation", 0, 0

    def count(split: str) -> int:
        return count_examples(name, split, data_dir)

    if has_split(name, validation, data_dir):
        size = min(count(validation), num_validation)
    elif is_shuffled(name, data_dir):
        total = count(train)
        size = min(total // 10, num_validation)
        first, validation = total - size, train
        train = f"train[:{first}]" if size else train
    scored = size // replicas * replicas
    return train, f"{validation}[{first}:{first + scored}]" if scored else None


def check_kind(data: Data, kind: Kind, name: str) -> None:
    """Refuses data of another kind than those that a model takes."""
    if data.kind != kind:
        raise ValueError(
            f"The model takes {kind.noun}. Received: --dataset={name}, which has {data.kind.noun}."
        )


def check_shape(data: Data, event_shape: Any, name: str) -> None:
    """Refuses data whose events are not of the shape that a model takes."""
    if data.event_shape != tuple(event_shape):
        raise ValueError(
            f"The model takes events of shape {tuple(event_shape)}. "
            f"Received: --dataset={name} with events of shape {data.event_shape}."
        )


def check_flip(flip: bool, event_shape: tuple[int, ...]) -> None:
    """Refuses to mirror what are no images."""
    if flip and len(event_shape) != 3:
        raise ValueError(
            f"`flip` must be False for points. Received: flip=True, event_shape={event_shape}."
        )


def bits_to_keep(num_levels: int | None) -> int | None:
    """Returns the `num_bits` with which 8-bit images have the levels of a model.

    Args:
        num_levels: those of the model; `None` for points.

    Returns:
        5 for 32 levels, and so on; `None` where there is nothing to reduce, for 256 levels or a
        number that is no power of 2.
    """
    return {2**bits: bits for bits in range(1, 8)}.get(num_levels)


def _check_arguments(batch_size: int, start_step: int, flip: bool, seed: int | None) -> None:
    if batch_size < 1 or start_step < 0:
        raise ValueError(
            "`batch_size` must be positive and `start_step` must not be negative. "
            f"Received: batch_size={batch_size}, start_step={start_step}."
        )
    if flip and seed is None:
        raise ValueError("`flip` must have a seed to draw from. Received: shuffle_seed=None.")


def _check_part(part: tuple[int, int], batch_size: int, full: bool) -> None:
    number, count = part
    if not 0 <= number < count or batch_size % count:
        raise ValueError(
            "`part` must be (i, n) with 0 <= i < n, and n must divide the batch size. "
            f"Received: part={part}, batch_size={batch_size}."
        )
    if count > 1 and not full:
        raise ValueError(
            "`part` needs full batches: `repeat` or `drop_remainder`. "
            f"Received: part={part}, repeat=False, drop_remainder=False."
        )


def _reduced_levels(num_levels: int | None, num_bits: int | None) -> tuple[int | None, int]:
    """The levels that are left, and the bits by which to shift."""
    if num_bits is None:
        return num_levels, 0
    if num_levels != 256 or not 1 <= num_bits <= 8:
        raise ValueError(
            "`num_bits` must be 1 to 8, and the images must have 256 levels. "
            f"Received: num_bits={num_bits}, num_levels={num_levels}."
        )
    return 2**num_bits, 8 - num_bits


def _flipped(images: tf.Tensor, seed: int, step: tf.Tensor, order: Order) -> tf.Tensor:
    size = order.batch_size if order.drop_remainder else tf.shape(images)[0]
    heads = tf.random.stateless_uniform([size], [seed, step], alg="philox")[order.rows()] < 0.5
    # The old `where` takes whole images; the new one broadcasts, at five times the cost.
    return tf.compat.v1.where(heads, tf.reverse(images, [2]), images)


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    # By batch: there are no files to shard for images in memory.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return options
