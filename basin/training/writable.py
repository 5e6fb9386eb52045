"""Folders that cannot be written to: said about the folder that was asked for, before any work."""

from __future__ import annotations

import errno
import os
from pathlib import Path

__all__ = ["in_words", "require_writable"]

_REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS)


def require_writable(folder: Path) -> None:
    """Raise ``PermissionError`` unless files can be made in ``folder``.

    One that is not there yet is judged by the nearest folder above it that is.
    """
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if there.is_dir() and not os.access(there, os.W_OK | os.X_OK):
        raise _refused(folder, "no permission, or a read-only disk")


def in_words(folder: Path, error: OSError) -> OSError:
    """The error to raise when writing in ``folder`` failed: itself, unless it was a refusal.

    The system's own names a file that is written aside and renamed, which nobody asked for.
    """
    is_refusal = error.errno in _REFUSALS
    return _refused(folder, error.strerror or "no permission") if is_refusal else error


def _refused(folder: Path, reason: str) -> PermissionError:
    return PermissionError(
        f"{folder} must be a folder that can be written to, got one that cannot ({reason}); "
        "change its permissions, copy it to a folder of yours, or give another one"
    )
