"""Image files as people have them: every pixel as it is, or an error."""

import struct

import numpy as np
import pytest
from PIL import Image

from tests.trainers.data.image_sets import COLOR, FRAMES, GREY, WIDE, make, png16, save, turned
from trainers.data import image_files


@pytest.mark.parametrize("orientation", range(10))  # 0 and 9 are none.
@pytest.mark.parametrize("suffix", ["png", "webp", "tiff", "jpg"])
def test_exif_orientation(tmp_path, orientation, suffix):
    exif, expected = turned(orientation)
    path = str(save(tmp_path / f"a.{suffix}", COLOR, exif=exif, **QUALITY[suffix]))
    assert image_files.shape(path) == expected.shape
    found = image_files.read(path).astype(int)
    if suffix == "jpg":  # Nearer to the right one than to any other.
        others = [turned(k)[1] for k in range(2, 9) if k != orientation]
        others = [np.abs(found - o).mean() for o in others if o.shape == found.shape]
        assert np.abs(found - expected).mean() < min(others)
    else:
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(image_files.read_picture(path, 3), found)
    # Of one channel, which Pillow reads from a TIFF file in another way.
    path = str(save(tmp_path / f"grey.{suffix}", COLOR[..., 0], exif=exif, **QUALITY[suffix]))
    assert image_files.picture_size(path) == expected.shape[:2]
    grey = image_files.read_picture(path, 1)
    if suffix != "jpg":
        np.testing.assert_array_equal(grey, expected[..., 0])
    np.testing.assert_array_equal(image_files.read(path)[..., 0], grey)


QUALITY = {
    "png": {},
    "tiff": {},
    "webp": {"lossless": True},
    "jpg": {"quality": 100, "subsampling": 0},
}
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


def tiff16(pixels):
    """A TIFF of 16 bits a channel, colour."""
    height, width, channels = pixels.shape
    entries = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, 8), (262, 3, 1, 2)]
    entries += [(273, 4, 1, 14), (277, 3, 1, channels), (279, 4, 1, pixels.size * 2)]
    content = b"II*\0" + struct.pack("<I", 14 + pixels.size * 2) + struct.pack("<3H", 16, 16, 16)
    content += pixels.astype("<u2").tobytes() + struct.pack("<H", len(entries))
    return content + b"".join(struct.pack("<HHII", *e) for e in entries) + bytes(4)


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
