"""From a path to numbers: find the file, hand it to the reader of its format, check the numbers.

The ending of the name decides the format; a folder holds images. ``path.npz:key`` names one array.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from basin.datasets.catalogue import catalogue
from basin.datasets.raw import (
    COLUMNS_SHOWN,
    ROWS_SHOWN,
    RawData,
    chunks,
    counted,
    did_you_mean,
    positions_of,
)
from basin.datasets.read_csv import read_csv
from basin.datasets.read_images import read_idx, read_image_folder
from basin.datasets.read_numpy import read_npy, read_npz
from basin.datasets.read_parquet import read_parquet
from basin.datasets.rows import LARGEST_FLOAT32

__all__ = []  # for the files beside it: load and read_rows

MEMORY_MAP_FROM = 256 * 2**20
"""NPY files of this size in bytes, or more, stay in the file."""

TEXT_ENDINGS = (".csv", ".tsv", ".txt", ".data")
FORMATS = ".csv, .tsv, .txt, .data (also .gz), .parquet, .npy, .npz, IDX (-ubyte, .idx, also .gz)"


def find(text: str) -> tuple[Path, str | None]:
    """The file that ``text`` names, and the array in it; clear errors when there is none."""
    path, key = Path(text).expanduser(), None
    if not os.path.exists(path) and ".npz:" in text:
        stem, _, key = text.rpartition(".npz:")
        path = Path(stem + ".npz").expanduser()
    if text and (os.path.isfile(path) or os.path.isdir(path)):
        return path, key or None
    text = text if len(text) < 300 else text[:300] + "..."
    if text and os.path.exists(path):
        raise ValueError(f"source must be a file or a folder, got {text}, which is neither")
    is_path = os.sep in text or path.suffix != "" or "/" in text
    if is_path:
        has_folder = os.path.isdir(path.parent)
        beside = sorted(other.name for other in path.parent.iterdir()) if has_folder else []
        near = did_you_mean(path.name, beside)
        near = near if near.startswith("; did") else ""
        folder = "" if has_folder else f" (nor a folder {path.parent})"
        raise FileNotFoundError(f"source must exist, got {text}: no such file{folder}{near}")
    names = [entry.name for entry in catalogue()]
    raise ValueError(
        f"source must be a known name or a path, got {text!r}{did_you_mean(text, names)}; "
        "`basin data` lists the names"
    )


def read(
    path: Path,
    key: str | None,
    columns: Sequence[str] | None,
    header: bool | None,
    memory_map: bool | None,
) -> RawData:
    """Hand a path to the reader of its format."""
    if path.is_dir():
        return _not_for_images(read_image_folder(path), columns)
    size = path.stat().st_size
    if size == 0:
        raise ValueError(f"{path} is empty (0 bytes): there is nothing to learn from")
    endings = [suffix.lower() for suffix in path.suffixes]
    ending = endings[-1] if endings else ""
    if ending == ".gz" and len(endings) > 1:
        ending = endings[-2]
    is_idx = "-ubyte" in path.name or ending == ".idx" or "-idx" in path.name
    is_text = ending.startswith(TEXT_ENDINGS) and not is_idx
    if header is not None and not is_text:
        raise ValueError(f"header is for text files, got header={header} for {path}")
    if memory_map and ending != ".npy":
        raise ValueError(f"memory_map needs a NPY file, got {path}: save it with numpy.save")
    if is_text:
        return read_csv(path, columns=columns, header=header)
    if ending == ".parquet":
        return read_parquet(path, columns=columns)
    if is_idx:
        return _not_for_images(read_idx(path), columns)
    if ending == ".npy":
        is_mapped = size >= MEMORY_MAP_FROM if memory_map is None else memory_map
        raw = read_npy(path, memory_map=is_mapped)
    elif ending == ".npz":
        raw = read_npz(path, key)
    else:
        raise ValueError(
            f"source must be in a format that is known by its ending, got {path}; "
            f"known: {FORMATS}, or a folder of images"
        )
    return raw if columns is None else choose(raw, columns)


def choose(raw: RawData, columns: Sequence[str]) -> RawData:
    if raw.columns is None:
        return _not_for_images(raw, columns)
    return raw.keep_columns(positions_of(raw.name, raw.columns, columns))


def _not_for_images(raw: RawData, columns: Sequence[str] | None) -> RawData:
    if columns is not None:
        raise ValueError(f"columns are for tables, got {list(columns)} for the images {raw.name}")
    return raw


def check_numbers(raw: RawData) -> None:
    """Raise ``ValueError`` naming columns and rows of NaN, infinity or more than float32 holds."""
    if raw.values.dtype.kind != "f":
        return
    not_finite: dict[int, list[int]] = {}
    counts: dict[int, int] = {}
    too_large = False
    for start, part in _chunks(raw):
        by_column = np.ascontiguousarray(part.T)
        low, high = (f(axis=1).astype(np.float64) for f in (by_column.min, by_column.max))
        is_usable = (low >= -LARGEST_FLOAT32) & (high <= LARGEST_FLOAT32)
        for column in np.flatnonzero(~is_usable).tolist():
            values = part[:, column].astype(np.float64)
            is_bad = ~np.isfinite(values)
            if not is_bad.any():
                is_bad, too_large = np.abs(values) > LARGEST_FLOAT32, True
            rows = np.flatnonzero(is_bad)
            counts[column] = counts.get(column, 0) + len(rows)
            first = not_finite.setdefault(column, [])
            first += [start + int(row) for row in rows[: ROWS_SHOWN - len(first)]]
    if not counts:
        return
    what = "numbers above 3.4e38, which float32 cannot hold," if too_large else "NaN or infinity"
    mend = "divide by a constant" if too_large else "fill or drop those rows"
    if raw.columns is None:
        first = raw.where(not_finite[0])
        raise ValueError(
            f"{raw.name} must be finite, got {what} in {counted(counts[0], 'image')} "
            f"(first: {first}); {mend} first"
        )
    listed = "; ".join(
        f"column {raw.columns[column]!r} in {counted(counts[column], 'row')} "
        f"(first: {raw.where(not_finite[column])})"
        for column in list(counts)[:COLUMNS_SHOWN]
    )
    raise ValueError(f"{raw.name} must be finite, got {what.rstrip(',')}: {listed}; {mend} first")


def _chunks(raw: RawData) -> Iterator[tuple[int, NDArray[Any]]]:
    """(first row, numbers): ``[rows, columns]``, or ``[rows, 1]`` for images.

    The one number of an image is its lowest or highest pixel, the larger in size.
    """
    width = int(np.prod(raw.values.shape[1:]))
    for start, stop in chunks(len(raw.values), width):
        part = np.asarray(raw.values[start:stop])
        if raw.columns is None:
            flat = part.reshape(len(part), -1)
            low, high = flat.min(axis=1, keepdims=True), flat.max(axis=1, keepdims=True)
            part = np.where(np.abs(low) > np.abs(high), low, high)
        yield start, part
