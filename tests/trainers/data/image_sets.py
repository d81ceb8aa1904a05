"""Images, how to save them and how to load what is saved."""

import struct
import zlib

import numpy as np
from PIL import Image

from trainers.data import loading


def batches(name, split="train", *, count=None, **kwargs):
    dataset = loading.load(name, split, **kwargs).dataset
    return list((dataset if count is None else dataset.take(count)).as_numpy_iterator())


def images(name, split="train", **kwargs):
    return np.concatenate(batches(name, split, batch_size=4, **kwargs))


RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, [4, 6], np.uint8)
COLOR = RNG.integers(0, 256, [4, 6, 3], np.uint8)


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
    return exif, seen.get(orientation, COLOR)


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


WIDE = RNG.integers(0, 65536, [4, 6, 4])
FRAMES = {"save_all": True, "append_images": [Image.fromarray(255 - GREY)]}


MODES = ("L", "RGB", "P", "RGBA", "LA", "CMYK", "1")


def save_mixed(root, count, seed=0):
    """Saves pictures of many sizes, modes, formats and orientations."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        height, width = rng.integers(5, 60, 2)
        pixels = rng.integers(0, 256, [height, width, 3], np.uint8)
        mode, exif = MODES[number % len(MODES)], Image.Exif()
        exif[0x0112] = int(rng.integers(1, 9))
        suffix = "jpg" if mode in ("CMYK", "RGB", "L") else "png"
        image = Image.fromarray(pixels).convert(mode)
        save(root / "train" / f"{number:03d}.{suffix}", image, exif=exif)
