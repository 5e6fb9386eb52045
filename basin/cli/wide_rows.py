"""Fewer rows at once where a row is wide, said, unless the user says how many.

At the usual numbers of rows a table of 100,000 columns takes 9 GB; ``basin.core.wide_rows`` has
the bound. As no step is wrong for it, a sentence on standard error is enough.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

from basin.core.wide_rows import num_rows_that_fit

__all__ = ["rows_that_fit"]


def rows_that_fit(usual: int, event_shape: Sequence[int], what: str, option: str) -> int:
    """``usual``, or fewer rows of many numbers, which is then said: ``what`` and the ``option``.

    >>> rows_that_fit(2_000, (13,), "samples", "--num_samples")
    2000
    """
    fitting = num_rows_that_fit(usual, event_shape)
    if fitting == usual:
        return usual
    print(
        f"{what}: {fitting:,} rows, not {usual:,}, as each has {math.prod(event_shape):,} numbers; "
        f"{option} {usual} takes them all, and the memory that they need",
        file=sys.stderr,
    )
    return fitting
