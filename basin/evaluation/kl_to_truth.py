"""KL(p‖pθ) from a known two-dimensional truth to the normalised model, by quadrature.

    KL = ∫ p (log p + E) dx + log Z,      log Z = log ∫ exp(-E) dx

Both integrals run over the same grid (see ``grid``), so the KL of a perfect model is zero to
rounding and never negative. pθ is normalised over twice the box that holds the truth: mass that a
model puts beside the data counts against it. Mass still farther out is estimated and goes into the
error; where exp(-E) does not fall off at all, no Z exists and ``falls_off`` says so.
Source: the definition. About: whatever ``density`` is, so give it blurred.
Cost: that of the grid, 1-2 s for a 3 × 128 network on one core.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from basin.core.types import Density
from basin.evaluation.enumerated import enumerated_kl, is_discrete
from basin.evaluation.estimate import About, Estimate
from basin.evaluation.grid import Grid, grid_of

__all__ = ["kl_to_truth"]


def kl_to_truth(
    energy: Any,
    density: Density,
    *,
    grid: Grid | None = None,
    num_points: int = 408,
    about: About | None = None,
    block: int = 8192,
) -> Estimate:
    """KL(p‖pθ) in nats, with log Z, the total mass exp(log Z) and the share outside the box.

    Args:
        energy: ``[batch, 2] -> [batch]``, normalised or not; ``noisy.at(sigma)`` for a
            noise-conditional one.
        density: the truth, **blurred** to the level that the energy models. One of whole numbers
            is summed over every row instead (at most 2^20), in any dimension.
        grid: both of them already on a grid (:func:`grid_of`), to share it with other checks.
        num_points: cells a side of the grid.
        about: what to state in the result; the data itself by default.
        block: points evaluated at a time.

    Returns:
        ``value`` in nats; ``standard_error`` is the numerical error, from two resolutions and from
        what of the truth the grid does not hold (at the largest |log p - log pθ| inside the box);
        ``details`` has ``log_z``, ``log_z_error`` (numerical), ``total_mass`` (1 for a model that
        is normalised), ``share_outside`` the box, ``falls_off``, ``inside_the_box`` (the KL of the
        model cut to the box alone) and ``truth_mass`` (1 when the grid holds the truth).

    Example:
        >>> from basin.datasets import StandardGaussian
        >>> truth = StandardGaussian(2)
        >>> wide = lambda x: 0.5 * x.square().sum(1) / 2  # variance 2
        >>> round(kl_to_truth(wide, truth).value, 4)  # log 2 - 1/2
        0.1931
    """
    if is_discrete(density):
        return enumerated_kl(energy, density, about)
    grid = grid_of(energy, density, num_points=num_points, block=block) if grid is None else grid
    value, error = grid.with_error(_kl)
    error += _of_missing_mass(grid, value)
    log_z, log_z_error = grid.with_error(Grid.log_z)
    return Estimate(
        value=value,
        standard_error=error,
        floor=0.0,
        p_value=None,
        n=None,
        meaning="KL divergence from the truth to the normalised model, in nats, by quadrature",
        about=about or About(),
        details={
            "log_z": log_z,
            "log_z_error": log_z_error,
            "total_mass": math.exp(log_z) if log_z < 700 else math.inf,
            "share_outside": grid.share_outside,
            "falls_off": grid.falls_off,
            "inside_the_box": value - log_z + grid.log_z_inside(),
            "truth_mass": grid.truth_mass(),
            "num_points": grid.side,
        },
    )


def _of_missing_mass(grid: Grid, value: float) -> float:
    """What the truth's mass that the grid misses (a box that cuts it) may add to the KL."""
    if not math.isfinite(value):
        return 0.0
    has_mass = torch.isfinite(grid.log_truth)
    log_ratio = (grid.log_truth + grid.energies)[has_mass] + grid.log_z()
    finite = log_ratio[torch.isfinite(log_ratio)]
    return grid.truth_missing * max(1.0, float(finite.abs().max()))


def _kl(grid: Grid, stride: int) -> float:
    """The sum over cells, with the truth normalised on them as the model is."""
    log_truth = grid.every(grid.log_truth, stride).flatten()
    energies = grid.every(grid.energies, stride).flatten()
    has_mass = torch.isfinite(log_truth)
    log_share = torch.log_softmax(log_truth[has_mass], dim=0)
    log_density = log_share - grid.log_cell(stride)
    return float((log_share.exp() * (log_density + energies[has_mass])).sum()) + grid.log_z(stride)
