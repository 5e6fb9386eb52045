"""A short name for the content of a file, so that a run knows when its data changed.

Below 100 MB it is the SHA-256 of all bytes; above, of 64 samples of 64 KiB, with the size and the
time of the last change beside it (one unread byte may differ without being seen, but not without
a new time).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from basin.datasets.raw import RawData
from basin.datasets.read_images import image_files

__all__ = ["fingerprint"]

WHOLE_BELOW = 100_000_000
NUM_SAMPLES, SAMPLE_BYTES = 64, 65_536


def fingerprint(source: Path | RawData) -> str:
    """``sha256:HEX`` of a small file, folder or array, ``sampled:SIZE:TIME:HEX`` of a large one.

    Args:
        source: a file, a folder of images, or data without a file.

    Cost: one read of at most 100 MB.
    """
    if isinstance(source, RawData):
        values = np.ascontiguousarray(source.values)
        return "sha256:" + hashlib.sha256(values.data).hexdigest()
    files = image_files(source) if source.is_dir() else [source]
    size = sum(file.stat().st_size for file in files)
    digest = hashlib.sha256()
    for file in files:
        if source.is_dir():
            digest.update(
                f"{file.relative_to(source).as_posix()}\0{file.stat().st_size}\0".encode()
            )
        if size < WHOLE_BELOW:
            with file.open("rb") as stream:
                while part := stream.read(2**20):
                    digest.update(part)
        elif not source.is_dir():
            _add_samples(digest, file, size)
    if size < WHOLE_BELOW:
        return "sha256:" + digest.hexdigest()
    changed = max(file.stat().st_mtime_ns for file in files)
    return f"sampled:{size}:{changed}:{digest.hexdigest()}"


def check_fingerprint(name: str, recorded: str, now: str) -> None:
    """Raise ``ValueError`` when the data are not those that were recorded."""
    if recorded == now:
        return
    what = "its content differs"
    if recorded.startswith("sampled:") and now.startswith("sampled:"):
        before, after = recorded.split(":"), now.split(":")
        if before[1] != after[1]:
            what = f"it had {int(before[1]):,} bytes and has {int(after[1]):,}"
        elif before[3] == after[3]:
            what = "size and samples agree, but it was written since (a copy has a new time, too)"
    raise ValueError(
        f"{name} must be the data that were recorded, but it changed: {what}; "
        "restore it, or use it as it is now: train a new run (in Python, fingerprint=None)"
    )


def _add_samples(digest: hashlib._Hash, file: Path, size: int) -> None:
    with file.open("rb") as stream:
        for index in range(NUM_SAMPLES):
            stream.seek(index * (size - SAMPLE_BYTES) // (NUM_SAMPLES - 1))
            digest.update(stream.read(SAMPLE_BYTES))
