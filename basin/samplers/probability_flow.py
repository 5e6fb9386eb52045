"""The probability-flow ODE down the noise levels: the laws of diffusion, without its noise.

    dx / d sigma = -sigma s(x, sigma),       from sigma to sigma' = sqrt(1 - ``step_size``) sigma

    k  = -sigma  s(x, sigma)                                  Heun's rule: the mean of the slopes
    k' = -sigma' s(x + (sigma' - sigma) k, sigma')            at both ends of the step
    x <- x + (sigma' - sigma) (k + k') / 2

Source: Song et al. 2021 (arXiv 2011.13456), equation 13, for noise that grows without a drift; in
sigma as the variable, where the paths of data at one point are straight and Heun is exact, by
Karras, Aittala, Aila & Laine 2022, algorithm 1 without its noise. A solver with fixed steps runs in
the one loop, serves all chains at once and has an error that is known on Gaussians: N(m, 0.25 I)
from sigma = 10 to 0.2 ends 0.12% too wide after 40 steps, where 80 of Euler's rule (as many scores)
leave it 1% too narrow.

If the start is from p_sigma, so is, up to the error of the rule (of order 2 in the number of
steps), each later x from its own level's law. Draws are a deterministic function of the start: no
random number is used. Cost: two scores a step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from basin.core.references import Reference
from basin.core.types import Energy, Kernel, NoisyEnergy
from basin.core.validation import in_unit_interval, positive
from basin.mcmc.finiteness import finite_rows
from basin.mcmc.noise_descent import SCORE_SDE, noise_level, probability_flow
from basin.mcmc.unadjusted_langevin import UnadjustedInfo, UnadjustedState, unadjusted_init
from basin.paths.walk import Walk, walk_down

__all__ = ["ProbabilityFlow"]


@dataclass(frozen=True)
class ProbabilityFlow(Kernel):
    """One step of Heun's rule along the probability flow, for energies that have a noise level.

    Args:
        step_size: in (0, 1), the share of sigma^2 that a step takes away.
    """

    references: ClassVar[tuple[Reference, ...]] = (
        SCORE_SDE,
        Reference(
            "Elucidating the design space of diffusion-based generative models",
            ("Tero Karras", "Miika Aittala", "Timo Aila", "Samuli Laine"),
            2022,
            "https://arxiv.org/abs/2206.00364",
        ),
    )
    is_random: ClassVar[bool] = False

    step_size: float = 0.1

    def __post_init__(self) -> None:
        positive(step_size=self.step_size)
        in_unit_interval(step_size=self.step_size)
        if self.step_size == 1:
            raise ValueError("step_size must be below 1, got 1: it would end at no noise at all")

    @staticmethod
    def down(noisy_energy: NoisyEnergy, sigma_max: float, sigma: float, num_steps: int) -> Walk:
        """The path and the kernel that go from ``sigma_max`` to ``sigma`` in ``num_steps`` steps.

        Start from draws at ``sigma_max`` and pass both to :func:`basin.sample` with that number
        of steps.
        """
        path, share = walk_down(noisy_energy, sigma_max, sigma, num_steps)
        return Walk(path, ProbabilityFlow(share))

    def init(self, energy: Energy, x: Tensor, generator: torch.Generator) -> UnadjustedState:
        return unadjusted_init(x)

    def step(
        self, energy: Energy, state: UnadjustedState, generator: torch.Generator
    ) -> tuple[UnadjustedState, UnadjustedInfo]:
        upper, x = noise_level(energy, "ProbabilityFlow"), state.position
        lower = math.sqrt(1 - self.step_size) * upper
        slope = probability_flow(energy, x, upper)
        guess = x + (lower - upper) * slope
        slope_below = probability_flow(_at(energy, lower), guess, lower)
        moved = x + (lower - upper) / 2 * (slope + slope_below)
        is_finite = finite_rows(moved)
        return UnadjustedState(moved, is_finite), UnadjustedInfo(state.is_finite & ~is_finite)


def _at(energy: Any, sigma: Any) -> Energy:
    """The same energy at another level."""
    if not hasattr(energy, "at"):
        raise ValueError(
            f"ProbabilityFlow needs the energy at two levels, got {type(energy).__name__} without "
            "method at(sigma); give basin.paths.Noised(noisy_energy, schedule)"
        )
    return energy.at(sigma)
