"""What the data say about noise levels: distances, and the sigmas that follow from them.

sigma_max     the diameter of the data (Song & Ermon 2020, Technique 1): beyond it the blurred
              density is close to one Gaussian
sigma_min     a tenth of the level for one sigma below, between a fiftieth and a twentieth of the
              data's standard deviation: below the detail that a few thousand rows can show
one sigma     the median distance to the nearest neighbour over sqrt(d): blurs from row to row
              and not further
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from basin.core.tensors import num_event_dimensions

__all__ = ["NoiseLevels", "noise_levels"]

# Pairwise distances of this many rows are looked at; 2,048^2 float32 are 16 MiB.
_NUM_ROWS = 2048


class NoiseLevels(NamedTuple):
    """Distances in the data's own coordinates, and the levels chosen from them."""

    num_rows: int
    dimension: int
    standard_deviation: float
    nearest_neighbour: float
    median_distance: float
    diameter: float

    @property
    def sigma_min(self) -> float:
        """Lowest level of a ladder: nearest / 10 sqrt(d), within [sd / 50, sd / 20]."""
        detail = self.nearest_neighbour / (10 * self.dimension**0.5)
        return min(max(detail, self.standard_deviation / 50), self.standard_deviation / 20)

    @property
    def sigma_max(self) -> float:
        """Highest level of a ladder: the diameter."""
        return self.diameter

    @property
    def single_sigma(self) -> float:
        """One level for plain denoising score matching, within [sd / 50, sd / 2]."""
        sigma = self.nearest_neighbour / self.dimension**0.5
        return min(max(sigma, self.standard_deviation / 50), self.standard_deviation / 2)

    def ladder(self, sigma_min: float | None, sigma_max: float | None) -> tuple[float, float]:
        """Ends of a ladder: those given, else those of the data; refused unless min < max."""
        lower = self.sigma_min if sigma_min is None else sigma_min
        upper = self.sigma_max if sigma_max is None else sigma_max
        if not lower < upper:
            raise ValueError(f"sigma_min must lie below sigma_max, got {lower:.4g} and {upper:.4g}")
        return lower, upper

    def table(self) -> str:
        """The numbers and what was chosen from them, one a line."""
        return "\n".join(
            [
                f"noise levels from {self.num_rows} rows in {self.dimension} dimensions",
                f"  standard deviation (root mean square)   {self.standard_deviation:.4g}",
                f"  distance to nearest neighbour (median)  {self.nearest_neighbour:.4g}",
                f"  distance between pairs (median)         {self.median_distance:.4g}",
                f"  diameter (largest distance)             {self.diameter:.4g}",
                f"  sigma for one level  = nearest / sqrt(d), in [sd/50, sd/2]  "
                f"{self.single_sigma:.4g}",
                f"  ladder = nearest / 10 sqrt(d), in [sd/50, sd/20] ... diameter   "
                f"{self.sigma_min:.4g} ... {self.sigma_max:.4g}",
            ]
        )


def noise_levels(x: Tensor) -> NoiseLevels:
    """Measure the first 2,048 rows of ``x`` ``[n, *event]``; two different ones are needed."""
    if len(x) < 2:
        raise ValueError(f"x must have at least two rows to choose noise levels, got {len(x)}")
    rows = x[:_NUM_ROWS].flatten(1).double()
    deviation = float((rows - rows.mean(0)).square().mean().sqrt())
    if not deviation > 0:
        raise ValueError("x must vary to choose noise levels, got rows that are all the same")
    distances = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    # A row drawn twice is no neighbour of itself.
    apart = torch.where(distances > 1e-7 * deviation, distances, torch.inf)
    pairs = distances[torch.triu(torch.ones_like(distances, dtype=torch.bool), diagonal=1)]
    return NoiseLevels(
        num_rows=len(rows),
        dimension=num_event_dimensions(x),
        standard_deviation=deviation,
        nearest_neighbour=float(apart.min(1).values.median()),
        median_distance=float(pairs.median()),
        diameter=float(pairs.max()),
    )
