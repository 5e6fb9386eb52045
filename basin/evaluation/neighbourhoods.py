"""Statistics of nearest-neighbour balls between two sets, with their permutation p-values.

A set's support is estimated by the union of balls around its rows, each reaching to the k-th
nearest other row of that set. Precision, recall, density and coverage count rows of one set in
balls of the other; here is what they share. Under the null hypothesis the labels are exchangeable,
so each of them is simply computed again for permuted labels.
Cost: (n + m)² distances once, and for each permutation a selection of n² of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from basin.core.validation import positive_integer
from basin.evaluation.estimate import About, Estimate
from basin.evaluation.two_sample import (
    labels_as_given,
    permutation_p_value,
    permuted_labels,
    pooled,
)

__all__ = []  # for precision_and_recall and coverage_and_density


class Distances(NamedTuple):
    """Between held-out rows, between samples, and of held-out rows (rows) to samples (columns)."""

    of_held_out: Tensor
    of_samples: Tensor
    across: Tensor

    @classmethod
    def of(cls, between_all: Tensor, is_sample: Tensor) -> Distances:
        to_samples, to_held_out = between_all[:, is_sample], between_all[:, ~is_sample]
        return cls(to_held_out[~is_sample], to_samples[is_sample], to_samples[~is_sample])


Statistic = Callable[[Distances, int], tuple[float, float]]
"""``statistic(distances, k)``: its value, and its binomial error."""


def radii(within: Tensor, k: int) -> Tensor:
    """Distance of each row to its k-th nearest other row, ``[n]`` from ``[n, n]``."""
    return within.kthvalue(k + 1, dim=1).values  # the first is the row itself, at distance 0


def compare_neighbourhoods(
    statistic: Statistic,
    samples: Tensor,
    held_out: Tensor,
    generator: torch.Generator | None,
    *,
    k: int,
    num_permutations: int,
    second_held_out: Tensor | None,
    floor: Callable[[int, int], float] | None,
    meaning: str,
    null: str,
    about: About | None,
) -> Estimate:
    """One such statistic; ``floor(n, m)`` is its mean under the null where that is known."""
    positive_integer(k=k, num_permutations=num_permutations)
    generator = generator or torch.Generator().manual_seed(0)
    rows, n, m = pooled(samples, held_out, fewest=k + 1)
    between_all = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    value, binomial = statistic(Distances.of(between_all, labels_as_given(n, m)[0]), k)
    permuted = torch.tensor(
        [
            statistic(Distances.of(between_all, labels), k)[0]
            for labels in permuted_labels(n, m, num_permutations, generator)
        ],
        dtype=torch.float64,
    )
    perfect, floor_from = float(permuted.mean()), "permutations"
    if floor is not None:
        perfect, floor_from = floor(n, m), "closed form"
    if second_held_out is not None:
        other, n_other, _ = pooled(second_held_out, held_out, fewest=k + 1)
        between = torch.cdist(other, other, compute_mode="donot_use_mm_for_euclid_dist")
        perfect, _ = statistic(Distances.of(between, labels_as_given(n_other, m)[0]), k)
        floor_from = "second held-out rows"
    null_spread = float(permuted.std()) if num_permutations > 1 else 0.0
    return Estimate(
        value=value,
        standard_error=max(null_spread, binomial),
        floor=perfect,
        p_value=permutation_p_value(value, permuted, generator, extreme="small"),
        n=min(n, m),
        meaning=meaning,
        about=about or About(),
        null=null,
        details={
            "k": k,
            "null_5": float(permuted.quantile(0.05)),
            "floor_from": floor_from,
            "n_samples": n,
            "n_held_out": m,
        },
    )
