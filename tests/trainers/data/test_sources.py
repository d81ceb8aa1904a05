"""Sources: the digits, sets of TFDS, and names that are none."""

import time
import zlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from sklearn import datasets

from tests.trainers.data.image_sets import batches, images, make
from trainers.data import loading


def test_tfds_sets_are_in_random_order(prepared):
    assert loading.is_shuffled("trainers_test_pictures", prepared)
    assert not loading.is_shuffled("digits", None)


DIGITS_CRC32 = {"train": 3040837216, "validation": 1722808055, "test": 2611208476}


def test_digits_are_divided_once_and_for_all():
    sizes = {"train": 1197, "validation": 200, "test": 400}
    splits = {split: images("digits", split) for split in sizes}
    assert {split: len(found) for split, found in splits.items()} == sizes
    together = np.concatenate(list(splits.values()))
    everything = datasets.load_digits().images[..., np.newaxis]
    np.testing.assert_array_equal(np.unique(together, axis=0), np.unique(everything, axis=0))
    # Pinned: a changed split would make published figures incomparable.
    assert {split: zlib.crc32(found.tobytes()) for split, found in splits.items()} == DIGITS_CRC32
    opened = loading.load("digits", "test", batch_size=8)
    assert (opened.num_examples, opened.event_shape, opened.num_levels) == (400, (8, 8, 1), 17)


def test_digits_splits_have_every_digit_in_proportion():
    labels = datasets.load_digits()
    stored = {
        image.tobytes(): digit for image, digit in zip(labels.images, labels.target, strict=True)
    }
    test = images("digits", "test").astype(np.float64)[..., 0]
    counts = np.bincount([stored[image.tobytes()] for image in test])
    np.testing.assert_allclose(counts, np.bincount(labels.target) * 400 / 1797, atol=1)


@pytest.mark.parametrize("split", ["train[:90%]", "train[91%:]", "train[-3:]+test[:1]"])
def test_slices_are_those_of_tfds(npz, split):
    pixels = np.arange(57, dtype=np.uint8).reshape(57, 1, 1, 1)
    name = npz(train=pixels[:50], test=pixels[50:])
    expected = {"train[:90%]": range(45), "train[91%:]": range(46, 50)}
    found = images(name, split).ravel().tolist()
    assert found == list(expected.get(split, [47, 48, 49, 50]))


@pytest.mark.parametrize("streamed", [False, True])
def test_tfds_finds_the_images_and_their_size(prepared, streamed, request):
    if streamed:
        request.getfixturevalue("streaming")
    kwargs = {"batch_size": 9, "data_dir": prepared}
    opened = loading.load("trainers_test_pictures", "train", **kwargs)
    assert (opened.num_examples, opened.event_shape) == (9, (4, 6, 1))
    stored = next(opened.dataset.as_numpy_iterator())
    assert sorted(stored[:, 0, 0, 0]) == list(range(9))
    shuffled = batches("trainers_test_pictures", shuffle_seed=1, **kwargs)[0]
    assert sorted(shuffled[:, 0, 0, 0]) == list(range(9))
    part = batches("trainers_test_pictures", "train[3:5]", **kwargs)[0]
    np.testing.assert_array_equal(part, stored[3:5])


def test_tfds_images_of_different_sizes(prepared):
    with pytest.raises(ValueError, match=r"`trainers_test_pictures`, image \d, must be.*\(4,"):
        loading.load("trainers_test_pictures", "uneven", batch_size=2, data_dir=prepared)


@pytest.mark.data
@pytest.mark.parametrize("streamed", [False, True])
def test_cifar10(streamed, request):
    if streamed:
        request.getfixturevalue("streaming")
    opened = loading.load("cifar10", "test[:200]", batch_size=64)
    assert (opened.num_examples, opened.event_shape, opened.num_levels) == (200, (32, 32, 3), 256)
    stored = tfds.load("cifar10", split="test[:200]", download=False).batch(200)
    expected = next(iter(stored))["image"]
    np.testing.assert_array_equal(np.concatenate(list(opened.dataset)), expected)
    with pytest.raises(ValueError, match="Unknown split 'nothing'"):
        loading.load("cifar10", "nothing", batch_size=64)


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(ValueError, match=r"'cifarr10'. Did you mean cifar10"):
        loading.load("cifarr10", "train", batch_size=1)
    with pytest.raises(ValueError, match="Did you mean digits"):
        loading.load("digit", "train", batch_size=1)


@pytest.mark.parametrize("name", ["huggingface:mnist", "kubric:nothing"])
def test_namespaces_are_not_looked_up_online(name):
    with pytest.raises(ValueError, match="must be digits"):
        loading.load(name, "train", batch_size=1)


@pytest.mark.parametrize("name", ["cifar10", "mnist", "imagenet_resized/32x32"])
def test_missing_tfds_data_fails_at_once_and_says_how_to_get_it(name, tmp_path):
    start = time.monotonic()
    with pytest.raises(FileNotFoundError) as error:
        loading.load(name, "train", batch_size=1, data_dir=str(tmp_path))
    assert time.monotonic() - start < 5
    assert f"tfds.load('{name}', data_dir='{tmp_path}'" in str(error.value)
    assert "--data_dir" in str(error.value)
    assert not list(tmp_path.iterdir())


def test_the_command_to_prepare_data_is_python(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        loading.load("cifar10", "train", batch_size=1, data_dir=str(tmp_path))
    compile(str(error.value).split('"')[1], "command", "exec")


def test_tfds_sets_without_images(tmp_path):
    with pytest.raises(ValueError, match=r"`iris` must have one feature of 8-bit images.*label"):
        loading.load("iris", "train", batch_size=1, data_dir=str(tmp_path))


@pytest.mark.parametrize(
    "name", ["/no/where.npz", "/no/where", "folder:/no/where", "folder:digits"]
)
def test_missing_paths(name):
    with pytest.raises(FileNotFoundError, match=name.removeprefix("folder:")):
        loading.load(name, "train", batch_size=1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("photo.png", "It is one image: name the folder it is in"),
        ("a.npy", r"Write one: `np.savez\('.*a.npz', train=np.load\('.*a.npy'\)\)`"),
        ("table.bin", r"np.savez\('images.npz', train=images\).* Other data are for `tfflows.Flow"),
        ("table.csv", "must have rows below its header"),
        ("table.xlsx", "Save a table as .csv or .parquet"),
        ("a.zip", "Unpack it and name the folder"),
        ("a.npz", r"must be a whole .npz file.*by name only, and begins with b'text'"),
    ],
)
def test_files_that_are_no_sets_say_what_to_do(tmp_path, name, message):
    (tmp_path / name).write_text("text")
    for prefix in ("", "folder:"):
        with pytest.raises(ValueError, match=message) as error:
            loading.load(f"{prefix}{tmp_path / name}", "train", batch_size=1)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["", "folder:"])
def test_no_name_is_not_this_folder(name):
    with pytest.raises((ValueError, FileNotFoundError), match=f"name={name!r}"):
        loading.load(name, "train", batch_size=1)


def test_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    make(tmp_path / "photos", "a.png")
    for name in ("~/photos", "folder:~/photos"):
        assert loading.load(name, "train", batch_size=1).num_examples == 1
