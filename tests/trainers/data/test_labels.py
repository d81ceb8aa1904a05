"""Labels of images: that they go with their images from every source, in every order."""

import numpy as np
import pytest
from sklearn import datasets

from tests.trainers.data.image_sets import batches, make, save
from trainers.data import loading
from trainers.data.labels import NoLabelsError

ORDERS = (
    {"batch_size": 4},
    {"batch_size": 4, "shuffle_seed": 1, "repeat": True, "count": 9},
    {"batch_size": 4, "shuffle_seed": 1, "repeat": True, "start_step": 5, "count": 3},
    {"batch_size": 4, "shuffle_seed": 1, "repeat": True, "part": (1, 2), "count": 3},
)


def pairs(name, split="train", condition="label", **kwargs):
    """Images, each as the value of its first pixel, and their labels."""
    found = batches(name, split, condition=condition, **kwargs)
    return tuple(np.concatenate([batch[i] for batch in found]) for i in (0, 1))


def first_pixels(images):
    return images[:, 0, 0, 0].astype(int)


def assert_go_together(name, label_of, split="train", **kwargs):
    for order in ORDERS:
        images, labels = pairs(name, split, **order, **kwargs)
        alone = np.concatenate(batches(name, split, **order, **{**kwargs, "condition": None}))
        np.testing.assert_array_equal(images, alone)
        assert labels.dtype == np.int32
        np.testing.assert_array_equal(labels, [label_of(n) for n in first_pixels(images)])


def test_digits():
    digits = datasets.load_digits()
    targets = {
        image.tobytes(): label for image, label in zip(digits.images, digits.target, strict=True)
    }
    data = loading.load("digits", "validation", batch_size=50, condition="label")
    assert data.classes == tuple("0123456789")
    for images, labels in data.dataset.as_numpy_iterator():
        found = [targets[image[..., 0].astype(float).tobytes()] for image in images]
        np.testing.assert_array_equal(labels, found)
    np.testing.assert_array_equal(np.bincount(data.labels) > 15, True)
    both = loading.load("digits", "validation+test[:10]", batch_size=50, condition="label")
    np.testing.assert_array_equal(both.labels[:200], data.labels)
    assert not loading.load("digits", "train", batch_size=50).is_conditional


@pytest.mark.parametrize("held", [True, False])
def test_folders_of_classes(tmp_path, request, held):
    if not held:
        request.getfixturevalue("streaming")
    names = [f"{split}/{c}/{i}.png" for split in ("train", "val") for c in "ba" for i in range(5)]
    root = make(tmp_path, *names)
    data = loading.load(f"folder:{root}", "train", batch_size=4, condition="label")
    assert data.classes == ("a", "b")
    assert_go_together(str(root), lambda n: int(n < 5))
    images, labels = pairs(str(root), "validation", batch_size=3, classes=("b", "c", "a"))
    np.testing.assert_array_equal(labels, np.where(first_pixels(images) < 15, 0, 2))


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (["a/1.png", "b/2.png"], "ab"),
        (["all/a/1.png", "all/b/x/2.png"], "ab"),
        (["all/train/a/1.png", "all/train/b/2.png", "all/test/3.png"], "ab"),
        (["a/train/1.png", "b/train/2.png", "b/test/2.png"], "ab"),
        (["train/10/1.png", "train/9/2.png"], ("10", "9")),
    ],
)
def test_which_folders_are_classes(tmp_path, names, classes):
    root = make(tmp_path, *names)
    found = loading.load(str(root), "train", batch_size=1, condition="label")
    assert found.classes == tuple(classes)


def test_images_outside_of_the_folders_of_classes_are_counted(tmp_path):
    root = make(tmp_path, "train/a/1.png", "train/b/2.png", "train/3.png", "train/4.png")
    with pytest.raises(NoLabelsError, match=r"2 of 4 images in none, such as `train/3\.png`"):
        pairs(str(root), batch_size=1)


@pytest.mark.parametrize("crop", ["center", pytest.param("random", marks=pytest.mark.slow)])
def test_pictures_that_are_left_out_take_their_labels_with_them(tmp_path, crop, npz):
    preparation = loading.Preparation(2, 2, 1, crop)
    root = make(tmp_path, *[f"train/{c}/{i}.png" for c in "ab" for i in range(5)])
    for name in ("train/a/2.png", "train/b/0.png"):
        (root / name).write_bytes(b"damaged")
    data = loading.load(
        str(root), "train", batch_size=4, preparation=preparation, condition="label"
    )
    assert data.num_examples == len(data.labels) == 8
    assert_go_together(str(root), lambda n: int(n >= 5), preparation=preparation)
    pixels = np.repeat(np.arange(9, dtype=np.uint8), 16).reshape(9, 4, 4)
    name = npz(train=pixels, train_labels=np.arange(9) % 3)
    assert_go_together(name, lambda n: n % 3, preparation=preparation)


PIXELS = np.arange(6, dtype=np.uint8).reshape(6, 1, 1)


@pytest.mark.parametrize(
    ("arrays", "labels", "classes"),
    [
        ({"images": PIXELS, "labels": [3, 7, 3, 10, 3, 3]}, [0, 1, 0, 2, 0, 0], ("3", "7", "10")),
        ({"train": PIXELS, "y": [[0], [1], [1], [0], [0], [0]]}, [0, 1, 1, 0, 0, 0], "01"),
        (
            {
                "x_train": PIXELS,
                "y_train": list("baabab"),
                "x_test": PIXELS,
                "y_test": list("zzyzzy"),
            },
            [1, 0, 0, 1, 0, 1],
            "ab",
        ),
        ({"train": PIXELS, "trainLabels": np.array([b"u", b"v"] * 3)}, [0, 1] * 3, "uv"),
    ],
)
def test_npz(npz, arrays, labels, classes):
    name = npz(**arrays)
    data = loading.load(name, "train", batch_size=6, condition="label")
    assert data.classes == tuple(classes)
    assert_go_together(name, lambda n: labels[n])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"train": PIXELS}, r"labels of `train`, an array such as `labels`\. .*keys=\['train'\]"),
        ({"train": PIXELS, "labels": [0, 1]}, "a label for each of the 6 images.* Received: 2"),
        ({"train": PIXELS, "test": PIXELS, "labels": [0] * 6}, "such as `train_labels`"),
        ({"train": PIXELS, "labels": np.zeros(6)}, "`labels`, must be labels: .*float64"),
        ({"train": PIXELS, "labels": np.zeros([6, 2], int)}, r"must be labels: .*shape=\(6, 2\)"),
        ({"train": PIXELS, "labels": np.array([None] * 6)}, "plain array"),
        ({"train": PIXELS, "labels": [0] * 6, "y": [0] * 6}, "an array such as `labels`"),
    ],
)
def test_npz_errors(npz, arrays, message):
    with pytest.raises(ValueError, match=message):
        pairs(npz(**arrays), batch_size=2)


@pytest.mark.parametrize("held", [pytest.param(True, marks=pytest.mark.slow), False])
def test_features_of_tfds(prepared, request, held):
    if not held:
        request.getfixturevalue("streaming")
    name = "trainers_test_pictures"
    assert_go_together(name, int, data_dir=prepared)
    data = loading.load(name, "train[2:5]", batch_size=3, condition="label", data_dir=prepared)
    stored = sorted(first_pixels(batches(name, "train[2:5]", batch_size=3, data_dir=prepared)[0]))
    assert data.classes == tuple(map(str, stored))
    with pytest.raises(ValueError, match=r"must be label for these data\. .*=colour"):
        pairs(name, condition="colour", batch_size=1, data_dir=prepared)


def test_labels_that_there_are_not(tmp_path):
    with pytest.raises(NoLabelsError, match="--dataset=two_moons, points without any"):
        pairs("two_moons", batch_size=1)
    with pytest.raises(ValueError, match="--condition=colour"):
        pairs("digits", condition="colour", batch_size=1)
    with pytest.raises(ValueError, match="`--condition_columns`"):
        pairs("sklearn:wine", batch_size=1)
    with pytest.raises(
        ValueError, match=r"`digits`, test, must .*2 classes: 0, 1\. .* other class"
    ):
        pairs("digits", "test", batch_size=1, classes=("0", "1"))
    with pytest.raises(NoLabelsError, match="10 other classes"):
        pairs("digits", "test", batch_size=1, classes=("cat", "dog"))


def test_shape_of_pictures_is_free_of_labels(tmp_path):
    save(tmp_path / "a" / "1.png")
    save(tmp_path / "b" / "2.png")
    flipped, labels = pairs(str(tmp_path), batch_size=2, flip=True, shuffle_seed=0)
    assert flipped.shape == (2, 4, 6, 1)
    assert sorted(labels) == [0, 1]
