"""Scalars for TensorBoard, written at once: a full disk is an error of the step that met it.

torch's ``SummaryWriter`` writes from a thread of its own, whose errors nobody can answer. The
format is TensorBoard's: records of protocol buffers, here by its own ``RecordWriter``.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["EventFile"]


class EventFile:
    """A new file of events in a run folder.

    Args:
        folder: run folder.
        purge_after: last step that counts of those in files before; None purges nothing.
    """

    def __init__(self, folder: Path, purge_after: int | None = None) -> None:
        # Its protocol buffers take half a second to import, so only with a folder.
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._events: Any = event_pb2  # made by protobuf at import: no checker sees their classes
        self._summaries: Any = summary_pb2
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        self._writer = RecordWriter((folder / name).open("xb"))
        self._write(file_version="brain.Event:2")
        if purge_after is not None:
            kind = self._events.SessionLog
            start = kind(status=kind.START)
            self._write(step=purge_after + 1, session_log=start)

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        """Write the scalars of a step; they are on their way to the disk when this returns."""
        kind = self._summaries.Summary
        values = [kind.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        self._write(step=step, summary=kind(value=values))

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    def _write(self, **fields: Any) -> None:
        event = self._events.Event(wall_time=time.time(), **fields)
        self._writer.write(event.SerializeToString())
        self._writer.flush()
