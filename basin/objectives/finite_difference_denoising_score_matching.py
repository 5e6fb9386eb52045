"""Denoising score matching by differences of energies: no derivative in x.

    J = d/(4 r^2) E ( E(y - v) - E(y + v) + 2 v'z/sigma )^2        y = x + sigma z

with v uniform on the sphere of radius r. Source: Pang, Xu, Li, Song, Ermon & Zhu 2020, "Efficient
learning of generative models via finite-difference score matching", FD-DSM, whose epsilon is r; d
times theirs, so that it tends to E || s(y) + z/sigma ||^2, denoising score matching, with an error
of order r^2 (none for a quadratic energy).

Targets p_sigma, the data blurred by N(0, sigma^2 I), as denoising score matching does. A radius
beyond sigma blurs the criterion, not the data.

Variance: the target z/sigma enters linearly within the square, so antithetic noise and
posterior-mean targets (Xu, Tong & Jaakkola 2023) leave the gradient's mean as it is. One random
direction a row sees a d-th of the error: more noise than denoising score matching as d grows.

Cost: 2 num_directions energies at each noised point, in one batched call, and ordinary
backpropagation; no sampling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from basin.core.conditions import repeated
from basin.core.denoising import denoising_targets
from basin.core.directions import FINITE_DIFFERENCES, sphere_like
from basin.core.posterior_mean import STABLE_TARGETS
from basin.core.references import Reference
from basin.core.tensors import normal_like, num_event_dimensions
from basin.core.types import Loss, Objective
from basin.core.validation import batch_of_energies, positive, positive_integer
from basin.objectives.meanings import SCORE_TERMS, scores_are_blind

__all__ = [
    "FiniteDifferenceDenoisingScoreMatching",
    "finite_difference_denoising_score_matching",
]


def finite_difference_denoising_score_matching(
    energy: Any,
    x: Tensor,
    *,
    sigma: float = 0.1,
    radius: float | None = None,
    generator: torch.Generator,
) -> Tensor:
    """``d/(4 r^2) (E(y - v) - E(y + v) + 2 v'z/sigma)^2`` for each row, ``[batch]``.

    Args:
        energy: callable ``[batch, *event] -> [batch]``.
        x: data, ``[batch, *event]``.
        sigma: noise standard deviation in the units of x, positive.
        radius: length r of the displacements, positive; the paper's epsilon. None is sigma / 2.
        generator: source of z and v, one draw of each a row.

    Source: Pang et al. 2020, FD-DSM, times d. Differentiable in the parameters.

    Example:
        >>> import torch, basin
        >>> g = torch.Generator().manual_seed(0)
        >>> flat = lambda x: 0 * x.sum(1)                      # score zero: the trivial predictor
        >>> loss = basin.objectives.finite_difference_denoising_score_matching(
        ...     flat, torch.zeros(50_000, 3), sigma=0.5, generator=g)
        >>> round(loss.mean().item() * 0.5**2 / 3, 1)          # d / sigma^2, so the ratio is 1
        1.0
    """
    positive(sigma=sigma)
    z = normal_like(x, generator)
    error, _ = _errors(energy, x + sigma * z, z / -sigma, _radius(radius, sigma), 1, generator)
    return error


@dataclass(frozen=True)
class FiniteDifferenceDenoisingScoreMatching(Objective):
    """Denoising score matching by differences of energies (Pang et al. 2020); learns p blurred.

    Args:
        sigma: noise standard deviation in the model's coordinates.
        radius: length of the displacements, well below the detail of the blurred data; None is
            sigma / 2.
        num_directions: displacements for each noised row.
        antithetic: noise each row with z and with -z.
        posterior_mean: average targets over the whole batch as possible sources.
        num_noised: rows of the batch that are noised; the others are only possible sources.
            None noises every row.

    Source: Pang et al. 2020, FD-DSM, times d; Xu, Tong & Jaakkola 2023 for the targets.
    """

    uses_score: ClassVar[bool] = False
    needs_noise_level: ClassVar[bool] = False
    normalises: ClassVar[bool] = False
    meanings: ClassVar[Mapping[str, str]] = SCORE_TERMS
    references: ClassVar[tuple[Reference, ...]] = (FINITE_DIFFERENCES, STABLE_TARGETS)

    sigma: float = 0.1
    radius: float | None = None
    num_directions: int = 1
    antithetic: bool = True
    posterior_mean: bool = True
    num_noised: int | None = None

    def __post_init__(self) -> None:
        positive(sigma=self.sigma)
        if self.radius is not None:
            positive(radius=self.radius)
        positive_integer(num_directions=self.num_directions)
        if self.num_noised is not None:
            positive_integer(num_noised=self.num_noised)

    def init(self, x: Tensor, generator: torch.Generator) -> None:
        del x, generator

    def __call__(self, energy: Any, x: Tensor, state: None, generator: torch.Generator) -> Loss:
        energy, y, target = denoising_targets(
            energy,
            x,
            self.sigma,
            num_noised=self.num_noised,
            in_pairs=self.antithetic,
            posterior_mean=self.posterior_mean,
            generator=generator,
        )
        radius = _radius(self.radius, self.sigma)
        errors, trivial = _errors(energy, y, target, radius, self.num_directions, generator)
        value = errors.mean()
        return Loss(value, {"space": value.detach(), "trivial": trivial.mean()}, state)

    def noise_level(self, state: None) -> float:
        return self.sigma

    def blindness(self, state: None) -> str:
        return scores_are_blind(f"at sigma {self.sigma:.3g}")

    @property
    def mixes_rows(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.posterior_mean


def _radius(radius: float | None, sigma: float) -> float:
    return sigma / 2 if radius is None else radius


def _errors(
    energy: Any,
    y: Tensor,
    target: Tensor,
    radius: float,
    num_directions: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Squared error of the score at ``y`` along random directions, and that of score zero."""
    positive(radius=radius)
    d, n = num_event_dimensions(y), num_directions
    copies = y.repeat(n, *[1] * (y.ndim - 1))
    v = (radius / d**0.5) * sphere_like(copies, generator)
    rows, energy = torch.cat([copies + v, copies - v]), repeated(energy, 2 * n)
    there = batch_of_energies(energy, rows, energy(rows)).view(2, n, len(y))
    along = (v.view(n, *y.shape) * target).flatten(2).sum(2)
    weight = d / radius**2
    errors = ((there[1] - there[0]) / 2 - along).square()
    return weight * errors.mean(0), weight * along.square().mean(0)
