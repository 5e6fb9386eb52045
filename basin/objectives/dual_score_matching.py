"""Dual score matching: both derivatives of log p_sigma(y), in space and in the noise level.

With y = x + sigma z and an energy E(y, sigma),

    J = E_sigma [ (sigma^2 / d)  E || -dE/dy - (x - y)/sigma^2 ||^2
                + (1 / 2d)       E ( -dE/d log sigma - (|z|^2 - d) )^2 ]

Source: Guth, Kadkhodaie & Simoncelli, "Learning normalized image densities via dual score
matching", NeurIPS 2025, arXiv 2506.05310 (there t = sigma^2; here d log sigma, and the weights
that make both terms one for the trivial predictor when the data are one point).

The minimiser has dE/dy = -grad log p_sigma and dE/d log sigma = -d log p_sigma/d log sigma, so
-E(., sigma) is log p_sigma up to ONE constant for all sigma. At the largest level p_sigma is close
to a known Gaussian, which fixes it: log Z without sampling, and right mode weights where score
matching alone is blind to them.

Variance: the four noises +-z and +-z' of a row, z' at the complementary radius of z, cancel the
odd (space) and nearly the even (noise) target; levels are stratified; targets are posterior means
over the batch (Xu, Tong & Jaakkola 2023 for the first). All leave the gradient's mean unchanged.

Cost: both derivatives with their parameter gradient at 4 num_noised points; no sampling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from basin.core.gradients import dual_score
from basin.core.noise import antithetic, log_uniform_stratified, paired_radii
from basin.core.noise_levels import NoiseLevels, noise_levels
from basin.core.posterior_mean import STABLE_TARGETS, posterior_mean_targets, single_draw_targets
from basin.core.references import Reference
from basin.core.tensors import event_mean_square, expand_like, normal_like, num_event_dimensions
from basin.core.types import Loss, Objective
from basin.core.validation import positive, positive_integer
from basin.objectives.meanings import SCORE_TERMS

__all__ = ["DualScoreMatching", "DualScoreMatchingState", "dual_score_matching"]


def dual_score_matching(
    energy: Any, x: Tensor, *, sigma: Tensor, generator: torch.Generator
) -> Tensor:
    """Loss of each row with one draw of z and the plain targets, ``[batch]``.

    Args:
        energy: noise-conditional energy ``(y [batch, *event], sigma [batch]) -> [batch]``.
        x: data, ``[batch, *event]``.
        sigma: noise level of each row, ``[batch]``, positive.
        generator: source of z.

    Source: Guth, Kadkhodaie & Simoncelli 2025. Differentiable in the parameters.

    Example:
        >>> import torch, basin
        >>> g = torch.Generator().manual_seed(0)
        >>> exact = lambda y, sigma: (                       # data at one point: p_sigma known
        ...     y.square().sum(1) / (2 * sigma**2) + 3 * sigma.log())
        >>> x, sigma = torch.zeros(4, 3), torch.full((4,), 0.5)
        >>> loss = basin.objectives.dual_score_matching(exact, x, sigma=sigma, generator=g)
        >>> bool((loss < 1e-9).all())
        True
    """
    z = normal_like(x, generator)
    targets = single_draw_targets(z, sigma)
    space, noise = _squared_errors(energy, x + expand_like(sigma, x) * z, sigma, *targets)
    return space + noise


class DualScoreMatchingState(NamedTuple):
    """Ends of the ladder of noise levels and the distances that they were chosen from."""

    sigma_min: float
    sigma_max: float
    levels: NoiseLevels


@dataclass(frozen=True)
class DualScoreMatching(Objective):
    """The default of Basin: a normalised log density at every noise level, trained without MCMC.

    Args:
        sigma_min: lowest noise level, in the model's coordinates; None reads it off the data.
        sigma_max: highest level, beyond the diameter of the data; None takes the diameter.
        num_noised: rows of the batch that are noised (four noises each, one level a row); the
            others are only possible sources of the posterior-mean targets.

    Source: Guth, Kadkhodaie & Simoncelli 2025 (arXiv 2506.05310).
    """

    uses_score: ClassVar[bool] = True
    needs_noise_level: ClassVar[bool] = True
    normalises: ClassVar[bool] = True
    mixes_rows: ClassVar[bool] = True
    meanings: ClassVar[Mapping[str, str]] = {
        **SCORE_TERMS,
        "noise": "squared error of the derivative in log sigma, over 2d",
    }
    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "Learning normalized image densities via dual score matching",
            ("Florentin Guth", "Zahra Kadkhodaie", "Eero P. Simoncelli"),
            2025,
            "https://arxiv.org/abs/2506.05310",
        ),
        STABLE_TARGETS,
    )

    sigma_min: float | None = None
    sigma_max: float | None = None
    num_noised: int = 128

    def __post_init__(self) -> None:
        if self.sigma_min is not None:
            positive(sigma_min=self.sigma_min)
        if self.sigma_max is not None:
            positive(sigma_max=self.sigma_max)
        positive_integer(num_noised=self.num_noised)

    def init(self, x: Tensor, generator: torch.Generator) -> DualScoreMatchingState:
        del generator
        levels = noise_levels(x)
        lower, upper = levels.ladder(self.sigma_min, self.sigma_max)
        return DualScoreMatchingState(lower, upper, levels)

    def __call__(
        self, energy: Any, x: Tensor, state: DualScoreMatchingState, generator: torch.Generator
    ) -> Loss:
        source = x[: self.num_noised]
        sigma = log_uniform_stratified(state.sigma_min, state.sigma_max, len(source), generator)
        sigma = sigma.to(x.dtype).repeat(4)
        z = antithetic(paired_radii(normal_like(source, generator)))
        y = source.repeat(4, *[1] * (x.ndim - 1)) + expand_like(sigma, z) * z
        target = posterior_mean_targets(y, x, sigma)
        space, noise = (part.mean() for part in _squared_errors(energy, y, sigma, *target))
        trivial = sum(part.mean() for part in _weighted_squares(*target, sigma))
        terms = {
            "space": space.detach(),
            "noise": noise.detach(),
            "trivial": torch.as_tensor(trivial),
        }
        return Loss(space + noise, terms, state)

    def noise_level(self, state: DualScoreMatchingState) -> None:
        return None

    def explain(self, state: DualScoreMatchingState) -> str:
        return state.levels.table()

    def blindness(self, state: DualScoreMatchingState) -> str:
        return ""  # the noise derivative carries the weights down from where the modes overlap


def _squared_errors(
    energy: Any, y: Tensor, sigma: Tensor, space_target: Tensor, noise_target: Tensor
) -> tuple[Tensor, Tensor]:
    in_space, in_noise = dual_score(energy, y, sigma, create_graph=True)
    return _weighted_squares(in_space - space_target, in_noise - noise_target, sigma)


def _weighted_squares(in_space: Tensor, in_noise: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """sigma^2 |.|^2 / d and (.)^2 / 2d: both one for the trivial predictor on a single point."""
    return (
        sigma.square() * event_mean_square(in_space),
        in_noise.square() / (2 * num_event_dimensions(in_space)),
    )
