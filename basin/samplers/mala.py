"""Metropolis-adjusted Langevin algorithm (MALA).

    propose  x' = x - epsilon dE/dx + sqrt(2 epsilon) z,      z ~ N(0, I),  epsilon = ``step_size``
    accept   with probability min(1, exp(E(x) - E(x')) q(x | x') / q(x' | x)),
             q(x' | x) = N(x'; x - epsilon dE/dx, 2 epsilon I)

Source: Roberts & Tweedie 1996; the target acceptance of 0.574 is optimal as the dimension grows
(Roberts & Rosenthal 1998; their sigma^2 is 2 epsilon). Leaves exp(-E) / Z exactly
invariant, whatever epsilon. Cost: one energy and one score a step; those of the current point are
kept in the state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from basin.core.gradients import energy_and_score
from basin.core.tensors import normal_like
from basin.core.types import Energy, Kernel
from basin.core.validation import in_unit_interval, positive
from basin.mcmc.langevin_proposal import langevin_log_ratio, langevin_proposal
from basin.mcmc.metropolis import Acceptance, metropolis, select

__all__ = ["MALA", "MALAState"]


class MALAState(NamedTuple):
    """``position`` and ``score`` ``[chains, *event]``, ``energy`` ``[chains]`` at the position."""

    position: Tensor
    energy: Tensor
    score: Tensor


@dataclass(frozen=True)
class MALA(Kernel):
    """Metropolis-adjusted Langevin, for many chains at once.

    Its info is an :class:`~basin.mcmc.metropolis.Acceptance`: ``is_accepted``,
    ``acceptance_probability``, ``is_divergent`` (a proposal that was not finite, and rejected).

    Args:
        step_size: epsilon, positive, in squared units of x.
        target_acceptance: what warm-up adapts ``step_size`` to, in (0, 1).

    >>> import torch, basin
    >>> gaussian = lambda x: 0.5 * x.square().sum(1)
    >>> chains = basin.sampling.sample(
    ...     gaussian, MALA(), torch.zeros(100, 2), num_steps=50, num_warmup=100)
    >>> 0.45 < chains.acceptance_rate < 0.7
    True
    """

    step_size: float = 0.1
    target_acceptance: float = 0.574

    def __post_init__(self) -> None:
        positive(step_size=self.step_size, target_acceptance=self.target_acceptance)
        in_unit_interval(target_acceptance=self.target_acceptance)

    def init(self, energy: Energy, x: Tensor, generator: torch.Generator) -> MALAState:
        return MALAState(x, *_energy_and_score(energy, x))

    def step(
        self, energy: Energy, state: MALAState, generator: torch.Generator
    ) -> tuple[MALAState, Acceptance]:
        noise = normal_like(state.position, generator)
        position = langevin_proposal(state.position, state.score, self.step_size, noise)
        proposed = MALAState(position, *_energy_and_score(energy, position))
        log_ratio = langevin_log_ratio(state.score, proposed.score, self.step_size, noise)
        decision = metropolis(state.energy - proposed.energy + log_ratio, generator)
        pairs = zip(proposed, state, strict=True)
        return MALAState(*(select(decision.is_accepted, *pair) for pair in pairs)), decision


def _energy_and_score(energy: Energy, x: Tensor) -> tuple[Tensor, Tensor]:
    """In the precision of x, also where autocast computed the energy in half precision."""
    values, scores = energy_and_score(energy, x)
    return values.to(x.dtype), scores.to(x.dtype)
