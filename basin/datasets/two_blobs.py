"""Two Gaussian blobs far apart, of unequal weight: what plain score matching is blind to.

    p_sigma(x) = sum_k w_k N(x; (-+ distance / 2, 0), (standard_deviation^2 + sigma^2) I)

With the defaults (weights 0.8 and 0.2, distance 8, standard deviation 0.3) no point lies between
the blobs, so the score of the data says nothing about the weights. The regions of ``mode_of`` are
the half planes x1 < 0 (the first blob) and x1 >= 0, whose probabilities are normal CDFs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from basin.core.validation import in_unit_interval, non_negative, positive
from basin.datasets.mixture_of_gaussians import MixtureOfGaussians
from basin.datasets.toy_density import ToyDensity

__all__ = ["TwoBlobs"]


@dataclass(frozen=True, repr=False)
class TwoBlobs(ToyDensity):
    """Blobs at (-distance/2, 0) and (distance/2, 0).

    Args:
        weight: probability of the left blob, in [0, 1].
        distance: between the centres, positive.
        standard_deviation: of each blob, per coordinate, positive.
        sigma: blur already applied, 0 or above.

    Example:
        >>> TwoBlobs().mode_weights
        tensor([0.8000, 0.2000], dtype=torch.float64)
    """

    weight: float = 0.8
    distance: float = 8.0
    standard_deviation: float = 0.3
    sigma: float = 0.0

    event_shape = (2,)
    is_smooth = True

    def __post_init__(self) -> None:
        in_unit_interval(weight=self.weight)
        positive(distance=self.distance, standard_deviation=self.standard_deviation)
        non_negative(sigma=self.sigma)

    @cached_property
    def bounds(self) -> Tensor:
        return self._mixture.bounds

    @cached_property
    def mode_weights(self) -> Tensor:
        width = math.hypot(self.standard_deviation, self.sigma)
        on_its_side = torch.special.ndtr(
            torch.tensor(self.distance / 2 / width, dtype=torch.float64)
        )
        left = self.weight * on_its_side + (1 - self.weight) * (1 - on_its_side)
        return torch.stack([left, 1 - left])

    def sample_clean(self, n: int, generator: torch.Generator) -> Tensor:
        return self._mixture.sample_clean(n, generator)

    def log_density(self, x: Tensor) -> Tensor:
        return self._mixture.log_density(x)

    def mode_of(self, x: Tensor) -> Tensor:
        """0 on the left half plane, 1 on the right."""
        return (x[:, 0] >= 0).long()

    @cached_property
    def _mixture(self) -> MixtureOfGaussians:
        centre = self.distance / 2
        return MixtureOfGaussians(
            [[-centre, 0.0], [centre, 0.0]],
            self.standard_deviation**2,
            [self.weight, 1 - self.weight],
            self.sigma,
        )
