"""Predictor-corrector: a Langevin step at each noise level, then an ancestral step to the next.

    correct   x <- x + epsilon s(x, sigma) + sqrt(2 epsilon) z       epsilon = ``corrector`` sigma^2
    predict   x <- x + r sigma^2 s(x, sigma) + sqrt(r (1 - r)) sigma z'
                                                  from sigma to sqrt(1 - r) sigma, r = ``step_size``

Source: Song et al. 2021 (arXiv 2011.13456), algorithms 2 and 4. They predict first and correct at
the new level; a step here sees the energy at one level only, so the two halves are the other way
round, and a walk differs from theirs in its two ends. Their epsilon follows from a signal-to-noise
ratio over the whole batch, so that chains would depend on each other; here it is that of
``AnnealedLangevin``, the same share of sigma^2 at each level.

Targets, after each step, the data blurred by the next level: the corrector pulls the law of the
chains towards that of its level, up to the bias of ULA, before the predictor carries it on. Cost:
two scores a step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from basin.core.gradients import score
from basin.core.references import Reference
from basin.core.tensors import normal_like
from basin.core.types import Energy, Kernel, NoisyEnergy
from basin.core.validation import in_unit_interval, positive
from basin.mcmc.finiteness import finite_rows
from basin.mcmc.langevin_proposal import langevin_proposal
from basin.mcmc.noise_descent import SCORE_SDE, ancestral_move, noise_level
from basin.mcmc.unadjusted_langevin import UnadjustedInfo, UnadjustedState, unadjusted_init
from basin.paths.walk import Walk, walk_down

__all__ = ["PredictorCorrector"]


@dataclass(frozen=True)
class PredictorCorrector(Kernel):
    """Langevin at a level, then down to the next one, for energies that have a noise level.

    Args:
        step_size: r in (0, 1), the share of sigma^2 that a step takes away.
        corrector: epsilon / sigma^2 of the Langevin step, positive; below 2 it is stable.
    """

    references: ClassVar[tuple[Reference, ...]] = (SCORE_SDE,)

    step_size: float = 0.03
    corrector: float = 0.2

    def __post_init__(self) -> None:
        positive(step_size=self.step_size, corrector=self.corrector)
        in_unit_interval(step_size=self.step_size)

    def down(
        self, noisy_energy: NoisyEnergy, sigma_max: float, sigma: float, num_steps: int
    ) -> Walk:
        """The path and the kernel that go from ``sigma_max`` to ``sigma`` in ``num_steps`` steps.

        Start from draws at ``sigma_max`` and pass both to :func:`basin.sample` with that number
        of steps. The kernel is this one, but for its ``step_size``.
        """
        path, share = walk_down(noisy_energy, sigma_max, sigma, num_steps)
        return Walk(path, replace(self, step_size=share))

    def init(self, energy: Energy, x: Tensor, generator: torch.Generator) -> UnadjustedState:
        return unadjusted_init(x)

    def step(
        self, energy: Energy, state: UnadjustedState, generator: torch.Generator
    ) -> tuple[UnadjustedState, UnadjustedInfo]:
        sigma = noise_level(energy, "PredictorCorrector")
        x = state.position
        epsilon = self.corrector * sigma**2
        x = langevin_proposal(x, score(energy, x), epsilon, normal_like(x, generator))
        x = ancestral_move(energy, x, sigma, self.step_size, generator)
        is_finite = finite_rows(x)
        return UnadjustedState(x, is_finite), UnadjustedInfo(state.is_finite & ~is_finite)
