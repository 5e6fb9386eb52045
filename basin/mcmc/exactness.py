"""Whether a kernel leaves exp(-E) alone: what weights of a walk along a path count on.

A kernel says it of itself (``Kernel.is_exact``, ``Kernel.is_reversible``); one around another
kernel is what both of them are. Cost: none.
"""

from __future__ import annotations

from typing import Any

__all__ = ["is_exact", "is_reversible"]


def is_exact(kernel: Any) -> bool:
    """Whether ``kernel``, and the one inside it, leave exp(-E) alone whatever their settings.

    >>> from basin.samplers import MALA, Langevin, Reflected
    >>> [is_exact(kernel) for kernel in (MALA(), Reflected(MALA()), Reflected(Langevin()))]
    [True, True, False]
    """
    return _says("is_exact", kernel)


def is_reversible(kernel: Any) -> bool:
    """Whether a step of ``kernel`` at rest is as likely as the step back.

    >>> from basin.samplers import MALA, Gibbs, ParallelTempering
    >>> kernels = MALA(), ParallelTempering(MALA()), Gibbs(scan="systematic")
    >>> [is_reversible(kernel) for kernel in kernels]
    [True, False, False]
    """
    return _says("is_reversible", kernel)


def _says(fact: str, kernel: Any) -> bool:
    inner = getattr(kernel, "kernel", None)
    return bool(getattr(kernel, fact, False)) and (inner is None or _says(fact, inner))
