"""How many rows at once where a row is wide.

    rows = min(usual, MAX_NUMBERS / columns), and at least one

Training, drawing, measuring and showing hold some tens of arrays of rows times columns; with this
bound each array is of 80 MB. Fewer rows make a mean or a test less sharp and no step wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["MAX_NUMBERS", "num_rows_that_fit"]

MAX_NUMBERS = 20_000_000  # float32: 80 MB


def num_rows_that_fit(usual: int, event_shape: Sequence[int]) -> int:
    """``usual``, or fewer rows of many numbers.

    >>> num_rows_that_fit(2_000, (13,)), num_rows_that_fit(2_000, (100_000,))
    (2000, 200)
    """
    return max(1, min(usual, MAX_NUMBERS // max(1, math.prod(event_shape))))
