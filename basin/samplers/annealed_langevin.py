"""Annealed Langevin: the Langevin step that grows with the noise level of the energy.

    x <- x - epsilon dE/dx + sqrt(2 epsilon) z,      epsilon = ``step_size`` sigma^2

Source: Song & Ermon 2019, algorithm 1. They write alpha/2 for the drift, sqrt(alpha) for the noise
and alpha_i = eps sigma_i^2 / sigma_L^2, so that ``step_size`` is their eps / (2 sigma_L^2). sigma
is the attribute of that name of the energy, as ``noisy_energy.at(sigma)`` has it; to walk down the
levels sample from ``paths.Noised(noisy_energy, schedule)``.

Targets, at each level, the data blurred by N(0, sigma^2 I), with the bias of ULA: where that is
N(0, (s^2 + sigma^2) I) the variance at rest is (s^2 + sigma^2) / (1 - step_size r / 2) with
r = sigma^2 / (s^2 + sigma^2) < 1. Cost: one score a step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from basin.core.types import Energy, Kernel
from basin.core.validation import positive
from basin.mcmc.unadjusted_langevin import (
    UnadjustedInfo,
    UnadjustedState,
    unadjusted_init,
    unadjusted_step,
)

__all__ = ["AnnealedLangevin"]


@dataclass(frozen=True)
class AnnealedLangevin(Kernel):
    """Langevin with epsilon = ``step_size`` sigma^2, for energies that have a noise level.

    Args:
        step_size: positive and without unit; below 2 it is stable wherever the data have been
            blurred by N(0, sigma^2 I), since no direction curves more than 1 / sigma^2.
    """

    step_size: float = 0.1

    def __post_init__(self) -> None:
        positive(step_size=self.step_size)

    def init(self, energy: Energy, x: Tensor, generator: torch.Generator) -> UnadjustedState:
        return unadjusted_init(x)

    def step(
        self, energy: Energy, state: UnadjustedState, generator: torch.Generator
    ) -> tuple[UnadjustedState, UnadjustedInfo]:
        return unadjusted_step(energy, state, self.unadjusted_step_size(energy), generator)

    def unadjusted_step_size(self, energy: Energy) -> float | Tensor:
        """epsilon at the energy's noise level; an error if it has none.

        A ``sigma`` that is a tensor broadcasts against x: ``[*event]`` has a level for each
        coordinate (each then moves with its own epsilon), ``[chains, 1]`` one for each chain.
        """
        sigma = getattr(energy, "sigma", None)
        if sigma is None:
            raise ValueError(
                f"AnnealedLangevin needs an energy with a noise level, got {type(energy).__name__} "
                "without attribute sigma; give noisy_energy.at(sigma), or a path "
                "basin.paths.Noised(noisy_energy, schedule), or take Langevin"
            )
        return self.step_size * sigma**2
