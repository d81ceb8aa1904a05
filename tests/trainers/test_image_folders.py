"""Folders and .npz files as people have them: every pixel as it is, no test image trained on."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from trainers.data import batching, image_files, image_paths, loading, split_names

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, [4, 6], np.uint8)
COLOR = RNG.integers(0, 256, [4, 6, 3], np.uint8)


@pytest.fixture(autouse=True)
def said_anew():
    """What is left out is said once a process."""
    image_paths.say.cache_clear()


def save(path, pixels=GREY, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


def make(root, *names):
    """Saves an image for each name, whose pixels are its number."""
    for number, name in enumerate(names):
        save(root / name, np.full([2, 3], number, np.uint8))
    return root


def numbers(root, split="train"):
    """Returns the numbers of the images in a split, in order."""
    opened = loading.load(f"folder:{root}", split, batch_size=100)
    return next(opened.dataset.as_numpy_iterator())[:, 0, 0, 0].tolist()


# Splits.


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("cats dogs/old", "train train"),
        ("train val", "train validation"),
        ("train valid test", "train validation test"),
        ("Train Test", "train test"),
        ("TRAIN DEV TEST", "train validation test"),
        ("training testing validation", "train test validation"),
        ("x_train x_test", "train test"),
        ("xtrain Xtest", "train test"),
        ("train_images test-images valImages", "train test validation"),
        ("train2017 val2017 test2017", "train validation test"),
        ("DIV2K_train_HR DIV2K_valid_HR", "train validation"),
        ("train/cat train/dog test/cat test/dog", "train train test test"),
        ("cat/train cat/test dog/train dog/test", "train test train test"),
        ("images/train images/val labels", "train validation -"),
        ("train_val_test/train train_val_test/test", "train test"),
        ("train/train test/train", "train test"),  # A class that is named so.
        ("train test extra", "train test -"),
        ("train test eval", "train test -"),
        (". train test", "- train test"),
        ("train", "train"),
        ("test", "test"),
    ],
)
def test_what_names_say_about_splits(names, expected):
    paths = [tuple(filter(".".__ne__, name.split("/"))) for name in names.split()]
    found = split_names.divide(paths, "root", "remedy")
    assert [split or "-" for split in found] == expected.split()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("train car plane", "`train` is a split, and `car` beside it is in none"),
        ("test cats", "`test` is a split, and `cats` beside it is in none"),
        (". Test", "`Test` is a split, and `.` beside it is in none"),
        ("validation test cats", "`cats` beside it is in none"),
        ("trainval test", "`trainval` beside it is in none"),
        ("eval", "`eval` may be for training or for tests"),
        ("trainA trainB testA testB", "`trainA` and `trainB` may both be for `train`"),
        ("train val valid", "`val` and `valid` may both be for `validation`"),
        ("train/test train/cats", "`train/test` is in two splits"),
        ("train old/test", "`train` and `old/test` are splits at two levels"),
        ("bullet_train test_tube cat", "`cat` beside it is in none"),
    ],
)
def test_names_that_are_not_clear_are_asked_about(names, message):
    paths = [tuple(filter(".".__ne__, name.split("/"))) for name in names.split()]
    with pytest.raises(ValueError, match="`root` must say what to train on: ") as error:
        split_names.divide(paths, "root", "Remedy")
    assert message in str(error.value)
    assert str(error.value).endswith(". Remedy.")


def test_folders_of_any_names_are_splits(tmp_path):
    make(tmp_path, "Training/a.png", "Training/b.png", "TEST/a.png", "Valid/x/a.png", "extra/a.png")
    assert [numbers(tmp_path, split) for split in ("train", "validation", "test")] == [
        [0, 1],
        [3],
        [2],
    ]
    assert loading.has_split(str(tmp_path), "validation")
    assert not loading.has_split(str(tmp_path / "extra"), "validation")


@pytest.mark.parametrize(
    "names",
    [
        ("train_0.png", "test_0.png"),
        ("a/Train1.png", "b/val1.png"),
        ("0.png", "test.txt"),
        ("0.png", "meta/train_test_split.csv"),
    ],
)
def test_splits_in_names_of_files_are_asked_about(tmp_path, names):
    for name in names:
        if name.endswith("png"):
            save(tmp_path / name)
        else:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text("0.png")
    with pytest.raises(ValueError, match=r"must say what to train on.* may tell of splits"):
        numbers(tmp_path)
    if names[0] == "0.png":
        (tmp_path / "train").mkdir()
        (tmp_path / "0.png").rename(tmp_path / "train" / "0.png")
        assert len(numbers(tmp_path)) == 1


PIXELS = RNG.integers(0, 256, [3, 4, 6], np.uint8)
LABELS = np.arange(3)


@pytest.mark.parametrize(
    ("splits", "others"),
    [
        ({"train": "x_train", "test": "x_test"}, {"y_train": LABELS, "y_test": LABELS}),
        ({"train": "train_images", "validation": "val_images"}, {"train_labels": LABELS}),
        ({"train": "Train", "test": "Test"}, {"y_test": PIXELS}),
        ({"train": "training/x", "test": "testing/x"}, {}),
        ({"train": "x_train", "test": "x_test"}, {"extra": PIXELS}),
        ({"train": "images"}, {"masks": PIXELS, "names": np.array([{}])}),
    ],
)
def test_npz_keys_of_splits(tmp_path, splits, others):
    arrays = {key: PIXELS + number for number, key in enumerate(splits.values(), 1)}
    np.savez(tmp_path / "a.npz", **others, **arrays)
    for split, key in splits.items():
        opened = loading.load(str(tmp_path / "a.npz"), split, batch_size=3)
        assert (next(iter(opened.dataset)).numpy()[..., 0] == arrays[key]).all()
    with pytest.raises(ValueError, match="Unknown split 'nothing'"):
        loading.load(str(tmp_path / "a.npz"), "nothing", batch_size=1)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": PIXELS, "test_images": PIXELS}, "`test_images` is a split, and `images`"),
        ({"train": PIXELS, "masks": PIXELS}, "`train` is a split, and `masks` beside it"),
        ({"x_train": PIXELS, "images_train": PIXELS}, "may both be for `train`"),
        ({"images": PIXELS, "test_idx": LABELS}, "`test_idx` may divide `images`"),
        ({"images": PIXELS, "split": LABELS}, "`split` may divide `images`"),
        ({"x_train": LABELS, "x_test": LABELS}, r"key `x_train`, must be images .*shape=\(3,\)"),
        ({"train": np.array([{}])}, "key `train`, must be a plain array. Received: Python objects"),
        ({"train": PIXELS / 255}, r"dtype=float64. Store 8-bit values: .* `np.round\(255"),
    ],
)
def test_npz_that_is_not_clear(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        loading.load(str(tmp_path / "a.npz"), "train", batch_size=1)


# Which files.


def test_what_is_hidden_is_not_read(tmp_path, caplog):
    hidden = (".ipynb_checkpoints/a.png", ".thumbnails/x/a.png", "__MACOSX/a.png", "@eaDir/a.png")
    make(tmp_path, "a.png", "b/a.png", "._a.png", "b/.a.png", *hidden)
    (tmp_path / ".DS_Store").write_bytes(b"")
    (tmp_path / "b" / ".git").mkdir()
    assert numbers(tmp_path) == [0, 1]
    assert numbers(tmp_path, "train[1:]") == [1]
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == f"`{tmp_path}`: left out 6 hidden (`._a.png`)."


def test_what_is_left_out_is_said_in_one_line(tmp_path, caplog):
    make(tmp_path, "train/a.png", "test/a.png", "extra/a.png", "extra/b.png")
    for name in ("train/a.txt", "b.heic", "c.heic", "README"):
        (tmp_path / name).write_text("")
    os.mkfifo(tmp_path / "pipe.png")
    assert numbers(tmp_path) == [0]
    (line,) = [record.getMessage() for record in caplog.records]
    assert "\n" not in line
    for part in (
        "2 .heic (`b.heic`)",
        "1 .txt (`train/a.txt`)",
        "1 without a suffix (`README`)",
        "1 not regular files (`pipe.png`)",
        "2 in no split (`extra/a.png`)",
    ):
        assert part in line


def test_links_are_followed_without_loops(tmp_path, caplog):
    root = make(tmp_path / "root", "a.png", "b/a.png")
    elsewhere = make(tmp_path / "elsewhere", "y/x.png")
    save(elsewhere / "z.png", np.full([2, 3], 7, np.uint8))
    (root / "c").symlink_to(elsewhere)  # Read.
    (root / "d.png").symlink_to("a.png")  # Read: a name of its own.
    (root / "b" / "up").symlink_to(root)  # A loop.
    (root / "b2").symlink_to("b")  # The same images again.
    opened = loading.load(str(root), "train", batch_size=9)
    assert opened.names == ("a.png", "b/a.png", "c/y/x.png", "c/z.png", "d.png")
    (line,) = [record.getMessage() for record in caplog.records]
    assert "links to a folder that they are in (`b/up`)" in line
    assert "that a link leads to once more (`b2/a.png`)" in line


def test_splits_that_are_links(tmp_path):
    root = make(tmp_path, "all/0.png", "all/1.png", "all/2.png")
    for name, split in (("0", "train"), ("1", "train"), ("2", "test")):
        (root / split).mkdir(exist_ok=True)
        (root / split / f"{name}.png").symlink_to(root / "all" / f"{name}.png")
    assert numbers(root) == [0, 1]
    assert numbers(root, "test") == [2]
    (root / "train" / "again.png").hardlink_to(root / "all" / "2.png")
    with pytest.raises(ValueError, match=r"in one split. Received: `test/2.png` and `train/again."):
        numbers(root)


def test_a_link_to_nothing_is_named(tmp_path):
    make(tmp_path, "a.png")
    (tmp_path / "b.png").symlink_to("nothing")
    with pytest.raises(ValueError, match=r"1 of 2 .*: `b.png`: No such file or directory"):
        numbers(tmp_path)


@pytest.mark.parametrize("streamed", [False, True])
def test_names_that_are_no_unicode(tmp_path, streamed, monkeypatch):
    make(tmp_path, "a.png")
    os.rename(tmp_path / "a.png", os.fsencode(tmp_path) + b"/caf\xe9.png")
    if streamed:
        monkeypatch.setattr(batching, "HELD_BYTES", 0)
    assert numbers(tmp_path) == [0]
    assert loading.load(str(tmp_path), "train", batch_size=1).names == (r"caf\xe9.png",)
    with open(os.fsencode(tmp_path) + b"/caf\xe9.png", "wb"):
        pass
    with pytest.raises(ValueError, match=r"`caf\\xe9.png`: no image"):
        numbers(tmp_path)


# Pixels.


def turned(orientation):
    """An image as a camera writes it, and as it is to be seen."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    seen = {
        1: COLOR,
        2: COLOR[:, ::-1],
        3: COLOR[::-1, ::-1],
        4: COLOR[::-1],
        5: COLOR.swapaxes(0, 1),
        6: np.rot90(COLOR, -1),
        7: np.rot90(COLOR, 2).swapaxes(0, 1),
        8: np.rot90(COLOR),
    }
    return exif, seen[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "webp", "tiff", "jpg"])
def test_exif_orientation(tmp_path, orientation, suffix):
    exif, expected = turned(orientation)
    path = str(save(tmp_path / f"a.{suffix}", COLOR, exif=exif, **QUALITY.get(suffix, {})))
    assert image_files.shape(path) == expected.shape
    found = image_files.read(path).astype(int)
    if suffix == "jpg":  # Nearer to the right one than to any other.
        others = [np.abs(found - turned(k)[1]).mean() for k in range(1, 9) if k != orientation
                  and turned(k)[1].shape == found.shape]  # fmt: skip
        assert np.abs(found - expected).mean() < min(others)
    else:
        np.testing.assert_array_equal(found, expected)


def test_upright_and_turned_portraits_have_one_shape(tmp_path):
    exif, portrait = turned(6)
    save(tmp_path / "a.png", COLOR, exif=exif)
    save(tmp_path / "b.png", portrait)
    first, second = next(iter(loading.load(str(tmp_path), "train", batch_size=2).dataset)).numpy()
    np.testing.assert_array_equal(first, second)


QUALITY = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}
PALETTE = Image.fromarray(COLOR).quantize(8)
OPAQUE = np.dstack([COLOR, np.full([4, 6], 255, np.uint8)])


@pytest.mark.parametrize(
    ("name", "pixels", "expected"),
    [
        *[(f"a.{s}", COLOR, COLOR) for s in ("png", "PNG", "webp", "bmp", "dib", "tif", "tiff")],
        *[(f"a.{s}", COLOR, COLOR) for s in ("ppm", "pnm", "tga", "pcx", "qoi")],
        *[(f"a.{s}", GREY, GREY) for s in ("png", "bmp", "tif", "pgm", "tga", "gif", "pcx")],
        *[(f"a.{s}", PALETTE, np.asarray(PALETTE.convert("RGB"))) for s in ("gif", "png", "tif")],
        *[(f"a.{s}", GREY > 99, 255 * (GREY > 99)) for s in ("png", "gif", "tif", "pbm", "bmp")],
        *[(f"a.{s}", OPAQUE, COLOR) for s in ("png", "webp", "tif", "tga")],
        ("a.png", np.dstack([GREY, np.full_like(GREY, 255)]), GREY),
        ("a.png", Image.fromarray(GREY).convert("P"), GREY),
    ],
)
def test_formats_that_lose_nothing(tmp_path, name, pixels, expected):
    path = str(save(tmp_path / name, pixels, **QUALITY.get(name[2:], {})))
    expected = np.atleast_3d(expected)
    assert image_files.shape(path) == expected.shape
    np.testing.assert_array_equal(image_files.read(path), expected)


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "jfif", "JPE"])
@pytest.mark.parametrize("pixels", [GREY, COLOR], ids=["grey", "color"])
def test_jpegs_are_what_pillow_says(tmp_path, suffix, pixels):
    path = str(save(tmp_path / f"a.{suffix}", pixels, format="JPEG"))
    expected = np.atleast_3d(np.asarray(Image.open(path)))
    np.testing.assert_array_equal(image_files.read(path), expected)


def test_a_picture_with_others_in_its_file_as_phones_write_it(tmp_path):
    pixels = [Image.fromarray(255 - COLOR), Image.fromarray(COLOR)]
    path = tmp_path / "a.jpg"
    pixels[0].save(path, format="MPO", save_all=True, append_images=pixels[1:])
    save(tmp_path / "b.jpg", pixels[0])
    np.testing.assert_array_equal(
        *(image_files.read(str(tmp_path / n)) for n in ("a.jpg", "b.jpg"))
    )


def png16(pixels, kind):
    """A PNG of 16 bits, which Pillow does not write."""

    def chunk(name, content):
        code = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", code)

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def tiff16(pixels):
    """A TIFF of 16 bits a channel, colour."""
    height, width, channels = pixels.shape
    entries = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, 8), (262, 3, 1, 2)]
    entries += [(273, 4, 1, 14), (277, 3, 1, channels), (279, 4, 1, pixels.size * 2)]
    content = b"II*\0" + struct.pack("<I", 14 + pixels.size * 2) + struct.pack("<3H", 16, 16, 16)
    content += pixels.astype("<u2").tobytes() + struct.pack("<H", len(entries))
    return content + b"".join(struct.pack("<HHII", *e) for e in entries) + bytes(4)


WIDE = RNG.integers(0, 65536, [4, 6, 4])
FRAMES = {"save_all": True, "append_images": [Image.fromarray(255 - GREY)]}
CLEAR = OPAQUE.copy()
CLEAR[0, 0, 3] = 254


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("rgb.png", png16(WIDE[..., :3], 2), {}, "16 bits a channel; make them 8"),
        ("rgba.png", png16(WIDE, 6), {}, "16 bits"),
        ("grey.png", png16(WIDE[..., 0], 0), {}, "16 bits"),
        ("grey_alpha.png", png16(WIDE[..., :2], 4), {}, "16 bits"),
        ("a.ppm", b"P6 6 4 65535\n" + bytes(6 * 4 * 6), {}, "16 bits"),
        ("a.ppm", b"P6 6 4 1023\n" + bytes(6 * 4 * 6), {}, "10 bits"),
        ("a.tif", tiff16(WIDE[..., :3]), {}, "16 bits"),
        ("a.tif", WIDE[..., 0].astype(np.uint16), {}, "16 bits"),
        ("a.tif", GREY.astype(np.float32), {}, "32 bits"),
        ("a.tif", GREY.astype(np.int32), {}, "32 bits"),
        ("a.gif", GREY, FRAMES, "2 frames or pages; make each an image"),
        ("a.png", GREY, FRAMES, "2 frames"),
        ("a.webp", COLOR, FRAMES, "2 frames"),
        ("a.tif", GREY, FRAMES, "2 frames"),
        ("a.jpg", Image.fromarray(COLOR).convert("CMYK"), {}, "mode CMYK; make it 8-bit grey"),
        ("a.tif", Image.fromarray(COLOR).convert("LAB"), {}, "mode LAB"),
        ("a.png", CLEAR, {}, "transparent pixels; put it on a background"),
        ("a.gif", PALETTE, {"transparency": 0}, "transparent pixels"),
        ("a.png", GREY, {"transparency": int(GREY[0, 0])}, "transparent pixels"),
        ("a.png", b"", {}, "no image, or one of a format that is not read"),
        ("a.png", b"<html></html>", {}, "no image"),
    ],
)
def test_what_would_lose_something_is_refused(tmp_path, name, content, options, message):
    make(tmp_path, "other.png")
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        save(tmp_path / name, content, **options)
    with pytest.raises(image_files.Unreadable, match=message):
        image_files.read(str(tmp_path / name))


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


# What is no set of images.


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("photo.png", "It is one image: name the folder it is in"),
        ("a.npy", r"Write one: `np.savez\('.*a.npz', train=np.load\('.*a.npy'\)\)`"),
        ("table.csv", r"np.savez\('images.npz', train=images\).* Other data are for `tfflows.Flow"),
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


def test_npz_by_name_only(tmp_path):
    path = tmp_path / "a.npz"
    with open(path, "wb") as file:
        np.save(file, PIXELS)
    with pytest.raises(ValueError, match=r"It is a .npy file: `np.savez\("):
        loading.load(str(path), "train", batch_size=1)
    np.savez(path, PIXELS)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="It is cut short: copy or download it again"):
        loading.load(str(path), "train", batch_size=1)


@pytest.mark.parametrize("name", ["", "folder:"])
def test_no_name_is_not_this_folder(name):
    with pytest.raises((ValueError, FileNotFoundError), match=f"name={name!r}"):
        loading.load(name, "train", batch_size=1)


def test_empty_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must hold images .*Received: an empty folder"):
        numbers(tmp_path)
    (tmp_path / "a.heic").write_bytes(b"")
    (tmp_path / "test").mkdir()
    with pytest.raises(FileNotFoundError, match=r"Received: 1 .heic \(`a.heic`\)"):
        numbers(tmp_path)


def test_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    make(tmp_path / "photos", "a.png")
    for name in ("~/photos", "folder:~/photos"):
        assert loading.load(name, "train", batch_size=1).num_examples == 1
