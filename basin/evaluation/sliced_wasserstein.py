"""Sliced Wasserstein distance between samples and held-out data, with a permutation p-value.

    SW_p^p = E_θ W_p^p(θ'x, θ'y),    W_p^p = ∫ |F⁻¹(u) - G⁻¹(u)|^p du,    θ uniform on the sphere

In one dimension optimal transport is sorting, so this looks at every direction for the price of
sorts, in the units of x. Source: Rabin, Peyré, Delon & Bernot 2011; Bonneel et al. 2015.
N(0, I) moved by m is |m| / √d away (p = 2). Like every distance between two finite sets it is above
zero when both have one law: read it beside ``floor``.

The p-value permutes the labels, and is exact for any sample size. The standard error is that of the
limit law at distinct laws (del Barrio & Loubes 2019, theorem 4.1: the mean of the potentials), with
the error of finitely many directions.
Cost: ``num_directions`` sorts of n + m numbers, and as many products a permutation.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from basin.core.validation import positive_integer
from basin.evaluation.estimate import About, Estimate
from basin.evaluation.two_sample import (
    ONE_LAW,
    Pooled,
    labels_as_given,
    permutation_p_value,
    permuted_labels,
    pooled,
)

__all__ = ["sliced_wasserstein"]


def sliced_wasserstein(
    samples: Tensor,
    held_out: Tensor,
    generator: torch.Generator | None = None,
    *,
    order: int = 2,
    num_directions: int = 50,
    num_permutations: int = 200,
    second_held_out: Tensor | None = None,
    about: About | None = None,
) -> Estimate:
    """SW_p between samples and held-out rows, null hypothesis: one law.

    Args:
        samples: draws of the model, ``[n, *event]``, independent; two or more.
        held_out: rows not trained on, ``[m, *event]``, blurred as the model is; two or more.
        generator: source of directions and permutations; a fresh one of seed 0 by default.
        order: p, 1 or 2.
        num_directions: θ, drawn once; one dimension has a single one, and the distance is exact.
        num_permutations: the smallest p-value is 1 / (num_permutations + 1).
        second_held_out: other held-out rows, as many as samples, whose distance is the floor.
        about: what to state in the result.

    Returns:
        ``floor``: the distance of ``second_held_out``, or without it the root mean p-th power over
        the permutations (``details["floor_from"]`` says which); ``details``: ``null_95``.

    Example:
        >>> import torch
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(500, 4, generator=g), torch.randn(500, 4, generator=g)
        >>> found = sliced_wasserstein(x + 1, y, g)  # |m| / √d = 1
        >>> round(found.value, 1), found.p_value < 0.01
        (1.0, True)
    """
    positive_integer(num_directions=num_directions, num_permutations=num_permutations)
    if order not in (1, 2):
        raise ValueError(f"order must be 1 or 2, got {order!r}")
    generator = generator or torch.Generator().manual_seed(0)
    both = pooled(samples, held_out)
    rows, n, m = both
    directions = _directions(rows.shape[1], num_directions, generator)
    permuted = permuted_labels(n, m, num_permutations, generator)
    labels = torch.cat([labels_as_given(n, m), permuted])
    powers = _sliced_powers(both, directions, labels, order)  # [labellings, directions]
    means = powers.mean(dim=1)
    value = float(means[0]) ** (1 / order)
    null = means[1:] ** (1 / order)
    error_of_power = _error_of_power(both, directions, powers[0], order)
    delta = error_of_power / (order * value ** (order - 1)) if value > 0 else 0.0
    null_spread = float(null.std()) if num_permutations > 1 else 0.0
    floor, floor_from = float(means[1:].mean()) ** (1 / order), "permutations"
    if second_held_out is not None:
        other = pooled(second_held_out, held_out)
        given = labels_as_given(other.n, other.m)
        power = _sliced_powers(other, directions, given, order).mean()
        floor, floor_from = float(power) ** (1 / order), "second held-out rows"
    return Estimate(
        value=value,
        standard_error=max(null_spread, delta),
        floor=floor,
        p_value=permutation_p_value(value, null, generator),
        n=min(n, m),
        meaning=f"sliced Wasserstein-{order} distance between samples and held-out data, in units "
        "of x",
        about=about or About(),
        null=ONE_LAW,
        details={
            "null_95": float(null.quantile(0.95)),
            "floor_from": floor_from,
            "num_directions": len(directions),
            "n_samples": n,
            "n_held_out": m,
        },
    )


def _directions(dim: int, count: int, generator: torch.Generator) -> Tensor:
    """``[count, dim]`` of unit length; the only one there is in one dimension."""
    if dim == 1:
        return torch.ones(1, 1, dtype=torch.float64)
    size = (count, dim)
    normal = torch.randn(size, generator=generator, device=generator.device, dtype=torch.float64)
    return torch.nn.functional.normalize(normal, dim=1).cpu()


def _sliced_powers(both: Pooled, directions: Tensor, labels: Tensor, order: int) -> Tensor:
    """W_p^p along each direction for each labelling, ``[labellings, directions]``.

    The pooled rows are sorted once a direction: a labelling picks its two sorted halves.
    """
    in_x, in_y, weights = _matched_quantiles(both.n, both.m)
    powers = torch.empty(len(labels), len(directions), dtype=torch.float64)
    for k, direction in enumerate(directions):
        values, ranks = (both.rows @ direction).sort()
        is_sample = labels[:, ranks]
        every = values.expand(len(labels), -1)
        x = every[is_sample].reshape(len(labels), both.n)
        y = every[~is_sample].reshape(len(labels), both.m)
        powers[:, k] = (x[:, in_x] - y[:, in_y]).abs().pow(order) @ weights
    return powers


def _matched_quantiles(n: int, m: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which sorted x and which sorted y share a piece of [0, 1], and its length."""
    steps = [torch.arange(1, size + 1, dtype=torch.float64) / size for size in (n, m)]
    ends = torch.cat(steps).unique()
    starts = torch.cat([torch.zeros(1, dtype=torch.float64), ends[:-1]])
    middle = 0.5 * (starts + ends)
    weights = ends - starts
    return (middle * n).long().clamp(max=n - 1), (middle * m).long().clamp(max=m - 1), weights


def _error_of_power(both: Pooled, directions: Tensor, powers: Tensor, order: int) -> float:
    """Standard error of SW_p^p: of the rows by their mean potentials, and of the directions."""
    rows, n, m = both
    in_x, in_y, weights = _matched_quantiles(n, m)
    potentials = torch.zeros(n + m, dtype=torch.float64)
    for direction in directions:
        x, x_order = (rows[:n] @ direction).sort()
        y, y_order = (rows[n:] @ direction).sort()
        partner_of_x = torch.zeros(n).double().index_add_(0, in_x, weights * y[in_y]) * n
        partner_of_y = torch.zeros(m).double().index_add_(0, in_y, weights * x[in_x]) * m
        potentials[x_order] += _potential(x, partner_of_x, order)
        potentials[n + y_order] += _potential(y, partner_of_y, order)
    potentials /= len(directions)
    of_rows = float(potentials[:n].var()) / n + float(potentials[n:].var()) / m
    count = len(directions)
    of_directions = float(powers.var()) / count if count > 1 else 0.0
    return math.sqrt(of_rows + of_directions)


def _potential(x: Tensor, partner: Tensor, order: int) -> Tensor:
    """φ at sorted x, up to a constant: φ' = p |x - T(x)|^(p-1) sign(x - T(x)), by trapezoids."""
    gap = x - partner
    slope = order * gap.abs().pow(order - 1) * gap.sign()
    return torch.cat([torch.zeros(1).double(), torch.cumulative_trapezoid(slope, x)])
