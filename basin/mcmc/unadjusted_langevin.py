"""The unadjusted Langevin transition, shared by the plain and the annealed kernel.

    x <- x - epsilon dE/dx + sqrt(2 epsilon) z

The two kernels differ in where epsilon comes from. Cost: one score.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Generator, Tensor

from basin.core.gradients import score
from basin.core.tensors import normal_like
from basin.core.types import Energy
from basin.mcmc.finiteness import finite_rows
from basin.mcmc.langevin_proposal import langevin_proposal

__all__ = ["UnadjustedInfo", "UnadjustedState", "unadjusted_init", "unadjusted_step"]


class UnadjustedState(NamedTuple):
    """``position`` ``[chains, *event]`` and whether each row of it is finite, ``[chains]``."""

    position: Tensor
    is_finite: Tensor


class UnadjustedInfo(NamedTuple):
    """``is_divergent``: the chain turned non-finite in this very step, ``[chains]``."""

    is_divergent: Tensor


def unadjusted_init(x: Tensor) -> UnadjustedState:
    """The state at ``x`` ``[chains, *event]``."""
    return UnadjustedState(x, finite_rows(x))


def unadjusted_step(
    energy: Energy, state: UnadjustedState, step_size: float | Tensor, generator: Generator
) -> tuple[UnadjustedState, UnadjustedInfo]:
    """One transition of length ``step_size`` (a number, or a tensor that broadcasts)."""
    x = state.position
    noise = normal_like(x, generator)
    moved = langevin_proposal(x, score(energy, x), step_size, noise)
    is_finite = finite_rows(moved)
    return UnadjustedState(moved, is_finite), UnadjustedInfo(state.is_finite & ~is_finite)
