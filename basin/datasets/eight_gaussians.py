"""Eight Gaussians on a circle (the toy of FFJORD, Grathwohl et al. 2019), blurred or not.

    p_sigma(x) = 1/8 sum_k N(x; radius (cos k pi/4, sin k pi/4), (standard_deviation^2 + sigma^2) I)

The regions of ``mode_of`` are the sectors of 45 degrees around each centre (which is the nearest
centre), so by symmetry each has probability exactly 1/8, at any blur.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from basin.core.validation import non_negative, positive
from basin.datasets.mixture_of_gaussians import MixtureOfGaussians
from basin.datasets.toy_density import ToyDensity

__all__ = ["EightGaussians"]


@dataclass(frozen=True, repr=False)
class EightGaussians(ToyDensity):
    """Eight equal Gaussians; the defaults are FFJORD's 4 and 0.5, both over the root of 2.

    Args:
        radius: of the circle of centres, positive.
        standard_deviation: of each Gaussian, per coordinate, positive.
        sigma: blur already applied, 0 or above.

    Example:
        >>> import torch
        >>> EightGaussians().mode_of(torch.tensor([[3.0, 0.1], [-2.0, -2.0]]))
        tensor([0, 5])
    """

    radius: float = 4 / math.sqrt(2)
    standard_deviation: float = 0.5 / math.sqrt(2)
    sigma: float = 0.0

    event_shape = (2,)
    is_smooth = True

    def __post_init__(self) -> None:
        positive(radius=self.radius, standard_deviation=self.standard_deviation)
        non_negative(sigma=self.sigma)

    @cached_property
    def bounds(self) -> Tensor:
        return self._mixture.bounds

    @cached_property
    def mode_weights(self) -> Tensor:
        return torch.full((8,), 1 / 8, dtype=torch.float64)

    def sample_clean(self, n: int, generator: torch.Generator) -> Tensor:
        return self._mixture.sample_clean(n, generator)

    def log_density(self, x: Tensor) -> Tensor:
        return self._mixture.log_density(x)

    def mode_of(self, x: Tensor) -> Tensor:
        """Number of the sector, counted anticlockwise from the one around the first axis."""
        return (torch.atan2(x[:, 1], x[:, 0]) / (math.pi / 4)).round().long() % 8

    @cached_property
    def _mixture(self) -> MixtureOfGaussians:
        angle = torch.arange(8, dtype=torch.float64) * math.pi / 4
        means = self.radius * torch.stack([angle.cos(), angle.sin()], 1)
        return MixtureOfGaussians(means, self.standard_deviation**2, None, self.sigma)
