"""A constant schedule: value(t) = value."""

from __future__ import annotations

from dataclasses import dataclass

from basin.core.validation import in_unit_interval

__all__ = ["Constant"]


@dataclass(frozen=True)
class Constant:
    """``schedule(t) = value`` for every t in [0, 1].

    >>> Constant(0.1)(0.7)
    0.1
    """

    value: float

    def __call__(self, t: float) -> float:
        in_unit_interval(t=t)
        return float(self.value)
