"""What follows a training in the shell, made small: it takes most of a small run's time.

For tests of something else than the checks and the page (exit codes, what is kept, what is
refused): every check is made, on few rows, and the report is composed, written and read, with blank
drawings. ``tests/report``, ``tests/training/test_evaluate.py`` and the run of
``tests/cli/test_train.py`` have the whole.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import basin

__all__ = ["small_ending"]

_LIMITS = ("_NUM_SAMPLES", "_NUM_PAIRED", "_NUM_TRANSPORTED", "_NUM_NEIGHBOURS")


@contextmanager
def small_ending() -> Iterator[None]:
    """Inside it samples are compared with held-out rows 40 at a time, and no figure is drawn."""
    module = sys.modules[basin.training.evaluate.__module__]  # its name is that of its function
    with pytest.MonkeyPatch.context() as patch:
        for name in _LIMITS:
            patch.setattr(module, name, 40)
        patch.setattr("basin.report.html.figure_to_svg", _blank)
        yield


def _blank(figure: Any, *, name: str, alternative: str) -> str:
    del figure
    return f'<svg role="img" id="{name}" aria-label="{alternative}"></svg>'
