"""A geometric schedule: value(t) = start^(1 - t) end^t, linear in log(value).

The usual ladder of noise levels, from sigma_max to sigma_min (Song & Ermon 2019, section 4.1).
"""

from __future__ import annotations

from dataclasses import dataclass

from basin.core.validation import in_unit_interval, positive

__all__ = ["Geometric"]


@dataclass(frozen=True)
class Geometric:
    """``schedule(t) = start^(1 - t) end^t``; both ends positive and met exactly.

    >>> Geometric(100.0, 1.0)(0.5)
    10.0
    """

    start: float
    end: float

    def __post_init__(self) -> None:
        positive(start=self.start, end=self.end)

    def __call__(self, t: float) -> float:
        in_unit_interval(t=t)
        return float(self.start ** (1 - t) * self.end**t)
