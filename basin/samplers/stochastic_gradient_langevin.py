"""Stochastic gradient Langevin dynamics (SGLD): Langevin with scores of a few rows.

    x <- x + epsilon s^(x) + sqrt(2 epsilon) z,         epsilon = ``step_size``
    s^ from n = ``batch_size`` rows, drawn anew for each chain and step

Source: Welling & Teh 2011, equation 4, at a constant step; they write epsilon/2 for the drift and
sqrt(epsilon) for the noise. For energies that can estimate their score from a few rows, as
``energies.Posterior``.

Targets exp(-E) / Z only as epsilon goes to 0, with two errors: that of ULA, and the noise of s^,
which acts as a second temperature. Where E is a Gaussian of precision lambda and s^ has variance v
whatever x, the law at rest has variance (1 + epsilon v / 2) / (lambda (1 - epsilon lambda / 2)).
For N rows v grows as N^2 / n while epsilon must fall as 1 / N: the second error stays unless n is
of the order of N, or the energy has a control variate (its ``centre``). Cost: n rows a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from basin.core.references import Reference
from basin.core.tensors import normal_like
from basin.core.types import Energy, Kernel
from basin.core.validation import positive, positive_integer
from basin.mcmc.finiteness import finite_rows
from basin.mcmc.langevin_proposal import langevin_proposal
from basin.mcmc.unadjusted_langevin import UnadjustedInfo, UnadjustedState, unadjusted_init

__all__ = ["StochasticGradientLangevin"]


@dataclass(frozen=True)
class StochasticGradientLangevin(Kernel):
    """Unadjusted Langevin on a few rows a step, for posteriors of many rows.

    Args:
        step_size: epsilon, positive, in squared units of x.
        batch_size: n, rows for each chain and step, drawn with replacement.

    Example:
        >>> import torch, basin
        >>> generator = torch.Generator().manual_seed(0)
        >>> rows = 3 + torch.randn(1000, generator=generator)
        >>> posterior = basin.energies.Posterior(
        ...     prior=lambda x: 0.005 * x.square().sum(1),
        ...     row_energy=lambda x, rows: 0.5 * (rows - x).square(),
        ...     rows=rows, centre=rows.mean().reshape(1))
        >>> kernel = StochasticGradientLangevin(step_size=1e-4, batch_size=10)
        >>> chains = basin.sample(
        ...     posterior, kernel, torch.full((500, 1), 3.0), num_steps=100, keep="last")
        >>> 0.9 < float(chains.last.std() * 1000**0.5) < 1.1        # its width is N^(-1/2)
        True
    """

    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "Bayesian learning via stochastic gradient Langevin dynamics",
            ("Max Welling", "Yee Whye Teh"),
            2011,
            "https://www.stats.ox.ac.uk/~teh/research/compstats/WelTeh2011a.pdf",
        ),
    )

    step_size: float = 0.0001
    batch_size: int = 32

    def __post_init__(self) -> None:
        positive(step_size=self.step_size)
        positive_integer(batch_size=self.batch_size)

    def init(self, energy: Energy, x: Tensor, generator: torch.Generator) -> UnadjustedState:
        return unadjusted_init(x)

    def step(
        self, energy: Energy, state: UnadjustedState, generator: torch.Generator
    ) -> tuple[UnadjustedState, UnadjustedInfo]:
        x = state.position
        estimate = _estimator(energy)(x, self.batch_size, generator)
        moved = langevin_proposal(x, estimate, self.step_size, normal_like(x, generator))
        is_finite = finite_rows(moved)
        return UnadjustedState(moved, is_finite), UnadjustedInfo(state.is_finite & ~is_finite)

    def unadjusted_step_size(self, energy: Energy) -> float:
        """The epsilon that the energy's curvature bounds; ``sample`` asks for it."""
        return self.step_size


def _estimator(energy: Any) -> Any:
    """The energy's estimate of its score, or an error: the full score would be another kernel."""
    if not hasattr(energy, "stochastic_score"):
        raise ValueError(
            f"StochasticGradientLangevin needs an energy with a method stochastic_score, got "
            f"{type(energy).__name__}; give basin.energies.Posterior, or take Langevin"
        )
    return energy.stochastic_score
