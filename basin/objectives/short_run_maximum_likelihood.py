"""Maximum likelihood with short-run chains: they start from a fixed Gaussian at every step.

    J = E_{x ~ p}[ E(x) ] - E_{x~}[ E(x~) ],      x~: k kernel steps from x0 ~ N(m, S + sigma^2 I)

Source: Nijkamp, Hill, Zhu & Wu 2019, "Learning non-convergent non-persistent short-run MCMC toward
energy-based model", eq. 6-8 (theirs start from uniform noise); m and S are the data's mean and
covariance.

What comes to match p (blurred by N(0, sigma^2 I)) is the law of the k-step chains, a generator of
its own. exp(-E) / Z does so only as far as the chains forget where they started: with the k of the
default they do on data of the size of a step's reach, and not across far modes.

Cost: k kernel steps for each chain, then one forward and one backward pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from basin.core.conditions import first_rows
from basin.core.references import Reference
from basin.core.smoothing import smoothed
from basin.core.types import Kernel, Loss
from basin.objectives.sampled import (
    SAMPLED_TERMS,
    SHORT_LANGEVIN,
    DataLaw,
    Sampled,
    check_sampler,
    contrast,
    draws,
    finished,
    num_watched,
    require_real_kernel,
    travel,
    watched_terms,
)

__all__ = ["ShortRunMaximumLikelihood", "ShortRunState"]


class ShortRunState(NamedTuple):
    """The Gaussian that chains start from."""

    law: DataLaw


@dataclass(frozen=True)
class ShortRunMaximumLikelihood(Sampled):
    """Maximum likelihood with short chains from noise, started anew at every training step.

    Args:
        kernel: what moves the chains, one of ``basin.samplers``. Its step should not exceed
            sigma^2 / 2 where the kernel has no accept step.
        num_steps: k, kernel steps for each training step.
        sigma: standard deviation of the noise added to the data, in the model's coordinates; the
            density learned is the data blurred by it. Zero adds none.
        num_chains: chains in a step, at most as many as the batch has rows; None: as many.
        energy_l2: weight of the squared energies of data and draws, which holds what chains that
            cross nowhere leave free, the offsets between far modes; it makes the model's density
            about 1 + 4 energy_l2 E times too high, two per cent where E is 5 nats.

    Source: Nijkamp, Hill, Zhu & Wu 2019, eq. 6-8.
    """

    uses_score: ClassVar[bool] = False
    needs_noise_level: ClassVar[bool] = False
    meanings: ClassVar[Mapping[str, str]] = SAMPLED_TERMS
    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "Learning non-convergent non-persistent short-run MCMC toward energy-based model",
            ("Erik Nijkamp", "Mitch Hill", "Song-Chun Zhu", "Ying Nian Wu"),
            2019,
            "https://arxiv.org/abs/1904.09770",
        ),
    )

    kernel: Kernel = SHORT_LANGEVIN
    num_steps: int = 50
    sigma: float = 0.1
    num_chains: int | None = 256
    energy_l2: float = 0.001

    def __post_init__(self) -> None:
        require_real_kernel(self.kernel, self)
        check_sampler(self.kernel, self.num_steps, self.num_chains, self.sigma, self.energy_l2)

    def init(self, x: Tensor, generator: torch.Generator) -> ShortRunState:
        del generator
        return ShortRunState(DataLaw.of(x))

    def __call__(
        self, energy: Any, x: Tensor, state: ShortRunState, generator: torch.Generator
    ) -> Loss:
        x = smoothed(x, self.sigma, generator)
        n = len(x[: self.num_chains])
        of_chains = first_rows(energy, self.num_chains)
        start = smoothed(state.law.draw(n, x, generator), self.sigma, generator)
        end = draws(of_chains, self.kernel, start, self.num_steps, generator)
        value, terms = contrast(energy(x), of_chains(end), self.energy_l2)
        seen = first_rows(energy, num_watched(n))
        terms |= watched_terms(seen, start, end, terms["gap"], state.law)
        return finished(value, terms, state)

    def noise_level(self, state: ShortRunState) -> float | None:
        return self.sigma or None

    def blindness(self, state: ShortRunState) -> str:
        return (
            f"its chains go {travel(self.kernel, self.num_steps)} from where they start: what "
            "matches the data is the share of them that falls into each far mode, not the mass "
            "that exp(-E) gives it"
        )
