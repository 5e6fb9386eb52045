"""Exact (implicit) score matching: the Fisher divergence to p itself, by integration by parts.

    E_p || grad log p - s ||^2 = c + J,      J = E_p[ sum_i (dE/dx_i)^2 - 2 d2E/dx_i2 ]

Source: Hyvärinen 2005, "Estimation of non-normalized statistical models by score matching",
theorem 1, eq. 4 (there with a factor 1/2 and in log p, so with + in front of its derivative).
With E = x^2/2 on N(0, 1) it is -1; c = E_p || grad log p ||^2 is free of the energy, so the best
value is -c and the score zero loses 0.

Targets p itself, where p has a density without jumps that vanishes at infinity. A density with
edges makes J fall for ever, ever more slowly, as the energy steepens there; rows on a grid without
end. For those ``sigma`` blurs the rows first, and the target is p_sigma, as in denoising score
matching (whose gradient it then has, with another variance).

Cost: one forward and 1 + d backward passes for each row, the graphs of all kept for the parameters;
with ``num_probes`` the trace is Hutchinson's estimate, of the same mean, and takes that many
passes instead of d. What the exact trace needs is weighed before the first one is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from basin.core.conditions import first_rows
from basin.core.curvature import score_and_curvatures, score_and_hessian_diagonal
from basin.core.directions import random_signs_like
from basin.core.memory import available_memory, bytes_kept
from basin.core.references import Reference
from basin.core.smoothing import Smoothing, smoothed, smoothing, smoothing_level
from basin.core.tensors import event_sum, num_event_dimensions
from basin.core.types import Loss, Objective
from basin.core.validation import positive_integer
from basin.objectives.meanings import IMPLICIT_TERMS, scores_are_blind

__all__ = [
    "ExactScoreMatching",
    "ExactScoreMatchingState",
    "exact_score_matching",
    "exact_trace_bytes",
]

_PROBE_ROWS = 4
# The peak of a step over the graph it keeps: measured 0.9 to 1.3 for graphs of 50 MB and more.
_PEAK_OVER_GRAPH = 1.5


def exact_score_matching(
    energy: Any,
    x: Tensor,
    *,
    num_probes: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """``sum_i (dE/dx_i)^2 - 2 d2E/dx_i2`` for each row, ``[batch]``.

    Args:
        energy: callable ``[batch, *event] -> [batch]``.
        x: data, ``[batch, *event]``.
        num_probes: None for the trace itself; else Rademacher vectors a row for Hutchinson's
            estimate of it, exact for a diagonal Hessian.
        generator: source of the probes; needed with ``num_probes``.

    Source: Hyvärinen 2005, eq. 4, without its factor 1/2. Differentiable in the parameters.

    Example:
        >>> import torch, basin
        >>> x = torch.randn(100_000, 1, generator=torch.Generator().manual_seed(0))
        >>> loss = basin.objectives.exact_score_matching(lambda x: 0.5 * x.square().sum(1), x)
        >>> round(loss.mean().item(), 2)
        -1.0
    """
    square, trace = _square_and_trace(energy, x, num_probes, generator)
    return square - 2 * trace


def exact_trace_bytes(energy: Any, x: Tensor) -> float:
    """Memory that the exact trace of a batch ``x`` takes with its gradient, in bytes.

    From graphs of 2 and 4 rows with 1 and 3 products each: what is kept grows in proportion to
    both, and the backward pass holds half as much again.
    """

    def kept(num_rows: int, num_products: int) -> int:
        rows = x[:num_rows]
        directions = torch.ones(num_products, *rows.shape, dtype=x.dtype, device=x.device)
        some = first_rows(energy, num_rows)
        return bytes_kept(lambda: score_and_curvatures(some, rows, directions))

    def a_row(num_products: int) -> float:
        if len(x) < _PROBE_ROWS:
            return kept(1, num_products)
        half = _PROBE_ROWS // 2
        return (kept(_PROBE_ROWS, num_products) - kept(half, num_products)) / half

    one, three = a_row(1), a_row(3)
    a_product = (three - one) / 2
    graph = len(x) * (one + a_product * (num_event_dimensions(x) - 1))
    return _PEAK_OVER_GRAPH * graph


class ExactScoreMatchingState(NamedTuple):
    """The blur of the rows, and the largest batch whose memory was found to be there."""

    smoothing: Smoothing
    largest_batch: int


@dataclass(frozen=True)
class ExactScoreMatching(Objective):
    """Exact score matching by Hessian traces (Hyvärinen 2005); learns p itself.

    Args:
        num_probes: None for exact traces (d products a row); a number for Hutchinson's estimate
            with as many (one is enough in high dimension).
        sigma: blur of the rows before; 0 for none, "auto" for none unless columns repeat their
            values (whole numbers, rounded or constant columns), which have no density.

    Raises:
        ValueError: the exact traces of a batch cannot fit the memory there is.

    Source: Hyvärinen 2005, eq. 4 (no factor 1/2).
    """

    uses_score: ClassVar[bool] = True
    needs_noise_level: ClassVar[bool] = False
    normalises: ClassVar[bool] = False
    meanings: ClassVar[Mapping[str, str]] = IMPLICIT_TERMS
    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "Estimation of non-normalized statistical models by score matching",
            ("Aapo Hyvärinen",),
            2005,
            "https://jmlr.org/papers/v6/hyvarinen05a.html",
        ),
    )

    num_probes: int | None = None
    sigma: float | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        if self.num_probes is not None:
            positive_integer(num_probes=self.num_probes)
        smoothing_level(self.sigma)

    def init(self, x: Tensor, generator: torch.Generator) -> ExactScoreMatchingState:
        del generator
        return ExactScoreMatchingState(smoothing(self.sigma, x), 0)

    def __call__(
        self, energy: Any, x: Tensor, state: ExactScoreMatchingState, generator: torch.Generator
    ) -> Loss:
        if self.num_probes is None and len(x) > state.largest_batch:
            _require_room(energy, x)
            state = state._replace(largest_batch=len(x))
        y = smoothed(x, state.smoothing.sigma, generator)
        square, trace = _square_and_trace(energy, y, self.num_probes, generator)
        square, curvature = square.mean(), -2 * trace.mean()
        terms = {"square": square.detach(), "curvature": curvature.detach()}
        return Loss(square + curvature, terms, state)

    def noise_level(self, state: ExactScoreMatchingState) -> float | None:
        return state.smoothing.level

    def explain(self, state: ExactScoreMatchingState) -> str:
        return state.smoothing.why

    def blindness(self, state: ExactScoreMatchingState) -> str:
        return scores_are_blind("at the data")


def _square_and_trace(
    energy: Any, x: Tensor, num_probes: int | None, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """``||s||^2`` and the Hessian's trace, ``[batch]`` each."""
    if num_probes is None:
        s, diagonal = score_and_hessian_diagonal(energy, x)
        return event_sum(s.square()), event_sum(diagonal)
    positive_integer(num_probes=num_probes)
    if generator is None:
        raise ValueError("generator must be given with num_probes, got None")
    probes = random_signs_like(x.expand(num_probes, *x.shape), generator)
    s, curvatures = score_and_curvatures(energy, x, probes)
    return event_sum(s.square()), curvatures.mean(0)


def _require_room(energy: Any, x: Tensor) -> None:
    needed, free = exact_trace_bytes(energy, x), available_memory(x.device)
    if needed > free:
        raise ValueError(
            f"the exact Hessian traces of {len(x):,} rows of {num_event_dimensions(x):,} "
            f"coordinates must fit the memory of {x.device}, where {free / 1e9:.3g} GB are free; "
            f"they need about {needed / 1e9:.3g} GB. Give num_probes (1 is enough in high "
            "dimension), take SlicedScoreMatching, or a smaller batch_size"
        )
