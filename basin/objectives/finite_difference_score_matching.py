"""Finite-difference score matching: sliced score matching from energies alone.

    J = d/r^2 E_v E_p[ -2 (E(x + v) + E(x - v) - 2 E(x)) + 1/4 (E(x + v) - E(x - v))^2 ]

with v uniform on the sphere of radius r. Source: Pang, Xu, Li, Song, Ermon & Zhu 2020, "Efficient
learning of generative models via finite-difference score matching", FD-SSM, whose epsilon is r;
2d times theirs, so that it tends to E_p[ ||s||^2 + 2 div s ], exact score matching, with an error
of order r^2 (none for a quadratic energy). The first bracket is the second derivative along v, the
second the first derivative, by central differences; E v v' = r^2/d I.

Targets p itself, where p has a density without jumps; ``sigma`` blurs rows that have none, and the
target is then p_sigma. A radius beyond the detail of p blurs the criterion, not the data.

Rounding: differences of energies over r^2 lose digits as r falls; in float32 an error of about
d |E| 1e-7 / r^2 a row, 1e-5 d |E| at the default radius.

Cost: 1 + 2 num_directions energies a row, in one batched call, and ordinary backpropagation; no
derivative in x at all, so any energy will do, also one without second derivatives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from basin.core.conditions import repeated
from basin.core.directions import FINITE_DIFFERENCES, sphere_like
from basin.core.references import Reference
from basin.core.smoothing import Smoothing, smoothed, smoothing, smoothing_level
from basin.core.tensors import num_event_dimensions
from basin.core.types import Loss, Objective
from basin.core.validation import batch_of_energies, positive, positive_integer
from basin.objectives.meanings import IMPLICIT_TERMS, scores_are_blind

__all__ = ["FiniteDifferenceScoreMatching", "finite_difference_score_matching"]


def finite_difference_score_matching(
    energy: Any,
    x: Tensor,
    *,
    radius: float = 0.1,
    num_directions: int = 1,
    generator: torch.Generator,
) -> Tensor:
    """The finite-difference form of sliced score matching for each row, ``[batch]``.

    Args:
        energy: callable ``[batch, *event] -> [batch]``.
        x: data, ``[batch, *event]``.
        radius: length r of the displacements, in the units of x, positive; the paper's epsilon.
        num_directions: displacements for each row.
        generator: source of v.

    Source: Pang et al. 2020, FD-SSM, times 2d. Differentiable in the parameters.

    Example:
        >>> import torch, basin
        >>> g = torch.Generator().manual_seed(0)
        >>> x = torch.randn(100_000, 3, generator=g)
        >>> quadratic = lambda x: 0.5 * x.square().sum(1)
        >>> loss = basin.objectives.finite_difference_score_matching(quadratic, x, generator=g)
        >>> round(loss.mean().item(), 1)                                # -d, as the exact trace's
        -3.0
    """
    square, curvature = _terms(energy, x, radius, num_directions, generator)
    return square + curvature


@dataclass(frozen=True)
class FiniteDifferenceScoreMatching(Objective):
    """Sliced score matching by differences of energies (Pang et al. 2020); learns p itself.

    Args:
        radius: length of the displacements in the model's coordinates; well below the detail of p.
        num_directions: displacements for each row and step.
        sigma: blur of the rows before; 0 for none, "auto" for none unless columns repeat their
            values (whole numbers, rounded or constant columns), which have no density.

    Source: Pang et al. 2020, FD-SSM, times 2d.
    """

    uses_score: ClassVar[bool] = False
    needs_noise_level: ClassVar[bool] = False
    normalises: ClassVar[bool] = False
    meanings: ClassVar[Mapping[str, str]] = IMPLICIT_TERMS
    references: ClassVar[tuple[Reference, ...]] = (FINITE_DIFFERENCES,)

    radius: float = 0.1
    num_directions: int = 1
    sigma: float | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        positive(radius=self.radius)
        positive_integer(num_directions=self.num_directions)
        smoothing_level(self.sigma)

    def init(self, x: Tensor, generator: torch.Generator) -> Smoothing:
        del generator
        return smoothing(self.sigma, x)

    def __call__(
        self, energy: Any, x: Tensor, state: Smoothing, generator: torch.Generator
    ) -> Loss:
        y = smoothed(x, state.sigma, generator)
        parts = _terms(energy, y, self.radius, self.num_directions, generator)
        square, curvature = (part.mean() for part in parts)
        terms = {"square": square.detach(), "curvature": curvature.detach()}
        return Loss(square + curvature, terms, state)

    def noise_level(self, state: Smoothing) -> float | None:
        return state.level

    def explain(self, state: Smoothing) -> str:
        return state.why

    def blindness(self, state: Smoothing) -> str:
        return scores_are_blind(f"within {self.radius:.3g} of the data")


def _terms(
    energy: Any, x: Tensor, radius: float, num_directions: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Estimates of ``||s||^2`` and of ``2 div s``, ``[batch]`` each."""
    positive(radius=radius)
    positive_integer(num_directions=num_directions)
    d, n = num_event_dimensions(x), num_directions
    copies = x.repeat(n, *[1] * (x.ndim - 1))
    v = (radius / d**0.5) * sphere_like(copies, generator)
    rows, energy = torch.cat([x, copies + v, copies - v]), repeated(energy, 2 * n + 1)
    energies = batch_of_energies(energy, rows, energy(rows))
    here, there = energies[: len(x)], energies[len(x) :].view(2, n, len(x))
    first = (there[0] - there[1]) / 2
    second = there[0] + there[1] - 2 * here
    weight = d / radius**2
    return weight * first.square().mean(0), -2 * weight * second.mean(0)
