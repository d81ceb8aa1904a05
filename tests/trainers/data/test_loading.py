"""Loading: what is trained on, flips, batches and parts of them, levels, wrong arguments."""

import numpy as np
import pytest
import tensorflow as tf

from tests.trainers.data.image_sets import batches, images
from trainers.data import loading

RNG = np.random.default_rng(0)

# What is trained on, and what scores reports: never the test split.


def test_reports_score_the_validation_split():
    assert loading.divide("digits", 1000) == ("train", "validation[0:200]")
    assert loading.divide("digits", 25, replicas=2) == ("train", "validation[0:24]")
    assert loading.divide("digits", 0) == ("train", None)


def test_without_one_the_end_of_the_training_split_is_held_out(numbered, monkeypatch):
    monkeypatch.setattr(loading, "is_shuffled", lambda *args: True)
    monkeypatch.setattr(loading, "has_split", lambda *args: False)
    train, scored = loading.divide(numbered, 1000)
    assert (train, scored) == ("train[:21]", "train[21:23]")
    assert images(numbered, train).ravel().tolist() == list(range(21))
    assert images(numbered, scored).ravel().tolist() == [21, 22]
    assert loading.divide(numbered, 1000, replicas=4) == ("train[:21]", None)


def test_images_in_the_order_of_their_classes_are_all_trained_on(numbered):
    assert loading.divide(numbered, 1000) == ("train", None)


def test_flip_mirrors_about_half_and_changes_nothing_else(npz):
    pixels = RNG.integers(0, 256, [200, 2, 3, 1], np.uint8)
    kwargs = {"batch_size": 200, "shuffle_seed": 1}
    plain = batches(npz(train=pixels), **kwargs)[0]
    found = batches(npz(train=pixels), flip=True, **kwargs)[0]
    mirrored = (found == plain[:, :, ::-1]).all((1, 2, 3))
    assert (mirrored | (found == plain).all((1, 2, 3))).all()
    assert 70 < mirrored.sum() < 130


def test_flips_differ_between_batches(npz):
    pixels = np.tile(np.array([0, 1], np.uint8), (64, 1, 1))[..., np.newaxis]
    kwargs = {"batch_size": 64, "shuffle_seed": 1, "flip": True, "repeat": True}
    first, second = batches(npz(train=pixels), count=2, **kwargs)
    assert (first != second).any()


def test_shapes_are_static(numbered):
    def shape(**kwargs):
        return loading.load(numbered, "train", **kwargs).dataset.element_spec.shape.as_list()

    assert shape(batch_size=5) == [None, 1, 1, 1]
    assert shape(batch_size=5, drop_remainder=True) == [5, 1, 1, 1]
    assert shape(batch_size=5, repeat=True, flip=True, shuffle_seed=0) == [5, 1, 1, 1]
    assert shape(batch_size=23) == [23, 1, 1, 1]


def test_cardinality(numbered):
    def cardinality(**kwargs):
        return loading.load(numbered, "train", batch_size=5, **kwargs).dataset.cardinality()

    assert cardinality(repeat=True) == tf.data.INFINITE_CARDINALITY
    assert cardinality() == 5
    assert cardinality(start_step=3) == 2
    assert cardinality(start_step=9) == 0
    assert cardinality(drop_remainder=True, start_step=1) == 3
    assert len(batches(numbered, batch_size=5, drop_remainder=True, start_step=1)) == 3


def test_replicas_share_the_global_batch(numbered):
    devices = [device.name for device in tf.config.list_logical_devices("CPU")]
    strategy = tf.distribute.MirroredStrategy(devices)
    dataset = loading.load(numbered, "train", batch_size=6, shuffle_seed=0, repeat=True).dataset
    shared = next(iter(strategy.experimental_distribute_dataset(dataset)))
    parts = strategy.experimental_local_results(shared)
    np.testing.assert_array_equal(np.concatenate(parts), next(iter(dataset)))
    assert {len(part) for part in parts} == {6 // len(devices)}


@pytest.mark.parametrize(
    ("num_levels", "bits"), [(2, 1), (32, 5), (128, 7), (256, None), (17, None), (1, None)]
)
def test_bits_to_keep_for_the_levels_of_a_model(num_levels, bits):
    assert loading.bits_to_keep(num_levels) == bits


def test_num_bits_keeps_the_highest(npz):
    name = npz(train=np.array([0, 7, 8, 255], np.uint8).reshape(4, 1, 1, 1))
    opened = loading.load(name, "train", batch_size=4, num_bits=5)
    assert opened.num_levels == 32
    assert next(opened.dataset.as_numpy_iterator()).ravel().tolist() == [0, 0, 1, 31]


# Errors.


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"batch_size": 0}, "`batch_size` must be positive.*batch_size=0"),
        ({"batch_size": 1, "start_step": -1}, "start_step=-1"),
        ({"batch_size": 1, "flip": True}, "`flip` must have a seed"),
        ({"batch_size": 24, "drop_remainder": True}, "hold 24 images or more.*Received: 23"),
        ({"batch_size": 1, "num_bits": 9}, "`num_bits` must be 1 to 8.*num_bits=9"),
        (
            {"batch_size": 1, "split": "test"},
            "must be one that the data have, train or all.*Unknown split 'test'",
        ),
        ({"batch_size": 1, "split": "train[:24]"}, "incompatible with 23 examples"),
        ({"batch_size": 1, "split": "train[:0]"}, "hold 1 images or more.*Received: 0"),
        ({"batch_size": 1, "split": "train["}, r"split='train\[': Unrecognized"),
        ({"batch_size": 1, "split": "all[:3]"}, r"split='all\[:3\]'"),
    ],
)
def test_arguments(numbered, kwargs, message):
    with pytest.raises(ValueError, match=message) as error:
        loading.load(numbered, **{"split": "train", **kwargs})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "condition"),
    [
        *(("digits", None), ("digits", "label"), ("rings", None), ("npz", None)),
        *(("folder", None), ("tfds", None), ("tfds", "label"), ("table", None)),
    ],
)
def test_a_split_that_is_not_there_is_a_line_with_those_that_are(
    source, condition, numbered, folder, prepared, tmp_path
):
    (tmp_path / "t.csv").write_text("a\n1\n2\n3\n")
    names = {"npz": numbered, "folder": folder, "tfds": "trainers_test_pictures"}
    names["table"] = str(tmp_path / "t.csv?split=0.5,0.2,0.3")
    options = {"condition": condition, "data_dir": prepared if source == "tfds" else None}
    match = r"`split` \(--split\) must be one that the data have, train.* Received: split='val'"
    with pytest.raises(ValueError, match=match) as error:
        loading.load(names.get(source, source), "val", batch_size=1, **options)
    assert "\n" not in str(error.value)


def test_digits_have_no_bits():
    with pytest.raises(ValueError, match=r"256 levels.*num_levels=17"):
        loading.load("digits", "test", batch_size=1, num_bits=4)


def parts_of(count, **kwargs):
    """The batches of all parts, put together."""
    parts = [
        list(loading.load("digits", "train", part=(i, count), **kwargs).dataset.take(3))
        for i in range(count)
    ]
    return [tf.concat(rows, 0) for rows in zip(*parts, strict=True)]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_parts_are_the_whole_batches(count):
    kwargs = {"batch_size": 24, "shuffle_seed": 1, "repeat": True, "flip": True, "start_step": 60}
    whole = list(loading.load("digits", "train", **kwargs).dataset.take(3))
    for found, expected in zip(parts_of(count, **kwargs), whole, strict=True):
        assert tf.reduce_all(found == expected)


@pytest.mark.parametrize("part", [(0, 5), (2, 2), (-1, 2)])
def test_parts_that_are_none(part):
    with pytest.raises(ValueError, match=r"`part` must be \(i, n\)"):
        loading.load("digits", "train", batch_size=24, repeat=True, part=part)


def test_parts_need_full_batches():
    with pytest.raises(ValueError, match="`part` needs full batches"):
        loading.load("digits", "test", batch_size=24, part=(0, 2))
