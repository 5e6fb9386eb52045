"""Progress of a run: a bar on a terminal, plain lines elsewhere.

rich is imported only when a bar is drawn. Everything goes to standard error.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

__all__ = ["Progress"]


class Progress:
    """``with Progress("sampling", total, is_shown) as bar: bar.advance_to(step)``."""

    def __init__(self, description: str, total: int, is_shown: bool) -> None:
        self._description = description
        self._total = total
        self._is_shown = is_shown and total > 0
        self._bar: Any = None
        self._next_line = 0.1
        self._start = 0.0

    def __enter__(self) -> Progress:
        self._start = time.perf_counter()
        if self._is_shown and sys.stderr.isatty():
            from rich import progress
            from rich.console import Console

            columns = (
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                progress.MofNCompleteColumn(),
                progress.TimeRemainingColumn(),
                progress.TextColumn("{task.fields[note]}"),
            )
            self._bar = progress.Progress(*columns, console=Console(stderr=True))
            self._bar.start()
            self._task = self._bar.add_task(self._description, total=self._total, note="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def is_shown(self) -> bool:
        """Whether a note is worth computing."""
        return self._is_shown

    def advance_to(self, step: int, note: str = "") -> None:
        """Say that ``step`` steps are done; a line every tenth of the way without a terminal."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step, note=note)
        elif self._is_shown and step >= self._next_line * self._total:
            seconds = time.perf_counter() - self._start
            text = f"{self._description}: {step} of {self._total} steps, {seconds:.1f} s {note}"
            print(text.rstrip(), file=sys.stderr, flush=True)
            self._next_line = int(10 * step / self._total + 1) / 10
