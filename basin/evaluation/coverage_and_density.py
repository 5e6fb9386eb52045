"""Coverage of the data by samples, and density of samples in the data.

    coverage = share of held-out rows whose ball holds a sample
    density  = mean over samples of (number of held-out rows' balls that hold it) / k

where a held-out row's ball reaches to its k-th nearest other held-out row. Missing modes lower the
coverage, samples far from the data the density. Source: Naeem et al. 2020 (arXiv 2002.09797),
section 3. Only held-out rows have balls: a model's outliers cannot widen its own.

What a perfect model gets is known whatever the law. Of the n samples and m - 1 other held-out rows
around a row every order of distances is as likely as any other, so that

    E[density] = 1,      E[coverage] = 1 - Π_{j<k} (m - 1 - j) / (n + m - 1 - j)

(the k nearest of n + m - 1 rows are all held-out ones).
Cost: see ``neighbourhoods``; some 3 ms a permutation for 500 rows each.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from basin.evaluation.estimate import About, Estimate
from basin.evaluation.neighbourhoods import Distances, compare_neighbourhoods, radii

__all__ = ["coverage", "density_of_samples"]


def coverage(
    samples: Tensor,
    held_out: Tensor,
    generator: torch.Generator | None = None,
    *,
    k: int = 5,
    num_permutations: int = 200,
    second_held_out: Tensor | None = None,
    about: About | None = None,
) -> Estimate:
    """Share of held-out rows with a sample among them.

    Args:
        samples: draws of the model, ``[n, *event]``, independent; more than k.
        held_out: rows not trained on, ``[m, *event]``, blurred as the model is; more than k.
            Distances are Euclidean in these coordinates: standardise, or give features.
        generator: source of the permutations; a fresh one of seed 0 by default.
        k: neighbours that a ball reaches to.
        num_permutations: the smallest p-value is 1 / (num_permutations + 1).
        second_held_out: other held-out rows, as many as samples, whose coverage is then the floor
            instead of the closed form.
        about: what to state in the result.

    Returns:
        ``p_value``: one-sided, small when the coverage is too low; ``floor``: the mean of a perfect
        model, in closed form.

    Example:
        >>> import torch
        >>> g = torch.Generator().manual_seed(0)
        >>> y = torch.randn(300, 2, generator=g) + 6 * (torch.arange(300) % 2)[:, None]
        >>> found = coverage(torch.randn(300, 2, generator=g), y, g)  # one of two modes
        >>> round(found.value, 1), round(found.floor, 2), found.p_value < 0.01
        (0.5, 0.97, True)
    """
    return compare_neighbourhoods(
        _coverage,
        samples,
        held_out,
        generator,
        k=k,
        num_permutations=num_permutations,
        second_held_out=second_held_out,
        floor=lambda n, m: 1 - math.prod((m - 1 - j) / (n + m - 1 - j) for j in range(k)),
        meaning=f"share of held-out rows whose ball ({k} neighbours) holds a sample",
        null="samples and held-out data have one law (against uncovered data)",
        about=about,
    )


def density_of_samples(
    samples: Tensor,
    held_out: Tensor,
    generator: torch.Generator | None = None,
    *,
    k: int = 5,
    num_permutations: int = 200,
    second_held_out: Tensor | None = None,
    about: About | None = None,
) -> Estimate:
    """How densely data lie where samples lie; arguments as those of :func:`coverage`.

    Below 1 for samples beside the data or in their thin parts. Balls shrink where data are dense,
    so that samples crowding there score about 1: that is the coverage's to see.

    Example:
        >>> import torch
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(300, 2, generator=g), torch.randn(300, 2, generator=g)
        >>> round(density_of_samples(x, y, g).value, 1), density_of_samples(x + 5, y, g).value < 0.1
        (1.0, True)
    """
    return compare_neighbourhoods(
        _density,
        samples,
        held_out,
        generator,
        k=k,
        num_permutations=num_permutations,
        second_held_out=second_held_out,
        floor=lambda n, m: 1.0,
        meaning=f"mean number of held-out rows' balls ({k} neighbours) around a sample, over {k}",
        null="samples and held-out data have one law (against samples where data are thin)",
        about=about,
    )


def _coverage(between: Distances, k: int) -> tuple[float, float]:
    is_covered = between.across.amin(dim=1) <= radii(between.of_held_out, k)
    share = float(is_covered.double().mean())
    return share, math.sqrt(share * (1 - share) / len(is_covered))


def _density(between: Distances, k: int) -> tuple[float, float]:
    inside = between.across <= radii(between.of_held_out, k)[:, None]
    of_samples = inside.double().sum(dim=0) / k
    return float(of_samples.mean()), float(of_samples.std()) / math.sqrt(len(of_samples))
