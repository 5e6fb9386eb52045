"""Sliced score matching: exact score matching seen along random directions.

    J = E_v E_p[ 2 v'grad(v's) + (v's)^2 ]          plain
    J = E_v E_p[ 2 v'grad(v's) + ||s||^2 ]          variance-reduced        E vv' = I

Source: Song, Garg, Shi & Ermon 2019, "Sliced score matching", eq. 7 and eq. 8; twice the paper's,
so that the mean is exact score matching's, E_p[ ||s||^2 + 2 div s ], to the last constant. The
reduced form takes E_v (v's)^2 = ||s||^2 in closed form; with Rademacher directions its variance
over v comes from the Hessian's off-diagonal alone (it is Hutchinson's estimate of the trace).

Targets p itself, where p has a density without jumps; ``sigma`` blurs rows that have none, and the
target is then p_sigma.

Cost: one forward and 1 + num_directions backward passes; no sampling, whatever d.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from basin.core.curvature import score_and_curvatures
from basin.core.directions import random_signs_like
from basin.core.references import Reference
from basin.core.smoothing import Smoothing, smoothed, smoothing, smoothing_level
from basin.core.tensors import event_sum, normal_like
from basin.core.types import Loss, Objective
from basin.core.validation import positive_integer
from basin.objectives.meanings import IMPLICIT_TERMS, scores_are_blind

__all__ = ["SlicedScoreMatching", "sliced_score_matching"]

_DIRECTIONS = {"rademacher": random_signs_like, "gaussian": normal_like}


def sliced_score_matching(
    energy: Any,
    x: Tensor,
    *,
    num_directions: int = 1,
    directions: Literal["rademacher", "gaussian"] = "rademacher",
    reduced: bool = True,
    generator: torch.Generator,
) -> Tensor:
    """``2 v'grad(v's) + ||s||^2``, or ``+ (v's)^2``, for each row, mean over v, ``[batch]``.

    Args:
        energy: callable ``[batch, *event] -> [batch]``.
        x: data, ``[batch, *event]``.
        num_directions: vectors v for each row.
        directions: law of their coordinates, both of mean zero and variance one.
        reduced: take ``||s||^2`` in place of its estimate ``(v's)^2``.
        generator: source of v.

    Source: Song et al. 2019, eq. 7 and 8, twice. Differentiable in the parameters.

    Example:
        >>> import torch, basin
        >>> g = torch.Generator().manual_seed(0)
        >>> x = torch.randn(100_000, 3, generator=g)
        >>> quadratic = lambda x: 0.5 * x.square().sum(1)
        >>> loss = basin.objectives.sliced_score_matching(quadratic, x, generator=g)
        >>> round(loss.mean().item(), 1)                                # -d, as the exact trace's
        -3.0
    """
    square, curvature = _terms(energy, x, num_directions, directions, reduced, generator)
    return square + curvature


@dataclass(frozen=True)
class SlicedScoreMatching(Objective):
    """Sliced score matching, plain or variance-reduced (Song et al. 2019); learns p itself.

    Args:
        num_directions: directions for each row and step.
        directions: "rademacher" (signs; the least variance) or "gaussian".
        reduced: the variance-reduced form, ||s||^2 in closed form.
        sigma: blur of the rows before; 0 for none, "auto" for none unless columns repeat their
            values (whole numbers, rounded or constant columns), which have no density.

    Source: Song, Garg, Shi & Ermon 2019, eq. 7 and 8, twice.
    """

    uses_score: ClassVar[bool] = True
    needs_noise_level: ClassVar[bool] = False
    normalises: ClassVar[bool] = False
    meanings: ClassVar[Mapping[str, str]] = IMPLICIT_TERMS
    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "Sliced score matching: a scalable approach to density and score estimation",
            ("Yang Song", "Sahaj Garg", "Jiaxin Shi", "Stefano Ermon"),
            2019,
            "https://arxiv.org/abs/1905.07088",
        ),
    )

    num_directions: int = 1
    directions: Literal["rademacher", "gaussian"] = "rademacher"
    reduced: bool = True
    sigma: float | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        positive_integer(num_directions=self.num_directions)
        _require_law(self.directions)
        smoothing_level(self.sigma)

    def init(self, x: Tensor, generator: torch.Generator) -> Smoothing:
        del generator
        return smoothing(self.sigma, x)

    def __call__(
        self, energy: Any, x: Tensor, state: Smoothing, generator: torch.Generator
    ) -> Loss:
        y = smoothed(x, state.sigma, generator)
        parts = _terms(energy, y, self.num_directions, self.directions, self.reduced, generator)
        square, curvature = (part.mean() for part in parts)
        terms = {"square": square.detach(), "curvature": curvature.detach()}
        return Loss(square + curvature, terms, state)

    def noise_level(self, state: Smoothing) -> float | None:
        return state.level

    def explain(self, state: Smoothing) -> str:
        return state.why

    def blindness(self, state: Smoothing) -> str:
        return scores_are_blind("at the data")


def _terms(
    energy: Any,
    x: Tensor,
    num_directions: int,
    directions: str,
    reduced: bool,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """``||s||^2`` or its estimate, and ``2 v'grad(v's)``, ``[batch]`` each."""
    positive_integer(num_directions=num_directions)
    _require_law(directions)
    v = _DIRECTIONS[directions](x.expand(num_directions, *x.shape), generator)
    s, curvatures = score_and_curvatures(energy, x, v)
    square = event_sum(s.square()) if reduced else (v * s).flatten(2).sum(2).square().mean(0)
    return square, -2 * curvatures.mean(0)


def _require_law(directions: str) -> None:
    if directions not in _DIRECTIONS:
        raise ValueError(f"directions must be one of {', '.join(_DIRECTIONS)}, got {directions!r}")
