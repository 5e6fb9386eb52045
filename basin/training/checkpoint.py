"""One checkpoint is one safetensors file: tensors, and a JSON record in its metadata.

It is written beside its place, flushed to the disk and renamed, so a crash at any moment leaves
either the old file or the new one. A checksum over names, shapes and bytes is kept in the
metadata and verified on reading. The last two are kept. Nothing is unpickled, ever.

A checkpoint carries the identity of its run, which ``config.json`` beside it holds from the start:
one of another run is refused, and no order of writes can make a folder contradict itself.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from basin.training.errors import RunFolderError
from basin.training.writable import in_words

__all__ = [
    "checkpoints",
    "checksum",
    "latest_checkpoint",
    "read_tensors",
    "write_checkpoint",
    "write_tensors",
]

_KEPT = 2


def write_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Tensor], record: Mapping[str, Any]
) -> Path:
    """Write the state after ``step`` steps and drop all but the last two checkpoints."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _name(step)
    identity = _identity(folder)
    write_tensors(path, tensors, {**record, "identity": identity} if identity else record)
    for old in checkpoints(folder)[:-_KEPT]:
        old.unlink()
    return path


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a folder, oldest first."""
    return sorted(folder.glob("step-*.safetensors"))


def latest_checkpoint(folder: Path) -> tuple[Path, dict[str, Tensor], dict[str, Any]]:
    """The newest checkpoint: path, tensors and record; errors say which older one to go on from."""
    found = checkpoints(folder)
    if not found:
        raise RunFolderError(f"{folder} must hold a checkpoint, got none; train the run anew")
    try:
        tensors, record = read_tensors(found[-1])
        _require_own(found[-1], record)
        return found[-1], tensors, record
    except RunFolderError as error:
        older = f"; delete it to go on from {found[-2].name}" if len(found) > 1 else ""
        raise RunFolderError(f"{error}{older}") from error


def _name(step: int) -> str:
    return f"step-{step:09d}.safetensors"


def _identity(folder: Path) -> str | None:
    """That of the run which a checkpoint folder is a part of; None where no config says it."""
    try:
        config = json.loads((folder.parent / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None  # whoever reads the run reports it
    return config.get("identity") if isinstance(config, dict) else None


def _require_own(path: Path, record: Any) -> None:
    """Refuse a whole checkpoint that was put in the place of another."""
    record = record if isinstance(record, dict) else {}
    identity = _identity(path.parent)
    if identity is not None and record.get("identity", identity) != identity:
        raise RunFolderError(f"{path} must be a checkpoint of this run, got one of another run")
    step = record.get("step")
    if not isinstance(step, int) or _name(step) != path.name:
        raise RunFolderError(
            f"{path} must be a checkpoint of this run at the step in its name, got step {step!r}"
        )


def write_tensors(path: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> str:
    """Write aside, flush, rename, and return the checksum.

    On any failure the old file stays and the new one is removed.
    """
    from safetensors.torch import save_file

    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    sha256 = checksum(plain, record)
    # One entry: safetensors writes several in any order, and equal runs should be equal files.
    metadata = {"basin": json.dumps({"record": record, "sha256": sha256})}
    aside = path.with_suffix(f".writing-{os.getpid()}")
    try:
        save_file(plain, aside, metadata=metadata)
        aside.chmod(0o666 & ~_umask())  # safetensors keeps the file from group and others
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(aside, path)
    except Exception as error:
        aside.unlink(missing_ok=True)
        if "No space left" in str(error):  # in safetensors' own words
            error = OSError(errno.ENOSPC, str(error))
        if isinstance(error, OSError):
            raise in_words(path, error) from error
        raise
    return sha256


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and record of a file; a :class:`RunFolderError` unless its checksum is right."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise RunFolderError(f"{path} must exist, got nothing there; is this a Basin run folder?")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise RunFolderError(
            f"{path} must be a whole safetensors file, got one that cannot be read ({error})"
        ) from error
    try:
        # Files of before there was one entry have two.
        entry = json.loads(metadata["basin"]) if "basin" in metadata else None
        record = json.loads(metadata["record"]) if entry is None else entry["record"]
        expected = metadata["sha256"] if entry is None else entry["sha256"]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise RunFolderError(f"{path} must be written by Basin, got a foreign file") from error
    if checksum(tensors, record) != expected:
        raise RunFolderError(f"{path} must match its checksum, got changed or damaged bytes")
    return tensors, record


def checksum(tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> str:
    """SHA-256 over the record and every tensor's name, type, shape and bytes."""
    digest = hashlib.sha256(json.dumps(record).encode())
    for name in sorted(tensors):
        value = tensors[name].detach().cpu()
        digest.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _umask() -> int:
    """Permissions that new files of this process do not get; there is no way but to set it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
