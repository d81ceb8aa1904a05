""".npz files: keys of splits, integers, and files that are not clear or damaged."""

import numpy as np
import pytest

from tests.trainers.data.image_sets import images
from trainers.data import loading

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("key", ["train", "images", "anything"])
def test_npz_keys(npz, key):
    pixels = RNG.integers(0, 256, [5, 4, 6, 3], np.uint8)
    np.testing.assert_array_equal(images(npz(**{key: pixels}, labels=np.arange(5))), pixels)


def test_npz_grey_images_of_another_integer_type(npz):
    pixels = RNG.integers(0, 256, [5, 4, 6])
    found = images(npz(test=pixels, train=pixels), "test")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, pixels[..., np.newaxis])


PIXELS = np.zeros([2, 4, 4, 3])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"train": np.where(np.arange(3) == 1, np.nan, PIXELS)}, "dtype=float64, 32 of 96 .* NaN"),
        ({"train": PIXELS.astype(np.float32)}, r"`train`.*dtype=float32.*np.round\(255"),
        ({"images": PIXELS.astype(bool)}, "`images`, must hold integers.*bool"),
        ({"train": PIXELS.astype(np.int32) - 1}, r"integers 0 .. 255. Received: -1 .. -1"),
        ({"train": PIXELS.astype(np.uint16) + 256}, "Received: 256 .. 256"),
        ({"train": np.zeros([4], np.uint8)}, r"shape=\(4,\)"),  # Of rank 2: rows of a table.
        ({"train": np.zeros([0, 4, 4, 1], np.uint8)}, r"shape=\(0, 4, 4, 1\)"),
        ({"a": PIXELS, "b": PIXELS}, r"only one array.*keys=\['a', 'b'\]"),
        ({"labels": np.arange(3)}, r"only one array.*keys=\['labels'\]"),
        ({"train": np.array([None])}, "plain array"),
    ],
)
def test_npz_errors(npz, arrays, message):
    name = npz(**arrays)
    with pytest.raises(ValueError, match=message) as error:
        loading.load(name, "train", batch_size=1)
    assert name in str(error.value)


@pytest.mark.parametrize("damage", ["truncated", "altered", "not_zip", "npy"])
def test_npz_damaged(numbered, damage):
    with open(numbered, "rb") as file:
        content = file.read()
    contents = {
        "truncated": content[: len(content) // 2],
        "altered": content.replace(bytes(range(5, 10)), bytes(5)),
        "not_zip": b"not a zip file",
    }
    with open(numbered, "wb") as file:
        if damage == "npy":
            np.save(file, np.zeros([2, 4, 4]))
        else:
            file.write(contents[damage])
    with pytest.raises(ValueError, match=f"`{numbered}` must be a whole .npz file"):
        loading.load(numbered, "train", batch_size=1)


IMAGES = RNG.integers(0, 256, [3, 4, 6], np.uint8)
LABELS = np.arange(3)


@pytest.mark.parametrize(
    ("splits", "others"),
    [
        ({"train": "x_train", "test": "x_test"}, {"y_train": LABELS, "y_test": LABELS}),
        ({"train": "train_images", "validation": "val_images"}, {"train_labels": LABELS}),
        ({"train": "Train", "test": "Test"}, {"y_test": IMAGES}),
        ({"train": "training/x", "test": "testing/x"}, {}),
        ({"train": "x_train", "test": "x_test"}, {"extra": IMAGES}),
        ({"train": "images"}, {"masks": IMAGES, "names": np.array([{}])}),
    ],
)
def test_npz_keys_of_splits(tmp_path, splits, others):
    arrays = {key: IMAGES + number for number, key in enumerate(splits.values(), 1)}
    np.savez(tmp_path / "a.npz", **others, **arrays)
    for split, key in splits.items():
        opened = loading.load(str(tmp_path / "a.npz"), split, batch_size=3)
        assert (next(iter(opened.dataset)).numpy()[..., 0] == arrays[key]).all()
    with pytest.raises(ValueError, match="Unknown split 'nothing'"):
        loading.load(str(tmp_path / "a.npz"), "nothing", batch_size=1)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES, "test_images": IMAGES}, "`test_images` is a split, and `images`"),
        ({"train": IMAGES, "masks": IMAGES}, "`train` is a split, and `masks` beside it"),
        ({"x_train": IMAGES, "images_train": IMAGES}, "may both be for `train`"),
        ({"images": IMAGES, "test_idx": LABELS}, "`test_idx` may divide `images`"),
        ({"images": IMAGES, "split": LABELS}, "`split` may divide `images`"),
        ({"x_train": LABELS, "x_test": LABELS}, r"key `x_train`, must be images .*shape=\(3,\)"),
        ({"train": np.array([{}])}, "key `train`, must be a plain array. Received: Python objects"),
        ({"train": IMAGES / 255}, r"dtype=float64. Store 8-bit values: .* `np.round\(255"),
    ],
)
def test_npz_that_is_not_clear(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        loading.load(str(tmp_path / "a.npz"), "train", batch_size=1)


def test_npz_by_name_only(tmp_path):
    path = tmp_path / "a.npz"
    with open(path, "wb") as file:
        np.save(file, IMAGES)
    with pytest.raises(ValueError, match=r"It is a .npy file: `np.savez\("):
        loading.load(str(path), "train", batch_size=1)
    np.savez(path, IMAGES)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="It is cut short: copy or download it again"):
        loading.load(str(path), "train", batch_size=1)
