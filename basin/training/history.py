"""The history of a run: one JSON line a record, and the same numbers for TensorBoard."""

from __future__ import annotations

import json
import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from basin.training.errors import RunFolderError
from basin.training.event_file import EventFile
from basin.training.writable import in_words

__all__ = ["History", "read_history"]


class History:
    """Records in memory and, with a folder, in ``history.jsonl`` and TensorBoard events.

    Args:
        folder: run folder, or None to keep records in memory only.
        records: those before a resumed step; the file is cut back to them.
    """

    def __init__(self, folder: Path | None, records: list[dict[str, Any]] | None = None) -> None:
        self.records = list(records or [])
        self._file = None
        self._board: EventFile | None = None
        if folder is None:
            return
        self._path = path = folder / "history.jsonl"
        aside = path.with_suffix(".writing")
        try:
            aside.write_text("".join(_line(record) for record in self.records))
            os.replace(aside, path)
            self._file = path.open("a")
            self._board = EventFile(folder, self.records[-1]["step"] if self.records else None)
        except OSError as error:
            raise in_words(path, error) from error

    def append(self, record: dict[str, Any]) -> None:
        """Add a record; it is on its way to the disk when this returns."""
        self.records.append(record)
        if self._file is None or self._board is None:
            return
        numbers = {name: value for name, value in _flat(record).items() if name != "step"}
        try:
            self._file.write(_line(record))
            self._file.flush()
            self._board.add(record["step"], numbers)
        except OSError as error:
            raise in_words(self._path, error) from error

    def close(self) -> None:
        """Close the files; what a full disk kept from them was said when it was written."""
        for file in (self._file, self._board):
            if file is not None:
                with suppress(OSError):
                    file.close()


def read_history(folder: Path, until_step: int | None = None) -> list[dict[str, Any]]:
    """Records of a folder, those up to ``until_step``; a torn last line is what a kill leaves."""
    path = folder / "history.jsonl"
    if not path.is_file():
        return []
    records = []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            if number == len(lines):
                break
            record = None
        if not isinstance(record, dict) or not isinstance(record.get("step"), int):
            raise RunFolderError(
                f"{path} must hold one JSON object with a step a line, got something else in "
                f"line {number}; mend or remove the file (it holds the curves, not the model)"
            )
        if until_step is None or record["step"] <= until_step:
            records.append(record)
    return records


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record) + "\n"


def _flat(record: dict[str, Any]) -> dict[str, float]:
    numbers = {}
    for name, value in record.items():
        if isinstance(value, dict):
            numbers.update({f"{name}/{key}": number for key, number in _flat(value).items()})
        elif isinstance(value, int | float) and math.isfinite(value):
            numbers[name] = value
    return numbers
