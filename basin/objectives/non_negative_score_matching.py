"""Score matching for rows that are zero or positive, each coordinate weighted by its square.

    E_p sum_i x_i^2 ( d_i log p - s_i )^2 = c + J
    J = E_p sum_i [ x_i^2 (d_i E)^2 - 4 x_i d_i E - 2 x_i^2 d_ii E ]

Source: Hyvärinen 2007, "Some extensions of score matching", eq. 27 and its integrated form
(there with a factor 1/2 and in log p). Where p does not vanish at zero, plain score matching has a
boundary term and is wrong; the weight x^2 removes it for every p with x^2 p(x) -> 0. It is plain
score matching of log x in disguise: multiplying a coordinate by a number changes neither J nor c.

Targets p itself, on x >= 0. The energy is read at x >= 0 only: integrate and sample it there.

Cost: one forward and 1 + d backward passes for each row, the graphs of all kept for the parameters;
with ``num_probes`` Hutchinson's estimate of the weighted trace takes that many instead of d.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from basin.core.curvature import score_and_curvatures, score_and_hessian_diagonal
from basin.core.directions import random_signs_like
from basin.core.references import Reference
from basin.core.tensors import event_sum
from basin.core.types import Loss, Objective
from basin.core.validation import positive_integer
from basin.objectives.meanings import scores_are_blind

__all__ = ["NonNegativeScoreMatching", "non_negative_score_matching"]


def non_negative_score_matching(
    energy: Any,
    x: Tensor,
    *,
    num_probes: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """``sum_i x_i^2 (d_i E)^2 - 4 x_i d_i E - 2 x_i^2 d_ii E`` for each row, ``[batch]``.

    Args:
        energy: callable ``[batch, *event] -> [batch]``.
        x: data, zero or positive, ``[batch, *event]``.
        num_probes: None for the second derivatives themselves; else Rademacher vectors a row for
            Hutchinson's estimate of their weighted sum.
        generator: source of the probes; needed with ``num_probes``.

    Raises:
        ValueError: a number below zero in x.

    Source: Hyvärinen 2007, twice. Differentiable in the parameters.

    Example:
        >>> import torch, basin
        >>> x = torch.empty(100_000, 1).exponential_(generator=torch.Generator().manual_seed(0))
        >>> right = lambda x: x.sum(1)
        >>> loss = basin.objectives.non_negative_score_matching(right, x)
        >>> round(loss.mean().item(), 1)                                # -E x^2 (d log p)^2
        -2.0
    """
    square, rest = _terms(energy, x, num_probes, generator)
    return square + rest


@dataclass(frozen=True)
class NonNegativeScoreMatching(Objective):
    """Score matching on x >= 0 (Hyvärinen 2007); learns p itself, also where p(0) > 0.

    Args:
        num_probes: None for exact second derivatives (d products a row); a number for
            Hutchinson's estimate of their sum with as many.

    Raises:
        ValueError: a row holds a number below zero (data that were centred or standardised do).

    Source: Hyvärinen 2007, twice.
    """

    support: ClassVar[Literal["real", "non-negative", "discrete"]] = "non-negative"
    uses_score: ClassVar[bool] = True
    needs_noise_level: ClassVar[bool] = False
    normalises: ClassVar[bool] = False
    meanings: ClassVar[Mapping[str, str]] = {
        "square": "mean of sum x_i^2 s_i^2, the squared norm of the score of log x less its slope",
        "curvature": "mean of sum 4 x_i s_i + 2 x_i^2 ds_i/dx_i; minus twice the square when the "
        "score is right up to its scale",
    }
    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "Some extensions of score matching",
            ("Aapo Hyvärinen",),
            2007,
            "https://doi.org/10.1016/j.csda.2006.09.003",
        ),
    )

    num_probes: int | None = None

    def __post_init__(self) -> None:
        if self.num_probes is not None:
            positive_integer(num_probes=self.num_probes)

    def init(self, x: Tensor, generator: torch.Generator) -> None:
        del generator
        _require_non_negative(x)

    def __call__(self, energy: Any, x: Tensor, state: None, generator: torch.Generator) -> Loss:
        square, rest = (p.mean() for p in _terms(energy, x, self.num_probes, generator))
        return Loss(square + rest, {"square": square.detach(), "curvature": rest.detach()}, state)

    def noise_level(self, state: None) -> None:
        return None

    def blindness(self, state: None) -> str:
        return scores_are_blind("at the data")


def _terms(
    energy: Any, x: Tensor, num_probes: int | None, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """``sum x^2 s^2`` and ``sum 4 x s + 2 x^2 ds/dx``, ``[batch]`` each."""
    _require_non_negative(x)
    if num_probes is None:
        s, diagonal = score_and_hessian_diagonal(energy, x)
        curvature = event_sum(x.square() * diagonal)
    else:
        positive_integer(num_probes=num_probes)
        if generator is None:
            raise ValueError("generator must be given with num_probes, got None")
        probes = x * random_signs_like(x.expand(num_probes, *x.shape), generator)
        s, curvatures = score_and_curvatures(energy, x, probes)
        curvature = curvatures.mean(0)
    weighted = x * s
    return event_sum(weighted.square()), 4 * event_sum(weighted) - 2 * curvature


def _require_non_negative(x: Tensor) -> None:
    below = x < 0
    if bool(below.any()):
        rows = int(below.flatten(1).any(1).sum())
        raise ValueError(
            f"x must be zero or positive in every coordinate, got {x.min().item():.4g} ({rows} of "
            f"{len(x)} rows go below zero); data that were centred or standardised do, so give "
            "them as they are, or take ExactScoreMatching"
        )
