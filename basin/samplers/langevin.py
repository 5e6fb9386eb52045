"""Unadjusted Langevin algorithm (ULA).

    x <- x - epsilon dE/dx + sqrt(2 epsilon) z,      z ~ N(0, I),  epsilon = ``step_size``

Source: Parisi 1981; Roberts & Tweedie 1996. Other papers write epsilon/2 for the drift and
sqrt(epsilon) for the noise: their epsilon is 2 ``step_size``. A drift and a noise that do not
belong together sample exp(-E/T) with T = noise^2 / (2 drift): say so with ``Tempered``.

Targets exp(-E) / Z only as epsilon goes to 0: on a Gaussian of precision lambda its law at rest has
variance 1 / (lambda (1 - epsilon lambda / 2)), and none when epsilon >= 2 / lambda; ``sample``
warns when the curvature of the energy says so. Cost: one score a step.
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

__all__ = ["Langevin"]


@dataclass(frozen=True)
class Langevin(Kernel):
    """Unadjusted Langevin, for many chains at once.

    Args:
        step_size: epsilon, positive, in squared units of x. The default suits a target of scale 1.

    >>> import torch, basin
    >>> gaussian = lambda x: 0.5 * x.square().sum(1)
    >>> chains = basin.sampling.sample(
    ...     gaussian, Langevin(0.1), torch.zeros(500, 2), num_steps=100, keep="last")
    >>> 0.9 < float(chains.last.std()) < 1.15
    True
    """

    step_size: float = 0.01

    def __post_init__(self) -> None:
        positive(step_size=self.step_size)

    def init(self, energy: Energy, x: Tensor, generator: torch.Generator) -> UnadjustedState:
        return unadjusted_init(x)

    def step(
        self, energy: Energy, state: UnadjustedState, generator: torch.Generator
    ) -> tuple[UnadjustedState, UnadjustedInfo]:
        return unadjusted_step(energy, state, self.step_size, generator)

    def unadjusted_step_size(self, energy: Energy) -> float:
        """The epsilon that the energy's curvature bounds; ``sample`` asks for it."""
        return self.step_size
