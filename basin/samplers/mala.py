"""Metropolis-adjusted Langevin algorithm (MALA).

    propose  x' = x - epsilon M^-1 dE/dx + sqrt(2 epsilon) L z,      M^-1 = L L' = ``inverse_mass``
                                                     z ~ N(0, I),  epsilon = ``step_size``
    accept   with probability min(1, exp(E(x) - E(x')) q(x | x') / q(x' | x)),
             q(x' | x) = N(x'; x - epsilon M^-1 dE/dx, 2 epsilon M^-1)

Source: Roberts & Tweedie 1996; the target acceptance of 0.574 is optimal as the dimension grows
(Roberts & Rosenthal 1998; their sigma^2 is 2 epsilon). It is the walk with M = I in coordinates
y = L^-1 x, where the score is L' s, so the ratio is the plain one's (:mod:`basin.mcmc.metric`).
Leaves exp(-E) / Z exactly invariant, whatever epsilon and metric. Cost: one energy and one score a
step; those of the current point are kept in the state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from basin.core.tensors import normal_like
from basin.core.types import Energy, Kernel
from basin.core.validation import in_unit_interval, positive
from basin.mcmc.gradient_state import GradientState, gradient_state
from basin.mcmc.langevin_proposal import langevin_log_ratio, langevin_proposal
from basin.mcmc.metric import IdentityMetric, Metric
from basin.mcmc.metropolis import Acceptance, metropolis, select

__all__ = ["MALA"]

_IDENTITY = IdentityMetric()


@dataclass(frozen=True)
class MALA(Kernel):
    """Metropolis-adjusted Langevin, for many chains at once.

    Its info is an :class:`~basin.mcmc.metropolis.Acceptance`: ``is_accepted``,
    ``acceptance_probability``, ``is_divergent`` (a proposal that was not finite, and rejected).

    Args:
        step_size: epsilon, positive, in squared units of x (of M^-1, with a metric).
        target_acceptance: what warm-up adapts ``step_size`` to, in (0, 1).
        inverse_mass: the metric; warm-up learns a ``DiagonalMetric`` or a ``DenseMetric``.

    >>> import torch, basin
    >>> gaussian = lambda x: 0.5 * x.square().sum(1)
    >>> chains = basin.sampling.sample(
    ...     gaussian, MALA(), torch.zeros(100, 2), num_steps=50, num_warmup=100)
    >>> 0.45 < chains.acceptance_rate < 0.7
    True
    """

    is_exact: ClassVar[bool] = True
    is_reversible: ClassVar[bool] = True

    step_size: float = 0.1
    target_acceptance: float = 0.574
    inverse_mass: Metric = _IDENTITY

    def __post_init__(self) -> None:
        positive(step_size=self.step_size, target_acceptance=self.target_acceptance)
        in_unit_interval(target_acceptance=self.target_acceptance)

    def init(self, energy: Energy, x: Tensor, generator: torch.Generator) -> GradientState:
        del generator
        self.inverse_mass.check(x)
        return gradient_state(energy, x)

    def step(
        self, energy: Energy, state: GradientState, generator: torch.Generator
    ) -> tuple[GradientState, Acceptance]:
        spread, pull = self.inverse_mass.spread, self.inverse_mass.pull
        z = normal_like(state.position, generator)
        force = pull(state.score)
        position = langevin_proposal(state.position, spread(force), self.step_size, spread(z))
        proposed = gradient_state(energy, position)
        log_ratio = langevin_log_ratio(force, pull(proposed.score), self.step_size, z)
        decision = metropolis(state.energy - proposed.energy + log_ratio, generator)
        pairs = zip(proposed, state, strict=True)
        return GradientState(*(select(decision.is_accepted, *pair) for pair in pairs)), decision
