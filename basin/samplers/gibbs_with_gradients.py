"""Gibbs with gradients: Metropolis steps that read off the gradient which coordinate to change.

    d(y)     = estimate of E(x) - E(y) for each of the d (K - 1) neighbours y of x
             = (1 - 2 x_i) s_i           y flips x_i,                binary rows, s = -dE/dx
             = s_iv - s_iu               y changes x_i from u to v,  s = -dE/d one_hot(x)
    propose  y with probability q(y | x) = exp(d(y) / 2) / sum over y' of exp(d(y') / 2)
    accept   with probability min(1, exp(E(x) - E(y)) q(x | y) / q(y | x))

Source: Grathwohl, Swersky, Hashemi, Duvenaud & Maddison 2021, algorithm 1, whose f is -E; Zanella
2020 for the square root of the ratio, exp(d / 2). x itself is never proposed. Leaves exp(-E) / Z
exactly invariant, however bad the estimate: that costs acceptance only. It is exact where E is
linear in each coordinate (Ising, Potts, Boltzmann machines). Where E is flat nothing is rejected,
so that after k steps exactly k changes were made: chains from one and the same row keep step.

A binary energy is differentiated in x, one of more states in one-hot rows, for which it offers
``of_one_hot(rows [batch, *event, K]) -> [batch]``.

Cost: one energy and one gradient a step, whatever d is; those of the current row are kept in the
state with d (K - 1) numbers. A step changes one coordinate at most: compare d of them with one
sweep of :class:`Gibbs`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from basin.core.discrete import number_of_states, one_hot, require_same_states, whole_numbers
from basin.core.gradients import energy_and_score
from basin.core.references import Reference
from basin.core.types import Energy, Kernel
from basin.mcmc.categorical import categorical_draw
from basin.mcmc.metropolis import Acceptance, metropolis, select

__all__ = ["GibbsWithGradients", "GibbsWithGradientsState", "estimated_energy_drops"]


class GibbsWithGradientsState(NamedTuple):
    """Whole numbers, their energies and the logarithm of the proposal at each.

    ``position`` ``[chains, *event]``, ``energy`` ``[chains]``, ``log_proposal``
    ``[chains, d (K - 1)]``: entry i (K - 1) + k - 1 is about the row with (x_i + k) mod K.
    """

    position: Tensor
    energy: Tensor
    log_proposal: Tensor


def estimated_energy_drops(energy: Any, x: Tensor, num_states: int) -> tuple[Tensor, Tensor]:
    """``(E(x), estimates of E(x) - E(y))``, ``[batch]`` and ``[batch, d, K - 1]``.

    Entry [b, i, k-1] is about the neighbour y whose coordinate i became (x_i + k) mod K, as in
    :func:`basin.core.energy_drops`, which gives the exact differences for d (K - 1) energies.

    Args:
        energy: differentiable callable ``[batch, *event] -> [batch]`` of binary rows; of more
            states one with a method ``of_one_hot``.
        x: whole numbers, ``[batch, *event]``.
        num_states: K.

    Example:
        >>> import torch, basin
        >>> triple = basin.energies.Ising(3, couplings=1.0)
        >>> estimated_energy_drops(triple, torch.tensor([[1.0, 1.0, 0.0]]), 2)[1].flatten()
        tensor([0., 0., 4.])
    """
    if hasattr(energy, "of_one_hot"):
        values, scores = energy_and_score(energy.of_one_hot, one_hot(x, num_states))
        scores = scores.reshape(len(x), -1, num_states)
        shift = torch.arange(num_states, device=x.device)
        to = (x.reshape(len(x), -1, 1).long() + shift) % num_states  # x itself, then its neighbours
        scores = scores.gather(2, to)
        return values, scores[..., 1:] - scores[..., :1]
    if num_states > 2:
        raise ValueError(
            f"GibbsWithGradients needs an energy of one-hot rows for {num_states} states, got "
            f"{type(energy).__name__} without a method of_one_hot(rows) -> [batch]; take Gibbs"
        )
    values, scores = energy_and_score(energy, x)
    return values, ((1 - 2 * x) * scores).reshape(len(x), -1, 1)


@dataclass(frozen=True)
class GibbsWithGradients(Kernel):
    """Gibbs with gradients: changes the coordinate that the gradient points at, or nothing.

    Its info is an :class:`~basin.mcmc.metropolis.Acceptance`: ``is_accepted``,
    ``acceptance_probability``, ``is_divergent`` (a proposal that was not finite, and rejected).

    Args:
        num_states: K, values that each coordinate may take: 0, 1, ..., K - 1.

    Example:
        >>> import torch, basin
        >>> pair = basin.energies.Ising(2, couplings=0.5)
        >>> chains = basin.sample(pair, GibbsWithGradients(), torch.zeros(500, 2), num_steps=40)
        >>> agree = (chains.positions[..., 0] == chains.positions[..., 1]).double().mean()
        >>> round(float(agree), 1)                       # e^0.5 / (e^0.5 + e^-0.5) = 0.73
        0.7
    """

    support: ClassVar[Literal["discrete"]] = "discrete"
    is_exact: ClassVar[bool] = True
    is_reversible: ClassVar[bool] = True
    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "Oops I took a gradient: scalable sampling for discrete distributions",
            ("Will Grathwohl", "Kevin Swersky", "Milad Hashemi", "David Duvenaud")
            + ("Chris J. Maddison",),
            2021,
            "https://arxiv.org/abs/2102.04509",
        ),
        Reference(
            "Informed proposals for local MCMC in discrete spaces",
            ("Giacomo Zanella",),
            2020,
            "https://doi.org/10.1080/01621459.2019.1585255",
        ),
    )

    num_states: int = 2

    def __post_init__(self) -> None:
        number_of_states(self.num_states)

    def init(
        self, energy: Energy, x: Tensor, generator: torch.Generator
    ) -> GibbsWithGradientsState:
        require_same_states(energy, self.num_states)
        whole_numbers("x", x, self.num_states)
        return self._at(energy, x)

    def step(
        self, energy: Energy, state: GibbsWithGradientsState, generator: torch.Generator
    ) -> tuple[GibbsWithGradientsState, Acceptance]:
        move = categorical_draw(state.log_proposal, generator)
        position, way_back = _moved(state.position, move, self.num_states)
        proposed = self._at(energy, position)
        log_ratio = _entry(proposed.log_proposal, way_back) - _entry(state.log_proposal, move)
        decision = metropolis(state.energy - proposed.energy + log_ratio, generator)
        pairs = zip(proposed, state, strict=True)
        moved = (select(decision.is_accepted, *pair) for pair in pairs)
        return GibbsWithGradientsState(*moved), decision

    def _at(self, energy: Energy, x: Tensor) -> GibbsWithGradientsState:
        """In the precision of x, also where autocast computed the energy in half precision."""
        values, drops = estimated_energy_drops(energy, x, self.num_states)
        log_proposal = torch.log_softmax(drops.flatten(1).to(x.dtype) / 2, dim=1)
        return GibbsWithGradientsState(x, values.to(x.dtype), log_proposal)


def _moved(x: Tensor, move: Tensor, num_states: int) -> tuple[Tensor, Tensor]:
    """The neighbours that ``move`` ``[chains]`` leads to, and the moves that lead back."""
    coordinate, shift = move // (num_states - 1), move % (num_states - 1) + 1
    flat = x.flatten(1).clone()
    place = coordinate.unsqueeze(1)
    flat.scatter_(1, place, (flat.gather(1, place) + shift.unsqueeze(1)) % num_states)
    way_back = coordinate * (num_states - 1) + (num_states - shift) - 1
    return flat.view_as(x), way_back


def _entry(log_proposal: Tensor, move: Tensor) -> Tensor:
    return log_proposal.gather(1, move.unsqueeze(1)).squeeze(1)
