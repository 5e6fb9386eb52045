"""Does the model repeat its training rows? Distances of samples to them, against held-out rows'.

    value = median distance of samples to the nearest training row
            / median distance of held-out rows to the nearest training row

1 for a perfect model; near 0 for one that hands out the table. The one-sided Mann-Whitney test asks
whether samples lie nearer to training rows than held-out rows do. A model can pass it by drawing
poorly (far from everything), so read it beside a check of fit.
Source: the nearest-neighbour form of the three-sample test of Meehan, Chaudhuri & Dasgupta 2020
(arXiv 2004.05675), without its partition into cells.
Cost: (samples + held-out rows) × training rows × d products, in bounded memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from basin.core.validation import all_finite, positive_integer, same_event_shape
from basin.evaluation.estimate import About, Estimate
from basin.evaluation.nearest import nearest_distances
from basin.evaluation.ranks import rank_against

__all__ = ["memorisation"]

_SMALL = 1e-3  # p-value below which the verdict speaks of memorising
_NUM_BOOTSTRAPS = 500  # gives the standard error to about 3%


def memorisation(
    samples: Tensor,
    train: Any,
    held_out: Tensor,
    generator: torch.Generator | None = None,
    *,
    about: About | None = None,
    row_block: int = 8192,
) -> Estimate:
    """Ratio of median nearest-training-row distances, samples over held-out rows.

    Args:
        samples: draws of the model, ``[n, *event]``.
        train: training rows, ``[m, *event]``, or anything with ``num_rows``, ``take(start, stop)``.
        held_out: rows not trained on, ``[k, *event]``; for samples of pσ with that noise added.
        generator: source of the bootstrap of the standard error; seed 0 by default.
        about: what to state in the result.
        row_block: training rows at a time.

    Returns:
        ``p_value``: one-sided, small when samples are too near; ``details``: both medians, the
        share of samples that equal a training row, ``auc`` and a ``verdict`` in words.

    Example:
        >>> import torch
        >>> g = torch.Generator().manual_seed(0)
        >>> train, fresh = torch.randn(500, 2, generator=g), torch.randn(300, 2, generator=g)
        >>> copies = train[:300] + 0.001 * torch.randn(300, 2, generator=g)
        >>> found = memorisation(copies, train, fresh, g)
        >>> found.value < 0.1, found.details["verdict"].split(":")[0]
        (True, 'memorises')
    """
    positive_integer(row_block=row_block)
    same_event_shape("samples", samples, held_out.shape[1:])
    all_finite("samples", samples)
    all_finite("held_out", held_out)
    if len(samples) < 2 or len(held_out) < 2:
        raise ValueError(
            f"samples and held_out must have two rows or more, got {len(samples)}, {len(held_out)}"
        )
    generator = generator or torch.Generator().manual_seed(0)
    of_samples = nearest_distances(samples, train, row_block=row_block)
    of_held_out = nearest_distances(held_out, train, row_block=row_block)
    ranking = rank_against(of_samples, of_held_out)
    near, usual = float(of_samples.median()), float(of_held_out.median())
    ratio = near / usual if usual > 0 else 1.0 if near == 0 else float("inf")
    return Estimate(
        value=ratio,
        standard_error=_error_of_ratio(of_samples, of_held_out, generator) if usual > 0 else None,
        floor=1.0,
        p_value=ranking.p_value_smaller,
        n=min(len(of_samples), len(of_held_out)),
        meaning="median distance to the nearest training row, samples over held-out rows",
        about=about or About(),
        null="samples are no nearer to the training rows than held-out rows are",
        details={
            "median_samples": near,
            "median_held_out": usual,
            "share_of_copies": float((of_samples == 0).double().mean()),
            "auc": ranking.area,
            "auc_standard_error": ranking.standard_error,
            "verdict": _verdict(ratio, ranking.p_value_smaller, ranking.p_value),
        },
    )


def _verdict(ratio: float, p_nearer: float, p_two_sided: float) -> str:
    if p_nearer < _SMALL and ratio < 0.5:
        return (
            f"memorises: samples lie {ratio:.2f} times as far from training rows as unseen rows "
            "do; stop earlier, raise sigma, or find more rows"
        )
    if p_nearer < _SMALL:
        return (
            f"leans on its training rows: samples are nearer to them than unseen rows are "
            f"(ratio {ratio:.2f}, p = {p_nearer:.1g})"
        )
    if p_two_sided < _SMALL:
        return (
            f"does not memorise, but samples lie farther from training rows than unseen rows do "
            f"(ratio {ratio:.2f}): the fit is loose or the chains did not arrive"
        )
    return f"no sign of memorising: ratio {ratio:.2f}, p = {p_nearer:.2g}"


def _error_of_ratio(a: Tensor, b: Tensor, generator: torch.Generator) -> float:
    """Bootstrap standard error of median(a) / median(b)."""
    ratios = []
    for _ in range(_NUM_BOOTSTRAPS):
        medians = []
        for values in (a, b):
            picked = torch.randint(
                len(values), (len(values),), generator=generator, device=generator.device
            )
            medians.append(values[picked.cpu()].median())
        ratios.append(medians[0] / medians[1])
    finite = torch.stack(ratios)
    return float(finite[torch.isfinite(finite)].std())
