"""Writing that fails, said about what was asked for: no permission, or a full disk."""

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


def in_words(path: Path, error: OSError) -> OSError:
    """The error to raise when writing ``path`` failed: itself, unless refused or without room.

    The system's own names a file that is written aside and renamed, which nobody asked for.
    """
    if _is_full_disk(error):
        return OSError(
            errno.ENOSPC,
            f"{path} could not be written: the disk is full; free some space (what was there "
            "before is untouched)",
        )
    is_refusal = error.errno in _REFUSALS
    folder = path if path.is_dir() else path.parent
    return _refused(folder, error.strerror or "no permission") if is_refusal else error


def _is_full_disk(error: BaseException) -> bool:
    """Whether there was no room, or no quota left."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _refused(folder: Path, reason: str) -> PermissionError:
    return PermissionError(
        f"{folder} must be a folder that can be written to, got one that cannot ({reason}); "
        "change its permissions, copy it to a folder of yours, or give another one"
    )
