"""Image files as arrays of 8 bits: bit by bit as they are, or as pictures to be resized.

`read`, of images as they are: grey and colour of 8 bits, and what becomes one of these without a
loss: black and white, fewer bits, palettes, an alpha channel that is opaque everywhere.

`read_picture`, of pictures that will change anyway: these, and what has more bits, other colours or
transparent pixels.

Both turn them as their EXIF orientation says. Colour profiles are not applied.
"""

import contextlib
import functools
import warnings
from collections.abc import Iterator
from typing import BinaryIO

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

# Of what is merely large; at twice that size Pillow raises an error.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


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
        sides = (width, height) if _is_turned(image) else (height, width)
        return *sides, _channels(image)


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


def picture_size(file: str | BinaryIO) -> tuple[int, int]:
    """Returns height and width of a picture, as it is to be seen, from the head of its file.

    Raises:
        Unreadable: if it is no picture that `read_picture` reads.
    """
    with _opened(file, _unknown) as image:
        width, height = image.size
        return (width, height) if _is_turned(image) else (height, width)


def read_picture(file: str | BinaryIO, channels: int) -> Image.Image:
    """Returns a picture in grey or colour, of 8 bits a channel.

    Of more bits the highest are kept. Transparent pixels are on white. Colours become grey as
    Pillow's `convert("L")` has it (ITU-R 601), and grey all three colours.

    Args:
        file: a path, or a file open for reading.
        channels: 1 for grey, 3 for colour.

    Raises:
        Unreadable: if it is no image, several of them, damaged, or of 32 bits a channel.
    """
    with _opened(file, _unknown) as image:
        orientation = _orientation(image, type(image).getexif)
        image.load()
        if image.format == "TIFF":  # Pillow has turned it.
            orientation = 1
        picture = as_picture(image, channels)
        return picture.transpose(_TURNS[orientation]) if orientation in _TURNS else picture


def as_picture(image: Image.Image, channels: int) -> Image.Image:
    """Returns an image of any mode in grey or colour, see `read_picture`."""
    if image.mode.startswith("I"):  # Of 16 bits, which Pillow would cut off at 255.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    return image.convert("L") if channels == 1 else image


def _unknown(image: Image.Image) -> str | None:
    """Says why a picture can't be read even if pixels may change; `None` if it can."""
    if image.format != "MPO" and getattr(image, "is_animated", False):
        return f"{image.n_frames} frames or pages; make each an image"
    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        return "32 bits a channel; make them 8"
    if image.mode == "LAB":
        return "mode LAB; make it 8-bit grey or RGB"
    if image.format == "TIFF" and _is_strange(image):
        return "samples that are signed or too many; make it 8-bit grey or RGB"
    return None


@contextlib.contextmanager
def _opened(file: str | BinaryIO, check=None) -> Iterator[Image.Image]:
    """Opens an image in which `check` finds no fault; by default, one to be read without a loss."""
    by_name = isinstance(file, str) and file.lower().endswith(suffixes(_BY_NAME))
    try:
        with contextlib.ExitStack() as stack:
            # Not by its name: Pillow would map some TIFF files into memory, and not turn them.
            opened = stack.enter_context(open(file, "rb")) if isinstance(file, str) else file
            formats = _BY_NAME if by_name else _FORMATS
            image = stack.enter_context(Image.open(opened, formats=formats))
            if fault := (check or _loss)(image):
                raise Unreadable(fault)
            yield image
    except Unreadable:
        raise
    except Image.UnidentifiedImageError:
        raise Unreadable("no image, or one of a format that is not read") from None
    except Image.DecompressionBombError:
        raise Unreadable(f"over {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels") from None
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
    if image.format == "TIFF" and _is_strange(image):
        samples, kinds = image.tag_v2.get(277, 1), image.tag_v2.get(339, (1,))
        return f"{samples} samples a pixel, of kinds {kinds}; make it 8-bit grey or RGB"
    return None


def _is_strange(image: Image.Image) -> bool:
    """Whether a TIFF has signed numbers, which are read as others, or more than is read."""
    kinds, samples = image.tag_v2.get(339, (1,)), image.tag_v2.get(277, 1)
    return bool(set(kinds) - {1, 4}) or samples > len(image.getbands())


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


def _is_turned(image: Image.Image) -> bool:
    """Whether an image is to be seen with its sides exchanged; Pillow has done so for TIFF."""
    # As `getexif`, but that of PNG decodes the image to find what may come after it.
    return image.format != "TIFF" and _orientation(image, Image.Image.getexif) in (5, 6, 7, 8)


def _orientation(image: Image.Image, exif) -> int:
    try:
        return int(exif(image).get(_ORIENTATION, 1))
    except Exception:  # Damaged metadata are no damage to the image.
        return 1
