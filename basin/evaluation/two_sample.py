"""What every check of samples against held-out rows shares: pooled rows, permuted labels, p-values.

Under the null hypothesis that both sets have one law, any split of the pooled rows into n and m is
as likely as the one observed, so that

    p = (1 + #{permuted statistics at least as large}) / (1 + #permutations)

is exact for any sample size (Phipson & Smyth 2010). Statistics that take few values tie with
the observed one; its place among them is then drawn at random, without which such a p-value would
be too large on average (Dufour 2006).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from basin.core.validation import all_finite, same_event_shape

__all__ = []  # for the two-sample checks of this folder

ONE_LAW = "samples and held-out data have one law"

_TIE = 1e-12  # relative: statistics that are equal but for rounding


class Pooled(NamedTuple):
    """Samples, then held-out rows, ``[n + m, d]`` of float64 about their common mean."""

    rows: Tensor
    n: int
    m: int


def pooled(samples: Tensor, held_out: Tensor, *, fewest: int = 2) -> Pooled:
    """Both sets on the CPU, checked: one event shape, finite, at least ``fewest`` rows each."""
    same_event_shape("samples", samples, held_out.shape[1:])
    all_finite("samples", samples)
    all_finite("held_out", held_out)
    n, m = len(samples), len(held_out)
    if min(n, m) < fewest:
        raise ValueError(
            f"samples and held_out must have {fewest} rows or more each, got {n} and {m}"
        )
    rows = torch.cat([part.detach().flatten(1).double().cpu() for part in (samples, held_out)])
    return Pooled(rows - rows.mean(dim=0), n, m)


def permuted_labels(n: int, m: int, count: int, generator: torch.Generator) -> Tensor:
    """``[count, n + m]``, true for the n rows of each permutation that play the samples."""
    labels = torch.zeros(count, n + m, dtype=torch.bool)
    for row in labels:
        row[torch.randperm(n + m, generator=generator, device=generator.device).cpu()[:n]] = True
    return labels


def labels_as_given(n: int, m: int) -> Tensor:
    """``[1, n + m]``: the samples are the first n rows."""
    return (torch.arange(n + m) < n)[None]


def permutation_p_value(
    value: float,
    permuted: Tensor,
    generator: torch.Generator,
    *,
    extreme: Literal["large", "small"] = "large",
) -> float:
    """Share of statistics as extreme as the observed one, itself among them; ties at random."""
    distance = permuted - value if extreme == "large" else value - permuted
    close = _TIE * max(abs(value), float(permuted.abs().max()))
    beyond = int((distance > close).sum())
    tied = int((distance.abs() <= close).sum())
    place = int(torch.randint(tied + 1, (), generator=generator, device=generator.device))
    return (1 + beyond + place) / (1 + len(permuted))
