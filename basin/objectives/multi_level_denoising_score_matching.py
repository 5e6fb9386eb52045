"""Denoising score matching on a ladder of noise levels, for a noise-conditional energy.

    J = E_sigma (sigma^2 / d) E || s(x + sigma z; sigma) + z / sigma ||^2

Source: Song & Ermon 2019, "Generative modeling by estimating gradients of the data
distribution", eq. 5-6 with lambda(sigma) = sigma^2 (there with a factor 1/2, no 1/d). Targets
p_sigma at every level of the ladder. The energies of two levels share no constant: there is no
log Z here, and mode weights are as weak as those of plain score matching; see
:class:`DualScoreMatching` for the remedy.

Variance: antithetic noise, stratified levels and posterior-mean targets (Xu, Tong & Jaakkola
2023). Cost: one score with its parameter gradient at each noised point; no sampling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from basin.core.gradients import score
from basin.core.noise import antithetic, log_uniform_stratified
from basin.core.noise_levels import NoiseLevels, noise_levels
from basin.core.posterior_mean import STABLE_TARGETS, posterior_mean_targets
from basin.core.references import Reference
from basin.core.tensors import event_mean_square, expand_like, normal_like
from basin.core.types import Loss, Objective
from basin.core.validation import positive, positive_integer
from basin.objectives.meanings import SCORE_TERMS

__all__ = ["MultiLevelDenoisingScoreMatching", "MultiLevelState"]


class MultiLevelState(NamedTuple):
    """Ends of the ladder and the distances that they were chosen from."""

    sigma_min: float
    sigma_max: float
    levels: NoiseLevels


@dataclass(frozen=True)
class MultiLevelDenoisingScoreMatching(Objective):
    """Denoising score matching with sigma drawn log-uniformly between the ends of a ladder.

    Args:
        sigma_min: lowest level, in the model's coordinates; None reads it off the data.
        sigma_max: highest level; None takes the diameter of the data.
        num_noised: rows of the batch that are noised (each with z and -z at a level of its own);
            the others are only possible sources of the posterior-mean targets.

    Source: Song & Ermon 2019, eq. 5-6; Song & Ermon 2020, Technique 1 for sigma_max.
    """

    uses_score: ClassVar[bool] = True
    needs_noise_level: ClassVar[bool] = True
    normalises: ClassVar[bool] = False
    mixes_rows: ClassVar[bool] = True
    meanings: ClassVar[Mapping[str, str]] = SCORE_TERMS
    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "Generative modeling by estimating gradients of the data distribution",
            ("Yang Song", "Stefano Ermon"),
            2019,
            "https://arxiv.org/abs/1907.05600",
        ),
        Reference(
            "Improved techniques for training score-based generative models",
            ("Yang Song", "Stefano Ermon"),
            2020,
            "https://arxiv.org/abs/2006.09011",
        ),
        STABLE_TARGETS,
    )

    sigma_min: float | None = None
    sigma_max: float | None = None
    num_noised: int = 256

    def __post_init__(self) -> None:
        if self.sigma_min is not None:
            positive(sigma_min=self.sigma_min)
        if self.sigma_max is not None:
            positive(sigma_max=self.sigma_max)
        positive_integer(num_noised=self.num_noised)

    def init(self, x: Tensor, generator: torch.Generator) -> MultiLevelState:
        del generator
        levels = noise_levels(x)
        lower, upper = levels.ladder(self.sigma_min, self.sigma_max)
        return MultiLevelState(lower, upper, levels)

    def __call__(
        self, energy: Any, x: Tensor, state: MultiLevelState, generator: torch.Generator
    ) -> Loss:
        source = x[: self.num_noised]
        sigma = log_uniform_stratified(state.sigma_min, state.sigma_max, len(source), generator)
        sigma = sigma.to(x.dtype).repeat(2)
        z = antithetic(normal_like(source, generator))
        y = torch.cat([source, source]) + expand_like(sigma, z) * z
        target, _ = posterior_mean_targets(y, x, sigma)
        s = score(lambda points: energy(points, sigma), y, create_graph=True)
        value = (sigma.square() * event_mean_square(s - target)).mean()
        trivial = (sigma.square() * event_mean_square(target)).mean()
        return Loss(value, {"space": value.detach(), "trivial": trivial}, state)

    def noise_level(self, state: MultiLevelState) -> None:
        return None

    def explain(self, state: MultiLevelState) -> str:
        return state.levels.table()

    def blindness(self, state: MultiLevelState) -> str:
        return (
            "scores at each level leave the constants between levels free, and the lowest level "
            "alone says nothing of the weights of far modes (its draws, carried down from the "
            "largest level, do see them)"
        )
