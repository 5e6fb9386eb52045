"""Hamiltonian Monte Carlo (HMC) with a fixed number of leapfrog steps.

    q ~ N(0, I)
    (x', q') = ``num_leapfrog_steps`` leapfrog steps of size h from (x, q),   h = ``step_size`` u,
                                                    u ~ uniform on [1 - ``jitter``, 1 + ``jitter``]
    accept x' with probability min(1, exp(H(x, q) - H(x', q'))),   H = E(x) + |q|^2 / 2

Source: Duane, Kennedy, Pendleton & Roweth 1987; Neal 2011, figure 2, with the random step of his
section 3.2, without which paths of nearly a whole period never get far. q is the whitened
momentum of :mod:`basin.mcmc.metric`. An acceptance of 0.8 is on the safe side of the 0.651 that
is optimal as the dimension grows (Beskos et al. 2013). Leaves exp(-E) / Z exactly invariant,
whatever step and metric.

Cost: ``num_leapfrog_steps`` scores a step, the energy with the last; those of the current point are
kept in the state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from basin.core.references import Reference
from basin.core.tensors import normal_like
from basin.core.types import Energy, Kernel
from basin.core.validation import in_unit_interval, non_negative, positive, positive_integer
from basin.mcmc.gradient_state import GradientState, gradient_state
from basin.mcmc.leapfrog import PhasePoint, hamiltonian, has_diverged, leapfrog
from basin.mcmc.metric import DiagonalMetric, Metric
from basin.mcmc.metropolis import metropolis, select

__all__ = ["HMC", "HMCInfo"]

_UNTIL_LEARNED = DiagonalMetric()


class HMCInfo(NamedTuple):
    """What a reader of the chain wants, ``[chains]`` each.

    ``is_divergent`` marks a rejected end whose energy error was above 1000 nats or not finite;
    ``energy`` is H at the draw, whose steps against its spread give E-BFMI.
    """

    is_accepted: Tensor
    acceptance_probability: Tensor
    is_divergent: Tensor
    num_gradient_evaluations: Tensor
    energy: Tensor


@dataclass(frozen=True)
class HMC(Kernel):
    """Hamiltonian Monte Carlo, for many chains at once.

    Args:
        step_size: h, positive, in standard deviations of x where the metric fits the target (with
            the identity metric in units of x).
        num_leapfrog_steps: leapfrog steps of one transition. A path of length h times this number
            of about pi / 2 gets farthest on a target that fits the metric.
        target_acceptance: what warm-up adapts ``step_size`` to, in (0, 1).
        inverse_mass: the metric; warm-up learns a ``DiagonalMetric`` or a ``DenseMetric``.
        jitter: in [0, 1): each chain's step varies by this share, afresh in every transition. A
            path of a whole period of some coordinate never moves it; with a wide jitter none
            stays such a path (a logistic posterior in 25 dimensions, 10 steps: smallest ESS of
            2,000 draws about 1,500 with 0.3, and 390 with 0.1).

    >>> import torch, basin
    >>> gaussian = lambda x: 0.5 * (x.square() / torch.tensor([1.0, 100.0])).sum(1)
    >>> chains = basin.sampling.sample(
    ...     gaussian, HMC(num_leapfrog_steps=5), torch.zeros(100, 2), num_steps=50, num_warmup=200)
    >>> 9 < float(chains.positions[..., 1].std()) < 11
    True
    """

    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "MCMC using Hamiltonian dynamics",
            ("Radford M. Neal",),
            2011,
            "https://arxiv.org/abs/1206.1901",
        ),
    )
    is_exact: ClassVar[bool] = True
    is_reversible: ClassVar[bool] = True

    step_size: float = 0.1
    num_leapfrog_steps: int = 10
    target_acceptance: float = 0.8
    inverse_mass: Metric = _UNTIL_LEARNED
    jitter: float = 0.3

    def __post_init__(self) -> None:
        positive(step_size=self.step_size, target_acceptance=self.target_acceptance)
        positive_integer(num_leapfrog_steps=self.num_leapfrog_steps)
        in_unit_interval(target_acceptance=self.target_acceptance)
        non_negative(jitter=self.jitter)
        if not self.jitter < 1:
            raise ValueError(f"jitter must be below 1, got {self.jitter!r}")

    def init(self, energy: Energy, x: Tensor, generator: torch.Generator) -> GradientState:
        del generator
        self.inverse_mass.check(x)
        return gradient_state(energy, x)

    def step(
        self, energy: Energy, state: GradientState, generator: torch.Generator
    ) -> tuple[GradientState, HMCInfo]:
        start = PhasePoint(state, normal_like(state.position, generator))
        step_size = self._step_sizes(state.energy, generator)
        end = leapfrog(energy, start, step_size, self.inverse_mass, self.num_leapfrog_steps)
        before, after = hamiltonian(start), hamiltonian(end)
        decision = metropolis(before - after, generator)
        pairs = zip(end.state, state, strict=True)
        moved = GradientState(*(select(decision.is_accepted, *pair) for pair in pairs))
        info = HMCInfo(
            is_accepted=decision.is_accepted,
            acceptance_probability=decision.acceptance_probability,
            is_divergent=has_diverged(after - before),
            num_gradient_evaluations=torch.full_like(
                decision.is_accepted, self.num_leapfrog_steps, dtype=torch.long
            ),
            energy=select(decision.is_accepted, after, before),
        )
        return moved, info

    def shortest(self) -> HMC:
        """The kernel of one leapfrog step, by which warm-up finds a step to begin with."""
        return replace(self, num_leapfrog_steps=1)

    def _step_sizes(self, like: Tensor, generator: torch.Generator) -> float | Tensor:
        """h of each chain, ``[chains]``: drawn apart from x and q, which keeps each one valid."""
        if self.jitter == 0:
            return self.step_size
        u = torch.rand(like.shape, generator=generator, dtype=like.dtype, device=like.device)
        return self.step_size * (1 + self.jitter * (2 * u - 1))
