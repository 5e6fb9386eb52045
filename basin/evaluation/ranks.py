"""Which of two sets of numbers is larger: the area under the ROC curve, its error and p-value.

    AUC = P(a < b) + ½ P(a = b)        ½ when both have one law

Source: Mann & Whitney 1947 for the test (normal approximation with the correction for ties),
DeLong, DeLong & Clarke-Pearson 1988 for the standard error when the laws differ.
Cost: two sorts.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Ranking", "rank_against"]


class Ranking(NamedTuple):
    """AUC, its standard error, and p-values under the null of one law."""

    area: float
    standard_error: float
    p_value: float
    p_value_smaller: float


def rank_against(a: Tensor, b: Tensor) -> Ranking:
    """P(a < b) + ½ P(a = b) over all pairs of two sets ``[n]`` and ``[m]``, each two or more.

    ``p_value`` is two-sided; ``p_value_smaller`` is small when ``a`` tends to be smaller.

    Example:
        >>> import torch
        >>> rank_against(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.5, 3.5])).area
        0.8333333333333334
    """
    a, b = a.flatten().double().cpu(), b.flatten().double().cpu()
    n, m = len(a), len(b)
    if n < 2 or m < 2:
        raise ValueError(f"both sets must have two numbers or more, got {n} and {m}")
    of_a, of_b = _share_above(a, b), 1 - _share_above(b, a)
    area = float(of_a.mean())
    standard_error = math.sqrt(float(of_a.var()) / n + float(of_b.var()) / m)
    _, ties = torch.unique(torch.cat([a, b]), return_counts=True)
    total = n + m
    tie_term = float((ties.double() ** 3 - ties).sum()) / (total * (total - 1))
    null_variance = (total + 1 - tie_term) / (12 * n * m)
    z = (area - 0.5) / math.sqrt(null_variance) if null_variance > 0 else 0.0
    return Ranking(
        area=area,
        standard_error=standard_error,
        p_value=math.erfc(abs(z) / math.sqrt(2)),
        p_value_smaller=0.5 * math.erfc(z / math.sqrt(2)),
    )


def _share_above(values: Tensor, others: Tensor) -> Tensor:
    """For each value the share of ``others`` above it, ties counted half."""
    ordered = others.sort().values
    not_above = torch.searchsorted(ordered, values, right=True)
    below = torch.searchsorted(ordered, values, right=False)
    return 1 - (not_above + below).double() / (2 * len(others))
