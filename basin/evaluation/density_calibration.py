"""Calibration of a density: do its regions hold as much of the data as they say?

Highest-density regions. A model's 90% region {x: E(x) <= c} should hold 90% of held-out rows. The
level at which a row enters, u(x) = P_θ(E(x') < E(x)), is uniform when the model is right; with
draws of the model for P_θ nobody needs log Z. ``value`` is the largest error of all regions:

    sup over c of | share of held-out rows with E <= c  -  share of samples with E <= c |

the Kolmogorov-Smirnov distance of both sets of energies, whose p-value is exact (Hodges 1958) and
sees a model that is too sure (rows outside its regions) or too vague. Source: Harrison, Sutton,
Carvalho & Hobson 2015 for the test by levels of density.

Marginals. The probability integral transform (PIT): F_j(x_j) is uniform for each coordinate j
(Rosenblatt 1952; Gneiting, Balabdaoui & Raftery 2007), here with the distribution function of
samples. ``value`` is the largest error over all coordinates and thresholds; the p-value is d times
the smallest, which allows for d looks (Bonferroni) and is cautious where coordinates go together.

Both are blind to what they do not look at: a wrong shape with the right level sets' masses, a wrong
dependence with the right marginals.
Cost: one energy a row and a sort; d sorts.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from basin.core.validation import all_finite, in_unit_interval, same_event_shape
from basin.evaluation.estimate import About, Estimate
from basin.evaluation.two_sample import ONE_LAW
from basin.partition.blocks import energies_in_blocks

__all__ = ["highest_density_calibration", "marginal_calibration"]

_LEVELS = (0.5, 0.9, 0.95, 0.99)


def highest_density_calibration(
    energy: Any,
    held_out: Tensor,
    samples: Tensor,
    *,
    levels: tuple[float, ...] = _LEVELS,
    about: About | None = None,
    block: int = 8192,
) -> Estimate:
    """Largest error of the mass of the model's highest-density regions.

    Args:
        energy: ``[batch, *event] -> [batch]``, normalised or not.
        held_out: rows not trained on, ``[n, *event]``, blurred as the model is; two or more.
        samples: draws of the model, ``[m, *event]``, independent; two or more.
        levels: of the regions listed in ``details``.
        about: what to state in the result.
        block: rows at a time.

    Returns:
        ``value`` in [0, 1]; ``standard_error``: of the difference of shares where it is largest;
        ``floor``: the mean of a perfect model, √(π/2) log 2 √(1/n + 1/m); ``details``:
        ``regions``, for each level the share of held-out rows inside and its standard error.

    Example:
        >>> import torch
        >>> g = torch.Generator().manual_seed(0)
        >>> data, narrow = torch.randn(500, 2, generator=g), 0.7 * torch.randn(500, 2, generator=g)
        >>> found = highest_density_calibration(lambda x: x.square().sum(1), data, narrow)
        >>> found.p_value < 1e-4, found.details["regions"][1]["share"] < 0.8  # of its 90% region
        (True, True)
    """
    for level in levels:
        in_unit_interval(level=level)
    same_event_shape("samples", samples, held_out.shape[1:])
    all_finite("samples", samples)
    all_finite("held_out", held_out)
    of_data = energies_in_blocks(energy, held_out, block=block)
    of_samples = energies_in_blocks(energy, samples, block=block)
    found = _kolmogorov_smirnov(of_data, of_samples)
    n, m = len(of_data), len(of_samples)
    regions = []
    for level in levels:
        threshold = of_samples.sort().values[min(m - 1, math.ceil(level * m) - 1)]
        share = float((of_data <= threshold).double().mean())
        error = math.sqrt(share * (1 - share) / n + level * (1 - level) / m)
        regions.append({"level": level, "share": share, "standard_error": error})
    return Estimate(
        value=found.distance,
        standard_error=found.standard_error,
        floor=_mean_distance(n, m),
        p_value=found.p_value,
        n=min(n, m),
        meaning="largest error of the mass of a highest-density region",
        about=about or About(),
        null="energies of samples and of held-out data have one law",
        details={"regions": regions, "n_held_out": n, "n_samples": m},
    )


def marginal_calibration(
    samples: Tensor, held_out: Tensor, *, about: About | None = None
) -> Estimate:
    """Largest error of the distribution function of a coordinate.

    Args:
        samples: draws of the model, ``[m, *event]``, independent; two or more.
        held_out: rows not trained on, ``[n, *event]``, blurred as the model is; two or more.
        about: what to state in the result.

    Returns:
        ``value`` in [0, 1]; ``floor``: the mean largest of d perfect coordinates, independent ones;
        ``details``: ``worst_coordinate`` (of the flattened row) and ``distances``.

    Example:
        >>> import torch
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(500, 3, generator=g), torch.randn(500, 3, generator=g)
        >>> x[:, 2] += 1  # Φ(1/2) - Φ(-1/2) = 0.38
        >>> found = marginal_calibration(x, y)
        >>> round(found.value, 1), found.details["worst_coordinate"], found.p_value < 1e-4
        (0.4, 2, True)
    """
    same_event_shape("samples", samples, held_out.shape[1:])
    all_finite("samples", samples)
    all_finite("held_out", held_out)
    columns = zip(held_out.flatten(1).double().T, samples.flatten(1).double().T)
    found = [_kolmogorov_smirnov(data.cpu(), drawn.cpu()) for data, drawn in columns]
    smallest = min(range(len(found)), key=lambda j: (found[j].p_value, -found[j].distance))
    worst, n, m = found[smallest], len(held_out), len(samples)
    return Estimate(
        value=worst.distance,
        standard_error=worst.standard_error,
        floor=_mean_distance(n, m, num_looks=len(found)),
        p_value=min(1.0, len(found) * worst.p_value),
        n=min(n, m),
        meaning="largest error of the distribution function of a coordinate (PIT)",
        about=about or About(),
        null=ONE_LAW,
        details={"worst_coordinate": smallest, "distances": [one.distance for one in found]},
    )


class _Distance(NamedTuple):
    """Largest difference of two empirical distribution functions."""

    distance: float
    standard_error: float
    p_value: float


def _kolmogorov_smirnov(a: Tensor, b: Tensor) -> _Distance:
    from scipy.stats import ks_2samp

    if min(len(a), len(b)) < 2:
        raise ValueError(
            f"held_out and samples must have two rows or more, got {len(a)} and {len(b)}"
        )
    found: Any = ks_2samp(a.numpy(), b.numpy())
    share_a, share_b = (
        float((part <= found.statistic_location).double().mean()) for part in (a, b)
    )
    error = math.sqrt(share_a * (1 - share_a) / len(a) + share_b * (1 - share_b) / len(b))
    return _Distance(float(found.statistic), error, float(found.pvalue))


def _mean_distance(n: int, m: int, num_looks: int = 1) -> float:
    """Mean of the largest of some independent such distances when the laws are equal.

    √(nm/(n+m)) times one of them has Kolmogorov's law K in the limit (mean √(π/2) log 2), and a
    positive number has the mean ∫ P(it exceeds t) dt.
    """
    from scipy.special import kolmogorov  # 1 - K

    t = torch.linspace(0, 6, 2001, dtype=torch.float64)  # K(6) is 1 to the last bit
    exceeds = 1 - (1 - torch.from_numpy(kolmogorov(t.numpy()))) ** num_looks
    return float(torch.trapezoid(exceeds, t)) * math.sqrt(1 / n + 1 / m)
