"""The history of a run: one JSON line a record, and the same numbers for TensorBoard."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from basin.training.errors import RunFolderError

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
        self._board = None
        if folder is None:
            return
        path = folder / "history.jsonl"
        aside = path.with_suffix(".writing")
        aside.write_text("".join(_line(record) for record in self.records))
        os.replace(aside, path)
        self._file = path.open("a")
        self._board = _summary_writer(folder, len(self.records) and self.records[-1]["step"])

    def append(self, record: dict[str, Any]) -> None:
        """Add a record; it is on its way to the disk when this returns."""
        self.records.append(record)
        if self._file is not None:
            self._file.write(_line(record))
            self._file.flush()
        if self._board is not None:
            for name, value in _flat(record).items():
                if name != "step":
                    self._board.add_scalar(name, value, record["step"])

    def close(self) -> None:
        """Close the files."""
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()


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


def _summary_writer(folder: Path, purge_after: int) -> Any:
    """TensorBoard's writer; its protobuf import costs half a second, so only with a folder."""
    from torch.utils.tensorboard.writer import SummaryWriter

    return SummaryWriter(str(folder), purge_step=purge_after + 1 if purge_after else None)
