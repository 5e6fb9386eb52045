"""Room for a module's numbers, asked for before they are allocated.

A size comes from a person or from a file that somebody else wrote. One that no memory holds is
refused by name at once: an allocation of that kind fails late, or ends the process without a word.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["at_most", "take_room"]

_BYTES_A_NUMBER = 4  # float32, as modules are made


class _Budget:
    def __init__(self, numbers: float, whose: str) -> None:
        self.left, self.whose = numbers, whose


_budget: ContextVar[_Budget | None] = ContextVar("budget", default=None)


@contextmanager
def at_most(numbers: int, whose: str) -> Iterator[None]:
    """Inside, modules of ``numbers`` numbers in all are made; ``whose`` says why no more.

    >>> with at_most(100, "what the file holds"):
    ...     take_room("hidden", 10, 20)
    Traceback (most recent call last):
    ValueError: hidden must fit what the file holds, got a block of 10 x 20 numbers
    """
    token = _budget.set(_Budget(numbers, whose))
    try:
        yield
    finally:
        _budget.reset(token)


def take_room(name: str, *sizes: int, mend: str = "") -> None:
    """Raise ``ValueError`` if a block of ``sizes`` numbers does not fit what is left.

    Without :func:`at_most` a block alone must fit the machine's memory. ``mend`` says what the
    block is for and what would do without it.
    """
    budget = _budget.get() or _Budget(_machine_numbers(), "this machine's memory")
    budget.left -= math.prod(sizes)
    if budget.left < 0:
        shape = " x ".join(f"{size:,}" for size in sizes)
        end = f"; {mend}" if mend else ""
        raise ValueError(f"{name} must fit {budget.whose}, got a block of {shape} numbers{end}")


def _machine_numbers() -> float:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _BYTES_A_NUMBER
    except (AttributeError, OSError, ValueError):  # a system that does not say
        return math.inf
