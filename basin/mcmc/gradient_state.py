"""A position with its energy and score: the state of every kernel that accepts or rejects.

Both are kept, so that a step never computes again what the step before it knew. Cost: one forward
and one backward pass of the energy.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from basin.core.gradients import energy_and_score
from basin.core.types import Energy

__all__ = ["GradientState", "gradient_state"]


class GradientState(NamedTuple):
    """``position`` and ``score`` ``[chains, *event]``, ``energy`` ``[chains]`` at the position."""

    position: Tensor
    energy: Tensor
    score: Tensor


def gradient_state(energy: Energy, x: Tensor) -> GradientState:
    """The state at ``x``, in its precision also where autocast ran the energy in half of it."""
    values, scores = energy_and_score(energy, x)
    return GradientState(x, values.to(x.dtype), scores.to(x.dtype))
