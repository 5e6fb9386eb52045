"""Images from an IDX file (the format of MNIST, gzip or not) or from a folder of PNG, JPEG or BMP.

IDX: two zero bytes, a type byte, the number of dimensions, each dimension as a big-endian 32-bit
number, then the values, last dimension fastest (Yann LeCun's MNIST page).
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from basin.datasets.raw import RawData, counted
from basin.datasets.read_numpy import LARGEST_DEFLATE_RATIO, table_or_images

__all__ = ["read_idx", "read_image_folder"]

IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp")


def read_idx(path: Path) -> RawData:
    """Read the images of an IDX file, ``[rows, 1, height, width]``, bytes as bytes.

    Raises:
        ValueError: no IDX file, cut short, or labels (one dimension) instead of images.
    """
    with path.open("rb") as stream:
        is_gzip = stream.read(2) == b"\x1f\x8b"
    size = path.stat().st_size
    try:
        with gzip.open(path) if is_gzip else path.open("rb") as stream:
            values = _idx(path, stream, size * LARGEST_DEFLATE_RATIO if is_gzip else size)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(
            f"{path} must be a whole gzip file, got one that cannot be read ({error}): "
            "copy or make it again"
        ) from None
    if values.ndim < 3:
        raise ValueError(
            f"{path} must hold images (rows, height, width), got shape {values.shape}: "
            "it looks like labels; give the file of images"
        )
    return table_or_images(str(path), values, "IDX")


def read_image_folder(path: Path) -> RawData:
    """Read every image below a folder, in order of name, ``[rows, channels, height, width]``.

    Grey images have 1 channel and coloured ones 3; all must have one size and one number of
    channels. Pillow does the decoding (``pip install pillow``).

    Raises:
        ImportError: Pillow is not installed.
        ValueError: no image, one that cannot be read, unequal sizes, transparency.
    """
    files = image_files(path)
    if not files:
        raise ValueError(
            f"{path} must hold images ({', '.join(IMAGE_ENDINGS)}), got a folder without any"
        )
    try:
        from PIL import Image
    except ImportError:
        raise ImportError(
            f"reading {path} needs Pillow: pip install pillow (or save one NPY array)"
        ) from None
    images: list[NDArray[np.uint8]] = []
    expected: tuple[int, ...] | None = None
    for file in files:
        try:
            with Image.open(file, formats=("PNG", "JPEG", "BMP")) as image:
                mode, width_height = image.mode, image.size
                if mode not in ("1", "L", "P", "RGB"):
                    raise ValueError(
                        f"{file} must be grey or RGB with 8 bits, got mode {mode}: convert it "
                        "(transparency has no meaning here)"
                    )
                channels = 1 if mode in ("1", "L") else 3
                shape = (channels, width_height[1], width_height[0])
                if expected is not None and shape != expected:
                    raise ValueError(
                        f"{path} must hold images of one size, got (channels, height, width) = "
                        f"{shape} in {file.name} after {expected} in {files[0].name}"
                    )
                expected = shape
                pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"{file} must be a whole image, got: {error}") from None
        images.append(pixels[None] if channels == 1 else pixels.transpose(2, 0, 1))
    return RawData(str(path), np.stack(images), None, f"folder of {counted(len(files), 'image')}")


def image_files(path: Path) -> list[Path]:
    """The image files below a folder, sorted."""
    return sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in IMAGE_ENDINGS and file.name[0] != "." and file.is_file()
    )


def _idx(path: Path, stream: IO[bytes] | gzip.GzipFile, largest: int) -> NDArray[Any]:
    start = stream.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in IDX_TYPES:
        raise ValueError(f"{path} must start as an IDX file does, got bytes {start.hex(' ')}")
    sizes = stream.read(4 * start[3])
    if len(sizes) < 4 * start[3] or start[3] == 0:
        raise ValueError(f"{path} is cut short within its header: copy or make it again")
    shape = struct.unpack(f">{start[3]}I", sizes)
    dtype = np.dtype(IDX_TYPES[start[2]])
    expected = math.prod(shape) * dtype.itemsize
    content = stream.read(expected) if expected <= largest else b""
    if len(content) < expected:
        raise ValueError(
            f"{path} must hold {expected:,} bytes of numbers (shape {shape}), got fewer: "
            "it is cut short; copy or make it again"
        )
    if stream.read(1):  # reading on to the end also makes gzip check its sum
        raise ValueError(
            f"{path} must end with its last number (shape {shape}), got more bytes: "
            "its header is wrong; make it again"
        )
    return np.frombuffer(content, dtype=dtype).reshape(shape).astype(dtype.newbyteorder("="))
