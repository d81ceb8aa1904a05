"""Pictures of any size as images of one: cropped, resized, grey or colour, always the same."""

import functools

import numpy as np
import pytest
from PIL import Image

from tests.trainers.data.image_sets import (
    COLOR,
    FRAMES,
    GREY,
    png16,
    save,
    save_mixed,
    turned,
)
from trainers.data import batching, loading, photographs
from trainers.data.photographs import Preparation

RNG = np.random.default_rng(0)


def load(name, split="train", *, size=(8, 8), channels=3, crop="center", resize="area", **kwargs):
    preparation = Preparation(*size, channels, crop, resize)
    return loading.load(str(name), split, preparation=preparation, **{"batch_size": 4, **kwargs})


def images(name, *args, count=None, **kwargs):
    dataset = load(name, *args, **kwargs).dataset
    return np.concatenate(list(dataset if count is None else dataset.take(count)))


def exact_area(pixels, height, width):
    """The mean of the picture over the area of each pixel, by its integral."""
    for axis, size in ((0, height), (1, width)):
        length = pixels.shape[axis]
        total = np.cumsum(np.insert(pixels.astype(float), 0, 0, axis), axis)
        edges = np.linspace(0, length, size + 1)
        below = np.minimum(edges.astype(int), length - 1)
        part = np.expand_dims(edges - below, [a for a in range(pixels.ndim) if a != axis])
        low, high = np.take(total, below, axis), np.take(total, below + 1, axis)
        pixels = np.diff(low + part * (high - low), axis=axis) * size / length
    return pixels


@pytest.mark.parametrize("shape", [(16, 24), (13, 31), (50, 9), (5, 6)])
def test_area_is_the_mean_of_what_a_pixel_covers(tmp_path, shape):
    pixels = RNG.integers(0, 256, [*shape, 3], np.uint8)
    save(tmp_path / "a.png", pixels)
    found = images(tmp_path, crop="none", size=(8, 6))[0]
    np.testing.assert_allclose(found, exact_area(pixels, 8, 6), atol=0.51)


def test_lanczos_is_that_of_pillow_and_both_antialias(tmp_path):
    pixels = RNG.integers(0, 256, [40, 40, 3], np.uint8)
    save(tmp_path / "a.png", pixels)
    expected = Image.fromarray(pixels).resize([12, 12], Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(images(tmp_path, size=(12, 12), resize="lanczos")[0], expected)
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    save(tmp_path / "a.png", np.repeat(stripes[..., None], 3, -1))
    for resize in photographs.FILTERS:
        assert np.abs(images(tmp_path, size=(8, 8), resize=resize) - 127.5)[:, 1:-1].max() < 12
    # Of one size, a picture stays as it is.
    save(tmp_path / "a.png", pixels)
    for resize in photographs.FILTERS:
        np.testing.assert_array_equal(images(tmp_path, size=(40, 40), resize=resize)[0], pixels)


def bars(height, width):
    """A picture whose columns, or rows if it is high, have the values 0, 1, 2, ..."""
    values = np.arange(max(height, width), dtype=np.uint8)
    values = values[:, None] if height > width else values[None]
    return np.broadcast_to(values[..., None], [height, width, 3]).copy()


def test_crops(tmp_path):
    for name, shape in (("a", (8, 21)), ("b", (21, 8)), ("c", (8, 8))):
        save(tmp_path / f"{name}.png", bars(*shape))
    wide, high, square = images(tmp_path, crop="center")
    assert wide[0, :, 0].tolist() == list(range(6, 14))
    assert high[:, 0, 0].tolist() == list(range(6, 14))
    assert square[0, :, 0].tolist() == list(range(8))
    whole = images(tmp_path, crop="none")[0]
    np.testing.assert_allclose(whole[0, :, 0], np.arange(8) * 21 / 8 + 10 / 8 - 0.5 + 0.06, atol=1)
    # Proportions of images that are no squares; a picture of these is not cropped.
    save(tmp_path / "a.png", bars(16, 32))
    assert images(tmp_path, size=(4, 8))[0, 0, :, 0].tolist() == [
        round(4 * i + 1.5) for i in range(8)
    ]


def starts(found):
    """First column of each crop of `bars(8, n)`."""
    first = found[:, 0, 0, 0].astype(int)
    np.testing.assert_array_equal(
        found[:, 0, :, 0] - first[:, None], np.tile(range(8), [len(found), 1])
    )
    return first.tolist()


def test_random_crops_are_a_function_of_seed_step_and_row(tmp_path, monkeypatch):
    for number in range(6):
        save(tmp_path / f"{number}.png", bars(8, 40))
    random = functools.partial(images, tmp_path, crop="random", repeat=True)
    whole = random(shuffle_seed=1, count=30)
    found = starts(whole)
    assert min(found) == 0 and max(found) == 32 and len(set(found)) > 25
    np.testing.assert_array_equal(random(shuffle_seed=1, count=30), whole)
    np.testing.assert_array_equal(random(shuffle_seed=1, start_step=11, count=2), whole[44:52])
    assert starts(random(shuffle_seed=2, count=30)) != found
    parts = [random(shuffle_seed=1, count=3, part=(i, 2)) for i in range(2)]
    rows = [part.reshape(3, 2, 8, 8, 3) for part in parts]
    np.testing.assert_array_equal(np.concatenate(rows, 1).reshape(-1, 8, 8, 3), whole[:12])
    # In the centre where the order is not random: what is scored.
    assert set(starts(images(tmp_path, crop="random"))) == {16}
    np.testing.assert_array_equal(images(tmp_path, crop="random"), images(tmp_path, crop="center"))
    flipped = random(shuffle_seed=1, count=30, flip=True)
    assert 40 < (flipped == whole).all((1, 2, 3)).sum() < 80
    monkeypatch.setattr(photographs, "_kept", {})
    monkeypatch.setattr(batching, "HELD_BYTES", 0)
    np.testing.assert_array_equal(random(shuffle_seed=1, start_step=11, count=2), whole[44:52])


@pytest.mark.parametrize(("crop", "channels"), [("center", 1), ("random", 3), ("none", 3)])
def test_streamed_pictures_are_those_that_are_held(tmp_path, monkeypatch, crop, channels):
    save_mixed(tmp_path, 14)
    (tmp_path / "train" / "b.png").write_bytes(b"text")
    options = {"crop": crop, "channels": channels, "size": (8, 4), "shuffle_seed": 3}
    for part in ((0, 1), (1, 2)):
        monkeypatch.setattr(photographs, "_kept", {})
        held = images(tmp_path, **options, repeat=True, count=6, part=part)
        with monkeypatch.context() as patch:
            patch.setattr(photographs, "_kept", {})
            patch.setattr(batching, "HELD_BYTES", 0)
            opened = load(tmp_path, **options, repeat=True, part=part)
            assert opened.num_examples == 14
            assert "14 pictures of " in opened.made
            streamed = np.concatenate(list(opened.dataset.take(6)))
        assert held.shape[1:] == streamed.shape[1:] == (8, 4, channels)
        if part == (0, 1):  # Shuffled in another way, the same in each step.
            assert opened.dataset.element_spec.shape == (4, 8, 4, channels)
            assert len(held) == len(streamed) == 24


@pytest.mark.parametrize("count", [30, pytest.param(300, marks=pytest.mark.slow)])
def test_a_folder_of_mixed_pictures(tmp_path, count):
    save_mixed(tmp_path, count)
    opened = load(tmp_path)
    assert (opened.num_examples, opened.event_shape, opened.num_levels) == (count, (8, 8, 3), 256)
    found = np.concatenate(list(opened.dataset))
    assert found.dtype == np.uint8 and found.std() > 10
    assert f"{count} pictures of " in opened.made
    assert "(height x width): cropped to squares, resized to 8x8 by area, in colour" in opened.made
    assert opened.names[0] == "train/000.jpg"
    grey = images(tmp_path, channels=1)
    assert grey.shape == (count, 8, 8, 1)


def test_modes_are_what_they_look_like(tmp_path):
    """Of one picture in every mode; 16 bits lose the lower 8, what is transparent is on white."""
    pixels = np.repeat(np.repeat(RNG.integers(0, 256, [2, 2, 3], np.uint8), 4, 0), 4, 1)
    colour, grey = Image.fromarray(pixels), Image.fromarray(pixels).convert("L")
    for mode, image in (
        ("RGB", colour),
        ("RGBA", colour.convert("RGBA")),
        ("P", colour.quantize(4)),
    ):
        save(tmp_path / mode / "a.png", image)
        np.testing.assert_array_equal(images(tmp_path / mode)[0], pixels)
        np.testing.assert_array_equal(images(tmp_path / mode, channels=1)[0, ..., 0], grey)
    save(tmp_path / "CMYK" / "a.tif", colour.convert("CMYK"))
    np.testing.assert_array_equal(images(tmp_path / "CMYK")[0], pixels)
    for mode in ("L", "LA"):
        save(tmp_path / mode / "a.png", grey.convert(mode))
        np.testing.assert_array_equal(images(tmp_path / mode)[0], np.stack([grey] * 3, -1))
    (tmp_path / "16").mkdir()
    wide = 257 * pixels.astype(int)
    (tmp_path / "16" / "a.png").write_bytes(png16(wide, 2))
    (tmp_path / "16" / "b.png").write_bytes(png16(wide[..., 0], 0))
    found = images(tmp_path / "16")
    np.testing.assert_array_equal(found[0], pixels)
    np.testing.assert_array_equal(found[1, ..., 1], pixels[..., 0])
    alpha = np.concatenate([pixels, np.zeros_like(pixels[..., :1])], -1)
    alpha[4:, ..., 3] = 255
    save(tmp_path / "alpha" / "a.png", alpha)
    found = images(tmp_path / "alpha")[0]
    assert (found[:4] == 255).all()
    np.testing.assert_array_equal(found[4:], pixels[4:])


def test_pictures_are_upright(tmp_path):
    exif, seen = turned(6)
    save(tmp_path / "a.png", COLOR, exif=exif)
    found = images(tmp_path, size=seen.shape[:2])[0]
    np.testing.assert_array_equal(found, seen)


def test_what_is_left_out_is_said_in_one_line(tmp_path, caplog, monkeypatch):
    save_mixed(tmp_path, 5)
    save(tmp_path / "train" / "frames.gif", GREY, **FRAMES)
    save(tmp_path / "train" / "panorama.png", np.zeros([2, 200], np.uint8))
    (tmp_path / "train" / "text.png").write_bytes(b"text")
    noise = save(tmp_path / "train" / "cut.jpg", RNG.integers(0, 256, [64, 64, 3], np.uint8))
    noise.write_bytes(noise.read_bytes()[:900])
    save(tmp_path / "train" / "notes.txt.png", GREY).rename(tmp_path / "train" / "notes.txt")
    opened = load(tmp_path)
    assert opened.num_examples == 5 and len(opened.names) == 5
    lines = [
        r.getMessage() for r in caplog.records if "pictures that can't be read" in r.getMessage()
    ]
    (line,) = lines
    assert "left out 4 of 9 pictures that can't be read: `train/cut.jpg`: damaged" in line
    assert "`train/frames.gif`: 2 frames" in line and "`train/panorama.png`: over 64 times" in line
    for path in (tmp_path / "train").iterdir():
        path.write_bytes(b"text")
    with pytest.raises(ValueError, match="must hold pictures. Received: 9 that can't be read"):
        load(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    save(tmp_path / "huge" / "a.png", COLOR)
    with pytest.raises(ValueError, match="`a.png`: over 20 pixels"):
        load(tmp_path / "huge")


def test_what_is_made_is_said(tmp_path):
    preparation = functools.partial(Preparation, 64, 64, 3)
    assert preparation().describe_all(300, [(100, 80), (3000, 4000), (400, 300)]) == (
        "300 pictures of 100x80 to 3000x4000 (height x width): cropped to squares, resized to "
        "64x64 by area, in colour"
    )
    assert preparation("random", "lanczos").describe_all(2, [(32, 20), (90, 90)]) == (
        "2 pictures of 32x20 to 90x90 (height x width): cropped at random to squares, resized to "
        "64x64 by lanczos, in colour, 1 of them enlarged"
    )
    assert Preparation(32, 64, 1, "none").describe_all(1, [(64, 64)]) == (
        "1 picture of 64x64 (height x width): in whole, resized to 32x64 by area, in grey"
    )
    assert "7 pictures: cropped to 32:64, resized" in Preparation(32, 64, 1).describe_all(7)


@pytest.mark.parametrize("crop", ["random", "none"])
def test_sets_of_tfds_and_arrays(prepared, tmp_path, crop, monkeypatch):
    options = {"crop": crop, "size": (3, 3), "channels": 1, "data_dir": prepared, "batch_size": 9}
    held = load("trainers_test_pictures", "uneven", **options)
    assert held.event_shape == (3, 3, 1)
    assert "10 pictures of 4x5 to 4x6 " in held.made
    with monkeypatch.context() as patch:
        patch.setattr(photographs, "_kept", {})
        patch.setattr(batching, "HELD_BYTES", 0)
        streamed = load("trainers_test_pictures", "uneven", **options)
        assert streamed.num_examples == held.num_examples
        for one, other in zip(held.dataset, streamed.dataset, strict=True):
            np.testing.assert_array_equal(one, other)
    pixels = RNG.integers(0, 256, [5, 9, 12, 3], np.uint8)
    np.savez(tmp_path / "a.npz", train=pixels)
    for number, picture in enumerate(pixels):
        save(tmp_path / "pictures" / f"{number}.png", picture)
    for channels in (1, 3):
        options = {"crop": crop, "size": (3, 3), "channels": channels}
        found = images(tmp_path / "a.npz", **options)
        np.testing.assert_array_equal(found, images(tmp_path / "pictures", **options))
    assert load(tmp_path / "a.npz", "train[1:3]").num_examples == 2


@pytest.mark.parametrize("text", ["0", "64x", "x64", "64x0", "-3", "64x64x3", "a", "1e3", ""])
def test_sizes_that_are_none(text):
    with pytest.raises(ValueError, match=r"number of pixels, or height x width.*--image_size="):
        photographs.parse_size(text)


def test_sizes_and_preparations():
    assert photographs.parse_size("64") == (64, 64)
    assert photographs.parse_size("64x96") == (64, 96)
    stored = Preparation(64, 96, 3, "random", "lanczos")
    assert photographs.from_json(stored.to_json(), (64, 96, 3), {}) == stored
    changed = photographs.from_json(stored.to_json(), (64, 96, 1), {"crop": "none"})
    assert changed == Preparation(64, 96, 1, "none", "lanczos")
    assert photographs.from_json({}, (8, 8, 1), {}) == Preparation(8, 8, 1)
    for content in (
        [],
        {"size": 3},
        {"image_size": 64},
        {"image_size": [1e9, 3]},
        {"image_size": [1 << 20, 3]},
        {"crop": ["center"]},
        {"resize": "nearest"},
    ):
        with pytest.raises(ValueError, match="must"):
            photographs.from_json(content, (8, 8, 1), {})


@pytest.mark.parametrize("name", ["digits", "checkerboard", "mog4"])
def test_what_is_no_picture_has_no_image_size(name):
    with pytest.raises(ValueError, match=f"is for pictures of 8 bits.*Received: {name}"):
        load(name)


@pytest.mark.data
def test_photographs_of_faces():
    path = "/work/shared/data/ffhq1024_10.npz"
    found = images(path, size=(128, 128), batch_size=10)
    assert found.shape == (10, 128, 128, 3)
    whole = np.load(path)["images"].reshape(10, 128, 8, 128, 8, 3).mean((2, 4))
    np.testing.assert_allclose(found, whole, atol=0.51)
