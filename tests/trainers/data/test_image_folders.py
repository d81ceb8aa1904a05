"""Folders of images: one shape, and images that can't be read are named and counted."""

import numpy as np
import pytest
from PIL import Image

from tests.trainers.data.image_sets import (
    COLOR,
    FRAMES,
    GREY,
    WIDE,
    images,
    make,
    numbers,
    png16,
    save,
    turned,
)
from trainers.data import batching, loading

RNG = np.random.default_rng(0)


def test_folder_without_splits_is_train(folder):
    for name in (folder, f"folder:{folder}"):
        opened = loading.load(name, "train[2:]", batch_size=5)
        found = next(opened.dataset.as_numpy_iterator())
        np.testing.assert_array_equal(found[:, 0, 0, 0], [2, 3, 4, 5, 6])
        assert (opened.num_examples, opened.event_shape) == (5, (2, 3, 1))


def test_folder_with_splits_and_nested_jpegs(tmp_path):
    pixels = RNG.integers(0, 256, [3, 16, 16, 3], np.uint8)
    paths = [tmp_path / part for part in ("train/b/0.JPG", "train/a/1.jpg", "test/2.jpeg")]
    for path, image in zip(paths, pixels, strict=True):
        save(path, image)
    decoded = [np.asarray(Image.open(path)) for path in paths]
    np.testing.assert_array_equal(images(str(tmp_path)), [decoded[1], decoded[0]])
    np.testing.assert_array_equal(images(str(tmp_path), "test"), [decoded[2]])


def test_folder_of_other_sizes(folder, tmp_path):
    save(tmp_path / "8.png", np.zeros([5, 3], np.uint8))
    with pytest.raises(ValueError, match=r"0.png`: \(2, 3, 1\). .*8.png` of shape \(5, 3, 1\)"):
        loading.load(folder, "train", batch_size=1)


def test_folder_of_other_modes(tmp_path):
    save(tmp_path / "rgba.png", np.zeros([4, 4, 4], np.uint8))
    with pytest.raises(ValueError, match=r"8 bits, grey or RGB.* `rgba.png`: transparent pixels"):
        loading.load(str(tmp_path), "train", batch_size=1)


def test_folder_empty_slice(folder):
    with pytest.raises(ValueError, match="must hold 1 images or more"):
        loading.load(folder, "train[:0]", batch_size=1)


def test_folder_without_images(tmp_path):
    with pytest.raises(FileNotFoundError, match="must hold images"):
        loading.load(str(tmp_path), "train", batch_size=1)


def test_folder_of_damaged_images(folder, tmp_path):
    (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes()[:45])
    with pytest.raises(ValueError, match=r"1 of 7 .*: `3.png`: damaged"):
        loading.load(folder, "train", batch_size=1)
    (tmp_path / "3.png").write_bytes(b"text")
    with pytest.raises(ValueError, match=r"1 of 7 .*: `3.png`: no image"):
        loading.load(folder, "train", batch_size=1)


@pytest.mark.parametrize(
    ("target", "why"), [("nothing", "No such file"), ("b.png", "Too many levels of symbolic links")]
)
def test_a_link_to_nothing_is_named(target, why, tmp_path):
    make(tmp_path, "a.png")
    (tmp_path / "b.png").symlink_to(target)
    with pytest.raises(ValueError, match=f"1 of 2 .*: `b.png`: {why}"):
        numbers(tmp_path)


def test_upright_and_turned_portraits_have_one_shape(tmp_path):
    exif, portrait = turned(6)
    save(tmp_path / "a.png", COLOR, exif=exif)
    save(tmp_path / "b.png", portrait)
    first, second = next(iter(loading.load(str(tmp_path), "train", batch_size=2).dataset)).numpy()
    np.testing.assert_array_equal(first, second)


def test_what_is_refused_is_counted(tmp_path):
    make(tmp_path, "a.png")
    for name in ("b.png", "c.png"):
        (tmp_path / name).write_bytes(png16(WIDE[..., :3], 2))
    save(tmp_path / "d.gif", GREY, **FRAMES)
    with pytest.raises(ValueError, match="3 of 4 that can't be read") as error:
        numbers(tmp_path)
    assert "`b.png` and 1 more: 16 bits a channel; make them 8; `d.gif`: 2 fr" in str(error.value)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "webp", "tif", "ppm"])
def test_truncated_images_are_named_and_counted(tmp_path, suffix):
    noise = Image.fromarray(RNG.integers(0, 256, [64, 64, 3], np.uint8))
    for name in ("a", "b", "c"):
        save(tmp_path / f"{name}.{suffix}", noise)
    for name in ("b", "c"):
        path = tmp_path / f"{name}.{suffix}"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"2 of 3 .*`b.{suffix}`.*Convert or remove them"):
        loading.load(str(tmp_path), "train", batch_size=1)


def test_a_damaged_image_in_a_stream_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(batching, "HELD_BYTES", 0)
    make(tmp_path, "a.png", "b.png")
    path = tmp_path / "b.png"
    path.write_bytes(path.read_bytes()[:45])
    with pytest.raises(Exception, match=r"b.png` can't be read: damaged"):
        numbers(tmp_path)


def test_one_image_is_a_set(tmp_path):
    assert numbers(make(tmp_path, "a.png")) == [0]
