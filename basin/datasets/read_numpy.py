"""NPY and NPZ files of numbers. Headers are checked before anything is read; nothing is unpickled.

NPY is a header (dtype, order, shape) and the bytes; NPZ is a zip of those. An array of shape
(rows, columns) is a table with columns x0, x1, ...; (rows, height, width) and (rows, channels,
height, width) are images.
"""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from basin.datasets.raw import RawData, did_you_mean, numeric

__all__ = ["open_npy", "read_npy", "read_npz"]

USUAL_KEYS = ("X", "x", "data", "samples")
LARGEST_DEFLATE_RATIO = 1032
"""Deflate cannot make more bytes than this out of one."""


def read_npy(path: Path, *, memory_map: bool = False) -> RawData:
    """Read a NPY file, or map it (``memory_map=True``) so that rows stay in the file.

    Raises:
        ValueError: not a NPY file, cut short, objects (pickled) or text, or not a table or images.
    """
    values = open_npy(path)
    if not memory_map:
        values = np.array(values)
    described = "NPY, memory-mapped" if memory_map else "NPY"
    return table_or_images(str(path), values, f"{described}, {values.dtype}")


def open_npy(path: Path) -> NDArray[Any]:
    """Memory-map the numbers of a NPY file, after checking its header and its length."""
    with path.open("rb") as stream:
        shape, is_fortran, dtype = _header(str(path), stream)
        offset = stream.tell()
    expected, size = math.prod(shape) * dtype.itemsize, path.stat().st_size - offset
    if size < expected:
        raise ValueError(
            f"{path} must hold {expected:,} bytes of numbers (shape {shape}, {dtype}), got "
            f"{size:,}: it is cut short; copy or make it again"
        )
    if expected == 0:
        return np.empty(shape, dtype=dtype)
    order = "F" if is_fortran else "C"
    return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape, order=order)


def read_npz(path: Path, key: str | None = None) -> RawData:
    """Read one array of a NPZ file.

    Args:
        path: the file.
        key: which array; None takes the one called X, x, data or samples, or the only one.

    Raises:
        ValueError: not a NPZ file, cut short, no such array or several that it could be, objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            member = _member(path, archive, key)
            name = f"{path}:{member.filename.removesuffix('.npy')}"
            with archive.open(member) as stream:
                shape, is_fortran, dtype = _header(name, stream)
                expected = math.prod(shape) * dtype.itemsize
                _plausible(name, expected, path.stat().st_size)
                content = stream.read(expected)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(
            f"{path} must be a whole NPZ file, got one that cannot be read ({error}): "
            "copy or make it again"
        ) from None
    if len(content) < expected:
        raise ValueError(
            f"{name} must hold {expected:,} bytes of numbers, got {len(content):,}: "
            "it is cut short; copy or make it again"
        )
    values = np.frombuffer(content, dtype=dtype)
    values = values.reshape(shape, order="F" if is_fortran else "C")
    return table_or_images(name, values, f"NPZ, {dtype}")


def table_or_images(name: str, values: NDArray[Any], description: str) -> RawData:
    """Two dimensions are a table; three or four are images, channels first."""
    if values.ndim == 2:
        columns = tuple(f"x{index}" for index in range(values.shape[1]))
        return RawData(name, values, columns, description)
    if values.ndim not in (3, 4):
        raise ValueError(
            f"{name} must have shape (rows, columns), (rows, height, width) or (rows, channels, "
            f"height, width), got {values.shape}"
            + ("; one number a row is the shape (rows, 1)" if values.ndim == 1 else "")
        )
    if values.ndim == 4 and values.shape[-1] in (1, 3, 4) and values.shape[1] not in (1, 3, 4):
        raise ValueError(
            f"{name} must have its channels first, (rows, channels, height, width), got "
            f"{values.shape}: save x.transpose(0, 3, 1, 2)"
        )
    return RawData(name, values[:, None] if values.ndim == 3 else values, None, description)


def _header(name: str, stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and dtype of a NPY stream, which is left at its first number."""
    try:
        version = npy_format.read_magic(stream)  # pyright: ignore[reportArgumentType]
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"format version {version}")
        read = (
            npy_format.read_array_header_1_0
            if version == (1, 0)
            else npy_format.read_array_header_2_0
        )
        shape, is_fortran, dtype = read(stream)  # pyright: ignore[reportArgumentType]
    except (ValueError, TypeError, SyntaxError, tokenize.TokenError, RecursionError) as error:
        raise ValueError(
            f"{name} must be a whole NPY file of numbers, got one with no valid header "
            f"({str(error).splitlines()[0][:80]}): save it with numpy.save(path, x)"
        ) from None
    numeric(name, dtype)
    if any(size < 0 for size in shape):
        raise ValueError(f"{name} must have a shape of sizes above zero, got {shape}")
    return shape, is_fortran, dtype


def _member(path: Path, archive: zipfile.ZipFile, key: str | None) -> zipfile.ZipInfo:
    """The array that was asked for, or the one that is clearly meant."""
    members = {
        member.filename.removesuffix(".npy"): member
        for member in archive.infolist()
        if member.filename.endswith(".npy")
    }
    keys = list(members)
    if not keys:
        raise ValueError(f"{path} must hold arrays, got a zip file with none")
    if key is not None:
        if key not in members:
            raise ValueError(f"{path} has no array {key!r}" + did_you_mean(key, keys))
        return members[key]
    usual = [name for name in USUAL_KEYS if name in members]
    if len(usual) == 1:
        return members[usual[0]]
    if len(keys) == 1:
        return members[keys[0]]
    raise ValueError(
        f"{path} must say which of its arrays to take, got "
        f"{', '.join(keys[:20])}{', ...' if len(keys) > 20 else ''}: "
        f"choose with a colon, {path.name}:{(usual or keys)[0]}"
    )


def _plausible(name: str, expected: int, file_size: int) -> None:
    """Refuse a header that promises more than its file could ever hold, before making room."""
    if expected > LARGEST_DEFLATE_RATIO * file_size + 1024:
        raise ValueError(
            f"{name} must hold {expected:,} bytes of numbers, which a file of {file_size:,} bytes "
            "cannot: its header is wrong or it is cut short"
        )
