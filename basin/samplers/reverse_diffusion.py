"""Ancestral steps down the noise levels: they carry the law of one level to the next.

    x <- x + r sigma^2 s(x, sigma) + sqrt(r (1 - r)) sigma z        from sigma to sqrt(1 - r) sigma

Source: Song et al. 2021 (arXiv 2011.13456), appendix F, equation 47, for the variance-exploding
ladder, with r = 1 - (sigma_next / sigma)^2. Exact for data at one point; in general the error of a
step is of order r^2. Unlike Langevin it needs no mixing at any level, so far modes keep the weights
that they had where they were one. sigma is the attribute of that name of the energy, as
``noisy_energy.at(sigma)`` has it: walk down ``paths.Noised`` with a geometric schedule whose levels
fall by the factor sqrt(1 - r) a step, ending one factor above the level that is wanted.

Targets, after each step, the data blurred by the next level. Cost: one score a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from basin.core.references import Reference
from basin.core.types import Energy, Kernel, NoisyEnergy
from basin.core.validation import in_unit_interval, positive
from basin.mcmc.finiteness import finite_rows
from basin.mcmc.noise_descent import SCORE_SDE, ancestral_move, noise_level
from basin.mcmc.unadjusted_langevin import UnadjustedInfo, UnadjustedState, unadjusted_init
from basin.paths.walk import Walk, walk_down

__all__ = ["ReverseDiffusion"]


@dataclass(frozen=True)
class ReverseDiffusion(Kernel):
    """One ancestral step of the reverse diffusion, for energies that have a noise level.

    Args:
        step_size: r in (0, 1), the share of sigma^2 that a step takes away.
    """

    references: ClassVar[tuple[Reference, ...]] = (SCORE_SDE,)

    step_size: float = 0.03

    def __post_init__(self) -> None:
        positive(step_size=self.step_size)
        in_unit_interval(step_size=self.step_size)

    @staticmethod
    def down(noisy_energy: NoisyEnergy, sigma_max: float, sigma: float, num_steps: int) -> Walk:
        """The path and the kernel that go from ``sigma_max`` to ``sigma`` in ``num_steps`` steps.

        Start from draws at ``sigma_max`` and pass both to :func:`basin.sample` with that number
        of steps.
        """
        path, share = walk_down(noisy_energy, sigma_max, sigma, num_steps)
        return Walk(path, ReverseDiffusion(share))

    def init(self, energy: Energy, x: torch.Tensor, generator: torch.Generator) -> UnadjustedState:
        return unadjusted_init(x)

    def step(
        self, energy: Energy, state: UnadjustedState, generator: torch.Generator
    ) -> tuple[UnadjustedState, UnadjustedInfo]:
        sigma = noise_level(energy, "ReverseDiffusion")
        moved = ancestral_move(energy, state.position, sigma, self.step_size, generator)
        is_finite = finite_rows(moved)
        return UnadjustedState(moved, is_finite), UnadjustedInfo(state.is_finite & ~is_finite)
