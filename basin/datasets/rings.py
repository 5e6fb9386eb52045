"""Concentric rings (the lesson's, FFJORD's): radii 0.75, 1.5, 2.25, 3 with Gaussian noise.

    X = R_k (cos a, sin a) + s Z,  a uniform;   s^2 = noise^2 + sigma^2
    p_sigma(x) = sum_k w_k exp(-(r^2 + R_k^2) / 2 s^2) I_0(r R_k / s^2) / (2 pi s^2),  r = |x|

exact, with I_0 the modified Bessel function (scaled by exp, so that nothing overflows). The radius
follows Rice's law.

The regions of ``mode_of``: nearest ring, that is bands of the radius cut halfway between rings.
Their probabilities are integrals of Rice's density over each band by Gauss-Legendre (error below
1e-10).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from basin.core.validation import non_negative, positive
from basin.datasets.curve import panels
from basin.datasets.toy_density import ToyDensity

__all__ = ["Rings"]

REACH = 6.5
"""Standard deviations: four tails beyond 6.5 hold 1.6e-10."""
TINY = 1e-60
"""Added to r^2, so that r has derivatives at the centre."""


@dataclass(frozen=True, repr=False)
class Rings(ToyDensity):
    """Rings of equal weight around the origin.

    Args:
        radii: of the rings, increasing, positive.
        noise: standard deviation of the Gaussian noise around a ring, positive.
        sigma: blur already applied on top, 0 or above.

    Example:
        >>> import torch
        >>> Rings().mode_of(torch.tensor([[0.7, 0.0], [0.0, -3.1]]))
        tensor([0, 3])
    """

    radii: Sequence[float] = (0.75, 1.5, 2.25, 3.0)
    noise: float = 0.08
    sigma: float = 0.0

    event_shape = (2,)
    is_smooth = True

    def __post_init__(self) -> None:
        positive(noise=self.noise)
        non_negative(sigma=self.sigma)
        object.__setattr__(self, "radii", tuple(float(radius) for radius in self.radii))
        for radius in self.radii:
            positive(radii=radius)
        if len(self.radii) == 0 or list(self.radii) != sorted(set(self.radii)):
            raise ValueError(f"radii must be increasing, got {self.radii}")

    @property
    def width(self) -> float:
        """s, the standard deviation around a ring, blur included."""
        return math.hypot(self.noise, self.sigma)

    @cached_property
    def bounds(self) -> Tensor:
        reach = self.radii[-1] + REACH * self.width
        return torch.tensor([[-reach, reach]] * 2, dtype=torch.float64)

    @cached_property
    def mode_weights(self) -> Tensor:
        stop = self.radii[-1] + 9 * self.width
        edges = [0.0, *self._cuts, max(stop, 2 * self.radii[-1])]
        weights = []
        for lower, upper in itertools.pairwise(edges):
            radius, weight = panels(lambda r: 1 / self.width + 0 * r, lower, upper)
            ring = weight * 2 * math.pi * radius * self._log_density_at(radius).exp()
            weights.append(ring.sum())
        return torch.stack(weights)

    def sample_clean(self, n: int, generator: torch.Generator) -> Tensor:
        device = generator.device
        radii = torch.tensor(self.radii, device=device)
        which = torch.randint(0, len(radii), (n,), generator=generator, device=device)
        angle = 2 * math.pi * torch.rand(n, generator=generator, device=device)
        ring = radii[which, None] * torch.stack([angle.cos(), angle.sin()], 1)
        return ring + self.noise * torch.randn(n, 2, generator=generator, device=device)

    def log_density(self, x: Tensor) -> Tensor:
        return self._log_density_at((x.square().sum(1) + TINY).sqrt())

    def mode_of(self, x: Tensor) -> Tensor:
        """Number of the nearest ring, from the innermost."""
        cuts = torch.tensor(self._cuts, dtype=x.dtype, device=x.device)
        return torch.searchsorted(cuts, x.square().sum(1).sqrt(), right=True)

    @property
    def _cuts(self) -> list[float]:
        return [(a + b) / 2 for a, b in itertools.pairwise(self.radii)]

    def _log_density_at(self, radius: Tensor) -> Tensor:
        rings = torch.tensor(self.radii, dtype=radius.dtype, device=radius.device)
        variance = self.width**2
        gap, product = radius[:, None] - rings, radius[:, None] * rings / variance
        parts = -gap.square() / (2 * variance) + torch.special.i0e(product).log()
        return parts.logsumexp(1) - math.log(2 * math.pi * variance * len(rings))
