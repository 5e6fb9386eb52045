"""Writing a page into a run folder: whole, or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from basin.training.writable import in_words

__all__ = ["write_page"]


def write_page(folder: Path, name: str, page: str) -> Path:
    """Write ``page`` aside and rename it to ``folder / name``; returns that path.

    Raises:
        OSError: the disk is full or the folder may not be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_page(Path(folder), "page.html", "<p>here</p>").read_text()
        '<p>here</p>'
    """
    path = folder / name
    try:
        handle, aside = tempfile.mkstemp(dir=folder, prefix=f".{path.stem}-", suffix=path.suffix)
    except OSError as error:
        raise in_words(folder, error) from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(page)
        os.chmod(aside, 0o644)
        os.replace(aside, path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
    return path
