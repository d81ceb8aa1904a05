"""Image files as arrays of 8 bits, bit by bit as they are, or an error.

Grey and colour images of 8 bits are read as they are, and so is what becomes one of these without a
loss: black and white, fewer bits, palettes, an alpha channel that is opaque everywhere. They are
turned as their EXIF orientation says. Colour profiles are not applied.
"""

import contextlib
import functools
from collections.abc import Iterator

import numpy as np
from PIL import Image

# Of what Pillow reads; not those of which it says too little (AVIF, JPEG 2000 and SGI may have more
# than 8 bits), nor drawings, nor files of several sizes.
_FORMATS = ("BMP", "DIB", "GIF", "JPEG", "PCX", "PNG", "PPM", "QOI", "TIFF", "WEBP")
_BY_NAME = ("TGA",)  # Which has no mark: any file may look like one.
_CHANNELS = {"1": 1, "L": 1, "LA": 1, "RGB": 3, "RGBA": 3}
_ORIENTATION = 0x0112  # EXIF; and TIFF, where Pillow follows it.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Unreadable(ValueError):
    """Says why a file is not read, or not without a loss; not which."""


@functools.cache
def suffixes(formats: tuple[str, ...] = (*_FORMATS, *_BY_NAME, "MPO")) -> tuple[str, ...]:
    """Returns the ends of names, `.png` and so on, of the files that are read."""
    known = Image.registered_extensions()
    return tuple(sorted(suffix for suffix, name in known.items() if name in formats))


def shape(path: str) -> tuple[int, int, int]:
    """Returns height, width and channels of an image, from the head of its file.

    Raises:
        Unreadable: if it is no image, or can't be read without a loss.
    """
    with _opened(path) as image:
        width, height = image.size
        # As `getexif`, but that of PNG decodes the image to find what may come after it.
        turned = image.format != "TIFF" and _orientation(image, Image.Image.getexif) >= 5
        return (width, height, _channels(image)) if turned else (height, width, _channels(image))


def read(path: str) -> np.ndarray:
    """Returns an image as `uint8` `[height, width, channels]`.

    Raises:
        Unreadable: as `shape`; or if the file is damaged, or pixels of the image are transparent.
    """
    with _opened(path) as image:
        channels, orientation = _channels(image), _orientation(image, type(image).getexif)
        image.load()
        if image.format == "TIFF":
            orientation = 1
        if image.has_transparency_data:
            image = image.convert("RGBA")
            if image.getextrema()[3][0] < 255:
                raise Unreadable("transparent pixels; put it on a background")
        image = image.convert("L" if channels == 1 else "RGB")
        if orientation in _TURNS:
            image = image.transpose(_TURNS[orientation])
        return np.asarray(image).reshape(image.height, image.width, channels)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[Image.Image]:
    """Opens an image that can be read without a loss."""
    formats = _BY_NAME if path.lower().endswith(suffixes(_BY_NAME)) else _FORMATS
    try:
        with Image.open(path, formats=formats) as image:
            if loss := _loss(image):
                raise Unreadable(loss)
            yield image
    except Unreadable:
        raise
    except Image.UnidentifiedImageError:
        raise Unreadable("no image, or one of a format that is not read") from None
    except Exception as error:  # Pillow raises many kinds for what is damaged.
        system = isinstance(error, OSError) and error.strerror
        why = system or f"damaged, {' '.join(str(error).split()) or type(error).__name__}"
        raise Unreadable(why) from None


def _loss(image: Image.Image) -> str | None:
    """Says what would be lost of an image; `None` if nothing."""
    if image.format != "MPO" and getattr(image, "is_animated", False):  # Of MPO, one is the image.
        return f"{image.n_frames} frames or pages; make each an image"
    if (bits := _bits(image)) > 8:
        return f"{bits} bits a channel; make them 8"
    if image.mode != "P" and image.mode not in _CHANNELS:
        return f"mode {image.mode}; make it 8-bit grey or RGB"
    if image.format == "TIFF":
        kinds = image.tag_v2.get(339, (1,))  # Signed numbers are read as others.
        samples = image.tag_v2.get(277, 1)
        if set(kinds) - {1, 4} or samples > len(image.getbands()):
            return f"{samples} samples a pixel, of kinds {kinds}; make it 8-bit grey or RGB"
    return None


def _bits(image: Image.Image) -> int:
    """Bits a channel, in the file: Pillow makes images of 16 bits such of 8, but for grey ones."""
    if image.mode in ("I", "F"):
        return 32 if image.format != "PPM" else 16
    if image.format == "TIFF":
        return max(image.tag_v2.get(258, (1,)))
    (_, _, _, how), *_ = image.tile or [(None, None, None, "")]
    if image.format == "PPM" and not isinstance(how, str):
        return how[1].bit_length()
    return 16 if image.mode.startswith("I;16") or (image.format == "PNG" and "16" in how) else 8


def _channels(image: Image.Image) -> int:
    if image.mode != "P":
        return _CHANNELS[image.mode]
    colors = np.array(image.getpalette("RGB")).reshape(-1, 3)
    return 1 if (colors == colors[:, :1]).all() else 3


def _orientation(image: Image.Image, exif) -> int:
    try:
        return int(exif(image).get(_ORIENTATION, 1))
    except Exception:  # Damaged metadata are no damage to the image.
        return 1
