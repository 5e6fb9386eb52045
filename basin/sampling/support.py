"""Kernels of real numbers on energies of real numbers, those of whole numbers on the others.

Langevin on an Ising energy would run, and sample nothing: between the whole numbers exp(-E) is
another function, mostly without an integral. An energy says by ``num_states`` that its rows are
whole numbers; one that says nothing may be of either kind.
"""

from __future__ import annotations

from typing import Any

from basin.core.discrete import declared_states

__all__ = ["require_same_support"]


def require_same_support(kernel: Any, energy: Any) -> None:
    """Raise ``ValueError`` where a kernel of real numbers meets an energy of whole ones.

    >>> import basin
    >>> require_same_support(basin.samplers.MALA(0.1), basin.energies.Ising(3))
    Traceback (most recent call last):
    ValueError: kernel must be one of whole numbers for Ising (num_states=2), as Gibbs(2) ...
    """
    declared = declared_states(energy)
    if declared is None or getattr(kernel, "support", "real") == "discrete":
        return
    name, num_states = declared
    raise ValueError(
        f"kernel must be one of whole numbers for {name} (num_states={num_states}), as "
        f"Gibbs({num_states}) or GibbsWithGradients({num_states}), got {kernel!r}, which moves "
        "real ones"
    )
