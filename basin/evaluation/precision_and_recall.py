"""Precision and recall of samples: are they like data, and are all data like some of them?

    precision = share of samples inside a ball of a held-out row
    recall    = share of held-out rows inside a ball of a sample

where a ball reaches from a row to its k-th nearest other row of the same set. Samples of poor
quality lower the precision, missing modes the recall. Source: Kynkäänniemi et al. 2019
(arXiv 1904.06991), eq. 1 and 2.

Both are below 1 for a perfect model, by how much depends on n, k and the dimension: read them
beside ``floor``. One outlier among the held-out rows has a huge ball that raises the precision; the
density and coverage of Naeem et al. 2020 are less easily led (``coverage_and_density``).
Cost: see ``neighbourhoods``; some 3 ms a permutation for 500 rows each.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from basin.evaluation.estimate import About, Estimate
from basin.evaluation.neighbourhoods import Distances, compare_neighbourhoods, radii

__all__ = ["precision", "recall"]


def precision(
    samples: Tensor,
    held_out: Tensor,
    generator: torch.Generator | None = None,
    *,
    k: int = 3,
    num_permutations: int = 200,
    second_held_out: Tensor | None = None,
    about: About | None = None,
) -> Estimate:
    """Share of samples that lie where the data lie.

    Args:
        samples: draws of the model, ``[n, *event]``, independent; more than k.
        held_out: rows not trained on, ``[m, *event]``, blurred as the model is; more than k.
            Distances are Euclidean in these coordinates: standardise, or give features.
        generator: source of the permutations; a fresh one of seed 0 by default.
        k: neighbours that a ball reaches to.
        num_permutations: the smallest p-value is 1 / (num_permutations + 1).
        second_held_out: other held-out rows, as many as samples, whose precision is the floor.
        about: what to state in the result.

    Returns:
        ``p_value``: one-sided, small when the precision is too low; ``floor``: that of
        ``second_held_out``, or without it the mean over permutations (``details["floor_from"]``).

    Example:
        >>> import torch
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(300, 2, generator=g), torch.randn(300, 2, generator=g)
        >>> precision(x, y, g).p_value > 0.01, precision(x + 5, y, g).value < 0.1
        (True, True)
    """
    return compare_neighbourhoods(
        _precision,
        samples,
        held_out,
        generator,
        k=k,
        num_permutations=num_permutations,
        second_held_out=second_held_out,
        floor=None,
        meaning=f"share of samples within reach of held-out data ({k} neighbours)",
        null="samples and held-out data have one law (against samples out of reach of the data)",
        about=about,
    )


def recall(
    samples: Tensor,
    held_out: Tensor,
    generator: torch.Generator | None = None,
    *,
    k: int = 3,
    num_permutations: int = 200,
    second_held_out: Tensor | None = None,
    about: About | None = None,
) -> Estimate:
    """Share of held-out rows that lie where samples lie; arguments as those of :func:`precision`.

    Example:
        >>> import torch
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(300, 2, generator=g), torch.randn(300, 2, generator=g)
        >>> recall(x, y, g).p_value > 0.01, recall(0.2 * x, y, g).p_value < 0.01
        (True, True)
    """
    return compare_neighbourhoods(
        _recall,
        samples,
        held_out,
        generator,
        k=k,
        num_permutations=num_permutations,
        second_held_out=second_held_out,
        floor=None,
        meaning=f"share of held-out data within reach of samples ({k} neighbours)",
        null="samples and held-out data have one law (against data out of reach of the samples)",
        about=about,
    )


def _precision(between: Distances, k: int) -> tuple[float, float]:
    inside = between.across <= radii(between.of_held_out, k)[:, None]
    return _share(inside.any(dim=0))


def _recall(between: Distances, k: int) -> tuple[float, float]:
    inside = between.across <= radii(between.of_samples, k)
    return _share(inside.any(dim=1))


def _share(is_inside: Tensor) -> tuple[float, float]:
    share = float(is_inside.double().mean())
    return share, math.sqrt(share * (1 - share) / len(is_inside))
