"""Reports whose pictures are blank: drawing ten of them takes most of a small run's time.

For tests of something else than the page: the report is made, written and read all the same, and
every figure is composed. ``tests/report`` and the run of ``tests/cli/test_train.py`` draw them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

__all__ = ["blank_pictures"]


@contextmanager
def blank_pictures() -> Iterator[None]:
    """Inside it a report has an empty drawing for each of its figures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("basin.report.html.figure_to_svg", _blank)
        yield


def _blank(figure: Any, *, name: str, alternative: str) -> str:
    del figure
    return f'<svg role="img" id="{name}" aria-label="{alternative}"></svg>'
