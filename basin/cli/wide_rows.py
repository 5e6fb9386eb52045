"""How many rows at once where a row is wide, unless the user says how many.

    rows = min(usual, MAX_NUMBERS / columns), and at least one

Training, drawing and measuring hold some tens of arrays of rows times columns. At the usual numbers
of rows a table of 100,000 columns takes 9 GB; with this bound each array is of 80 MB. Fewer rows
make a mean or a test less sharp and no step wrong, so a sentence on standard error is enough.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

__all__ = ["MAX_NUMBERS", "rows_that_fit"]

MAX_NUMBERS = 20_000_000  # float32: 80 MB


def rows_that_fit(usual: int, event_shape: Sequence[int], what: str, option: str) -> int:
    """``usual``, or fewer rows of many numbers, which is then said: ``what`` and the ``option``.

    >>> rows_that_fit(2_000, (13,), "samples", "--num_samples")
    2000
    """
    width = max(1, math.prod(event_shape))
    fitting = max(1, MAX_NUMBERS // width)
    if fitting >= usual:
        return usual
    print(
        f"{what}: {fitting:,} rows, not {usual:,}, as each has {width:,} numbers; "
        f"{option} {usual} takes them all, and the memory that they need",
        file=sys.stderr,
    )
    return fitting
