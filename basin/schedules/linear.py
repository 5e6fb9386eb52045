"""A linear schedule: value(t) = (1 - t) start + t end."""

from __future__ import annotations

from dataclasses import dataclass

from basin.core.validation import in_unit_interval

__all__ = ["Linear"]


@dataclass(frozen=True)
class Linear:
    """``schedule(t) = (1 - t) start + t end``; both ends are met exactly.

    >>> Linear(0.0, 10.0)(0.25)
    2.5
    """

    start: float
    end: float

    def __call__(self, t: float) -> float:
        in_unit_interval(t=t)
        return float((1 - t) * self.start + t * self.end)
