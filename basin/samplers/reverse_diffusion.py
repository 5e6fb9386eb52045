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
from typing import ClassVar, NamedTuple

import torch

from basin.core.gradients import score
from basin.core.references import Reference
from basin.core.tensors import normal_like
from basin.core.types import Energy, Kernel, NoisyEnergy
from basin.core.validation import in_unit_interval, positive, positive_integer
from basin.mcmc.finiteness import finite_rows
from basin.mcmc.unadjusted_langevin import UnadjustedInfo, UnadjustedState, unadjusted_init
from basin.paths.noised import Noised
from basin.schedules.geometric import Geometric

__all__ = ["ReverseDiffusion", "Walk"]


class Walk(NamedTuple):
    """A path down the noise levels and the kernel whose steps fit it."""

    path: Noised
    kernel: ReverseDiffusion


@dataclass(frozen=True)
class ReverseDiffusion(Kernel):
    """One ancestral step of the reverse diffusion, for energies that have a noise level.

    Args:
        step_size: r in (0, 1), the share of sigma^2 that a step takes away.
    """

    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "Score-based generative modeling through stochastic differential equations",
            ("Yang Song", "Jascha Sohl-Dickstein", "Diederik P. Kingma", "Abhishek Kumar")
            + ("Stefano Ermon", "Ben Poole"),
            2021,
            "https://arxiv.org/abs/2011.13456",
        ),
    )

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
        positive(sigma_max=sigma_max, sigma=sigma)
        positive_integer(num_steps=num_steps)
        if not sigma < sigma_max:
            raise ValueError(
                f"sigma must lie below sigma_max to walk down to it, got {sigma:.6g} and "
                f"{sigma_max:.6g}; at sigma_max itself the start is the draw"
            )
        factor = (sigma / sigma_max) ** (1 / num_steps)
        path = Noised(noisy_energy, Geometric(sigma_max / factor, sigma / factor))
        return Walk(path, ReverseDiffusion(1 - factor**2))

    def init(self, energy: Energy, x: torch.Tensor, generator: torch.Generator) -> UnadjustedState:
        return unadjusted_init(x)

    def step(
        self, energy: Energy, state: UnadjustedState, generator: torch.Generator
    ) -> tuple[UnadjustedState, UnadjustedInfo]:
        sigma = getattr(energy, "sigma", None)
        if sigma is None:
            raise ValueError(
                f"ReverseDiffusion needs an energy with a noise level, got {type(energy).__name__} "
                "without attribute sigma; give basin.paths.Noised(noisy_energy, schedule)"
            )
        r = self.step_size
        x = state.position
        noise = (r * (1 - r)) ** 0.5 * sigma * normal_like(x, generator)
        moved = x + r * sigma**2 * score(energy, x) + noise
        is_finite = finite_rows(moved)
        return UnadjustedState(moved, is_finite), UnadjustedInfo(state.is_finite & ~is_finite)
