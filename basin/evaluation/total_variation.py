"""Total variation distance between a known two-dimensional truth and the model, by quadrature.

    TV = ½ ∫ |p - pθ| dx        in [0, 1]: the largest difference of probability of any event

Source: the definition. Unlike the KL divergence it is bounded and has a meaning without logarithms:
with TV = 0.05 no event is wrong by more than five per cent.
Cost: that of the grid, see ``grid``.
"""

from __future__ import annotations

from typing import Any

from basin.core.types import Density
from basin.evaluation.enumerated import enumerated_total_variation, is_discrete
from basin.evaluation.estimate import About, Estimate
from basin.evaluation.grid import Grid, grid_of

__all__ = ["total_variation"]


def total_variation(
    energy: Any,
    density: Density,
    *,
    grid: Grid | None = None,
    num_points: int = 408,
    about: About | None = None,
    block: int = 8192,
) -> Estimate:
    """½ ∫ |p - pθ| over the plane, or over every row of whole numbers; see ``kl_to_truth``.

    Example:
        >>> from basin.datasets import StandardGaussian
        >>> shifted = lambda x: 0.5 * (x[:, 0] - 1) ** 2 + 0.5 * x[:, 1] ** 2
        >>> round(total_variation(shifted, StandardGaussian(2)).value, 3)  # 2 Φ(1/2) - 1
        0.383
    """
    if is_discrete(density):
        return enumerated_total_variation(energy, density, about)
    grid = grid_of(energy, density, num_points=num_points, block=block) if grid is None else grid
    value, error = grid.with_error(_total_variation)
    error += grid.truth_missing  # no event can be more wrong than by what the grid does not see
    return Estimate(
        value=value,
        standard_error=error,
        floor=0.0,
        p_value=None,
        n=None,
        meaning="total variation distance between truth and model, by quadrature",
        about=about or About(),
    )


def _total_variation(grid: Grid, stride: int) -> float:
    log_truth = grid.every(grid.log_truth, stride)
    log_model = -grid.every(grid.energies, stride) - grid.log_z(stride)
    cell = grid.log_cell(stride)
    truth = (log_truth + cell).exp()
    inside = (truth / truth.sum() - (log_model + cell).exp()).abs().sum()
    return 0.5 * (float(inside) + grid.share_outside)
