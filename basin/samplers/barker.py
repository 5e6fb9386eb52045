"""The Barker proposal: each coordinate draws a size, then a direction by the score.

    z_i ~ N(0, 2 epsilon)                                               epsilon = ``step_size``
    x'_i = x_i + z_i  with probability 1 / (1 + exp(-z_i s_i(x))),  else  x'_i = x_i - z_i
    accept with probability min(1, exp(E(x) - E(x')) q(x | x') / q(x' | x)), where with w = x' - x
    q(x | x') / q(x' | x) = prod_i (1 + exp(-w_i s_i(x))) / (1 + exp(w_i s_i(x')))

Source: Livingstone & Zanella 2022, "The Barker proposal: combining robustness and efficiency in
gradient-based MCMC", with their sigma^2 = 2 ``step_size``: then the mean move is epsilon s(x) for
small steps, that of MALA. A score, however large, turns a coordinate's
direction and never lengthens its move, so a step that is too long for one coordinate, or a start
far out, costs little. The target acceptance of 0.574 is optimal as the dimension grows (Vogrinc,
Livingstone & Zanella 2023).

Leaves exp(-E) / Z exactly invariant, whatever epsilon. Cost: one energy and one score a step; those
of the current point are kept in the state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from basin.core.gradients import energy_and_score
from basin.core.references import Reference
from basin.core.tensors import event_sum, normal_like
from basin.core.types import Energy, Kernel
from basin.core.validation import in_unit_interval, positive
from basin.mcmc.metropolis import Acceptance, metropolis, select

__all__ = ["Barker", "BarkerState"]


class BarkerState(NamedTuple):
    """``position`` and ``score`` ``[chains, *event]``, ``energy`` ``[chains]`` at the position."""

    position: Tensor
    energy: Tensor
    score: Tensor


@dataclass(frozen=True)
class Barker(Kernel):
    """Metropolis-Hastings with the Barker proposal: as MALA, and hard to mistune.

    Its info is an :class:`~basin.mcmc.metropolis.Acceptance`.

    Args:
        step_size: epsilon, positive, in squared units of x.
        target_acceptance: what warm-up adapts ``step_size`` to, in (0, 1).

    >>> import torch, basin
    >>> gaussian = lambda x: 0.5 * x.square().sum(1)
    >>> chains = basin.sampling.sample(
    ...     gaussian, Barker(), torch.full((100, 2), 30.0), num_steps=50, num_warmup=200)
    >>> 0.45 < chains.acceptance_rate < 0.7
    True
    """

    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "The Barker proposal: combining robustness and efficiency in gradient-based MCMC",
            ("Samuel Livingstone", "Giacomo Zanella"),
            2022,
            "https://arxiv.org/abs/1908.11812",
        ),
    )
    is_exact: ClassVar[bool] = True
    is_reversible: ClassVar[bool] = True

    step_size: float = 0.1
    target_acceptance: float = 0.574

    def __post_init__(self) -> None:
        positive(step_size=self.step_size, target_acceptance=self.target_acceptance)
        in_unit_interval(target_acceptance=self.target_acceptance)

    def init(self, energy: Energy, x: Tensor, generator: torch.Generator) -> BarkerState:
        return BarkerState(x, *_energy_and_score(energy, x))

    def step(
        self, energy: Energy, state: BarkerState, generator: torch.Generator
    ) -> tuple[BarkerState, Acceptance]:
        move = barker_move(state.score, self.step_size, generator)
        position = state.position + move
        proposed = BarkerState(position, *_energy_and_score(energy, position))
        log_ratio = barker_log_ratio(state.score, proposed.score, move)
        decision = metropolis(state.energy - proposed.energy + log_ratio, generator)
        pairs = zip(proposed, state, strict=True)
        return BarkerState(*(select(decision.is_accepted, *pair) for pair in pairs)), decision


def barker_move(score: Tensor, step_size: float, generator: torch.Generator) -> Tensor:
    """w = x' - x, shape of the score at x."""
    z = math.sqrt(2 * step_size) * normal_like(score, generator)
    uniform = torch.rand(z.shape, generator=generator, dtype=z.dtype, device=z.device)
    return torch.where(uniform < torch.sigmoid(z * score), z, -z)


def barker_log_ratio(score: Tensor, proposed_score: Tensor, move: Tensor) -> Tensor:
    """``log q(x | x') - log q(x' | x)``, ``[chains]``; the law of |w| is the same both ways."""
    return event_sum(softplus(-move * score) - softplus(move * proposed_score))


def _energy_and_score(energy: Energy, x: Tensor) -> tuple[Tensor, Tensor]:
    """In the precision of x, also where autocast computed the energy in half precision."""
    values, scores = energy_and_score(energy, x)
    return values.to(x.dtype), scores.to(x.dtype)
