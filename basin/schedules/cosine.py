"""A cosine schedule: value(t) = end + (start - end) (1 + cos(pi t)) / 2.

Source: Loshchilov & Hutter 2017 (arXiv 1608.03983), equation 5, one period. Flat at both ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from basin.core.validation import in_unit_interval

__all__ = ["Cosine"]


@dataclass(frozen=True)
class Cosine:
    """``schedule(t) = end + (start - end) (1 + cos(pi t)) / 2``; both ends are met exactly.

    >>> round(Cosine(1.0)(0.5), 6)
    0.5
    """

    start: float
    end: float = 0.0

    def __call__(self, t: float) -> float:
        in_unit_interval(t=t)
        weight = (1 + math.cos(math.pi * t)) / 2
        return float(weight * self.start + (1 - weight) * self.end)
