"""One process at a time trains in a run folder.

The lock is ``flock`` on the file ``.lock``: the kernel releases it when the process ends, however
it ends, so a ``kill -9`` leaves nothing to clean up. The file says who holds it, for the error of
whoever comes second; it is removed at the end.
"""

from __future__ import annotations

import fcntl
import os
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from basin.training.errors import RunFolderError
from basin.training.writable import in_words

__all__ = ["LOCK", "locked"]

LOCK = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder inside.

    Raises:
        RunFolderError: another process holds it; says which.
        PermissionError: the folder cannot be written to.

    Warns:
        RuntimeWarning: the file system has no locks, so a second process would not be noticed.
    """
    path = folder / LOCK
    file = _acquired(folder, path)
    with file:
        file.truncate(0)
        file.write(f"{os.getpid()} {platform.node()}\n")
        file.flush()
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink()


def _acquired(folder: Path, path: Path) -> TextIO:
    while True:
        try:
            file = path.open("a+")
        except OSError as error:
            raise in_words(folder, error) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with file:
                raise _held(folder, file) from None
        except OSError as error:
            warnings.warn(
                f"{folder} is on a disk without locks ({error.strerror}): start no second "
                "process on it",
                RuntimeWarning,
                stacklevel=4,
            )
            return file
        if _is_at(path, file):
            return file
        file.close()  # its holder removed it between our two calls: what we hold is nobody's name


def _is_at(path: Path, file: TextIO) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _held(folder: Path, file: TextIO) -> RunFolderError:
    file.seek(0)
    pid, _, host = file.read(300).strip().partition(" ")
    who = f"process {pid} on {host}" if pid.isdecimal() else "another process"
    who = "this process itself" if pid == str(os.getpid()) and host == platform.node() else who
    return RunFolderError(
        f"{folder} must be trained by one process at a time, got it held by {who}; wait until "
        "that ends, or stop it first"
    )
