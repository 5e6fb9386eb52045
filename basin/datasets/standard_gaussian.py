"""The standard Gaussian in d dimensions, blurred or not.

    p_sigma = N(0, (1 + sigma^2) I)

The one density on which every objective has a closed form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from basin.core.tensors import event_sum
from basin.core.validation import non_negative, positive_integer
from basin.datasets.toy_density import ToyDensity

__all__ = ["StandardGaussian"]

OUTSIDE = 1e-10
"""Mass that the box of ``bounds`` may leave out."""


@dataclass(frozen=True, repr=False)
class StandardGaussian(ToyDensity):
    """N(0, I) in ``dim`` dimensions.

    Args:
        dim: number of coordinates, 1 or more.
        sigma: blur already applied, 0 or above.

    Example:
        >>> import torch
        >>> StandardGaussian(dim=1).blurred(1.0).log_prob(torch.zeros(1, 1))
        tensor([-1.2655])
    """

    dim: int = 2
    sigma: float = 0.0

    is_smooth = True

    def __post_init__(self) -> None:
        positive_integer(dim=self.dim)
        non_negative(sigma=self.sigma)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.dim,)

    @cached_property
    def bounds(self) -> Tensor:
        tail = torch.tensor(OUTSIDE / (2 * self.dim), dtype=torch.float64)
        reach = -torch.special.ndtri(tail) * math.hypot(1, self.sigma)
        return torch.stack([-reach, reach]).repeat(self.dim, 1)

    @cached_property
    def mode_weights(self) -> Tensor:
        return torch.ones(1, dtype=torch.float64)

    def sample_clean(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.randn(n, self.dim, generator=generator, device=generator.device)

    def log_density(self, x: Tensor) -> Tensor:
        variance = 1 + self.sigma**2
        return -0.5 * event_sum(x.square()) / variance - 0.5 * self.dim * math.log(
            2 * math.pi * variance
        )

    def mode_of(self, x: Tensor) -> Tensor:
        """Always 0: there is one mode."""
        return torch.zeros(len(x), dtype=torch.int64, device=x.device)
