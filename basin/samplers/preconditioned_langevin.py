"""Preconditioned Langevin: ULA with a step of its own for each coordinate.

    x_i <- x_i - epsilon m_i^2 dE/dx_i + sqrt(2 epsilon) m_i z_i      epsilon = ``step_size``
                                                                      m = ``scale``

Source: Roberts & Stramer 2002, "Langevin diffusions and Metropolis-Hastings algorithms", with a
constant preconditioner m^2. It is ULA in the coordinates x_i / m_i: with m_i near the standard
deviation of x_i (the draws of a first run have it) one epsilon suits them all. A preconditioner
that follows the gradients as in RMSprop (pSGLD, Li et al. 2016) changes with x, and the term that
would correct for this is left out there: an error that stays at every step size. It is not offered.

Targets exp(-E) / Z only as epsilon goes to 0: on a Gaussian with independent coordinates of
precision lambda_i the law at rest has variance 1 / (lambda_i (1 - epsilon m_i^2 lambda_i / 2)).
Cost: one score a step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from basin.core.types import Energy, Kernel
from basin.core.validation import one_or_each, positive
from basin.mcmc.unadjusted_langevin import (
    UnadjustedInfo,
    UnadjustedState,
    unadjusted_init,
    unadjusted_step,
)

__all__ = ["PreconditionedLangevin"]


@dataclass(frozen=True)
class PreconditionedLangevin(Kernel):
    """Unadjusted Langevin with a scale for each coordinate.

    Args:
        step_size: epsilon, positive, without unit: that of a target of scale 1.
        scale: m, positive, in the units of x: a number, or a tuple with one for each coordinate
            (in the order of the flattened event).

    Raises:
        ValueError: another number of scales than coordinates, when it starts.

    >>> import torch, basin
    >>> stretched = lambda x: 0.5 * (x[:, 0] / 100).square() + 0.5 * x[:, 1].square()
    >>> kernel = PreconditionedLangevin(0.1, scale=(100.0, 1.0))
    >>> chains = basin.sample(stretched, kernel, torch.zeros(2000, 2), num_steps=50, keep="last")
    >>> [0.95 < s < 1.1 for s in (chains.last.std(0) / torch.tensor([100.0, 1.0])).tolist()]
    [True, True]
    """

    step_size: float = 0.01
    scale: float | tuple[float, ...] = 1.0

    def __post_init__(self) -> None:
        positive(step_size=self.step_size)
        object.__setattr__(self, "scale", one_or_each("scale", self.scale))
        for scale in self.scale if isinstance(self.scale, tuple) else (self.scale,):
            positive(scale=scale)

    def init(self, energy: Energy, x: Tensor, generator: torch.Generator) -> UnadjustedState:
        if isinstance(self.scale, tuple) and len(self.scale) != x[0].numel():
            raise ValueError(
                f"scale must be a number or one for each of {x[0].numel()} coordinates, got "
                f"{len(self.scale)}"
            )
        return unadjusted_init(x)

    def step(
        self, energy: Energy, state: UnadjustedState, generator: torch.Generator
    ) -> tuple[UnadjustedState, UnadjustedInfo]:
        x = state.position
        epsilon = self.unadjusted_step_size(energy)
        if isinstance(epsilon, Tensor):
            epsilon = epsilon.to(x).reshape(x.shape[1:])
        return unadjusted_step(energy, state, epsilon, generator)

    def unadjusted_step_size(self, energy: Energy) -> float | Tensor:
        """epsilon m^2, which the energy's curvature bounds; ``sample`` asks for it."""
        if not isinstance(self.scale, tuple):
            return self.step_size * self.scale**2
        return self.step_size * torch.tensor(self.scale, dtype=torch.float64).square()
