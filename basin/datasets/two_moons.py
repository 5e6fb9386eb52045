"""Two moons: scikit-learn's make_moons, times 2, moved by (-1, -0.2) (FFJORD's), blurred or not.

    X = 2 (cos t, sin t)           + (-1, -0.2) + s Z      upper moon, t uniform in [0, pi]
    X = 2 (1 - cos t, 1/2 - sin t) + (-1, -0.2) + s Z      lower moon
    s^2 = (2 noise)^2 + sigma^2
    p_sigma(x) = 1/2 sum over moons of integral_0^pi N(x; c(t), s^2 I) dt / pi

by quadrature along the arcs (see :mod:`basin.datasets.curve`): relative error below 1e-6
where the density is above e^-40 of its peak, tested by halving the panels. The angle is uniform
and random, not evenly spaced as in scikit-learn.

``mode_of`` names the nearest arc. The density is symmetric about the point (0, 0.3), which swaps
the moons, so both regions have probability exactly 1/2 at any blur.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from basin.core.validation import non_negative, positive
from basin.datasets.curve import gaussian_sum, panels
from basin.datasets.toy_density import ToyDensity

__all__ = ["TwoMoons"]

SCALE = 2.0
CENTRES = ((-1.0, -0.2), (1.0, 0.8))
"""Of the two half circles, of radius 2."""
REACH = 6.5
"""Standard deviations: four tails beyond 6.5 hold 1.6e-10."""


@dataclass(frozen=True, repr=False)
class TwoMoons(ToyDensity):
    """Two interleaved half circles.

    Args:
        noise: scikit-learn's noise, before the doubling (the data have twice as much), positive.
        sigma: blur already applied on top, 0 or above.

    Example:
        >>> import torch
        >>> TwoMoons().mode_of(torch.tensor([[-1.0, 1.8], [1.0, -1.2]]))
        tensor([0, 1])
    """

    noise: float = 0.1
    sigma: float = 0.0

    event_shape = (2,)
    is_smooth = True
    rows_at_once = None

    def __post_init__(self) -> None:
        positive(noise=self.noise)
        non_negative(sigma=self.sigma)

    @property
    def width(self) -> float:
        """s, the standard deviation around an arc, blur included."""
        return math.hypot(SCALE * self.noise, self.sigma)

    @cached_property
    def bounds(self) -> Tensor:
        reach = REACH * self.width
        box = [[-3 - reach, 3 + reach], [-1.2 - reach, 1.8 + reach]]
        return torch.tensor(box, dtype=torch.float64)

    @cached_property
    def mode_weights(self) -> Tensor:
        return torch.full((2,), 1 / 2, dtype=torch.float64)

    def sample_clean(self, n: int, generator: torch.Generator) -> Tensor:
        device = generator.device
        t = math.pi * torch.rand(n, generator=generator, device=device)
        is_lower = torch.randint(0, 2, (n,), generator=generator, device=device).bool()
        arc = _arcs(t)[is_lower.long(), torch.arange(n, device=device)]
        noise = torch.randn(n, 2, generator=generator, device=device)
        return arc + SCALE * self.noise * noise

    def log_density(self, x: Tensor) -> Tensor:
        centres, log_weights = self._nodes
        return gaussian_sum(x, centres, log_weights, self.width)

    def mode_of(self, x: Tensor) -> Tensor:
        """0 where the upper moon's arc is nearest, 1 where the lower one's is."""
        upper, lower = (
            _distance_to_half_circle(x - x.new_tensor(centre), sign)
            for centre, sign in zip(CENTRES, (1.0, -1.0), strict=True)
        )
        return (lower < upper).long()

    @cached_property
    def _nodes(self) -> tuple[Tensor, Tensor]:
        t, weight = panels(lambda t: SCALE / self.width + 0 * t, 0.0, math.pi)
        return _arcs(t).reshape(-1, 2), (weight / (2 * math.pi)).log().repeat(2)


def _arcs(t: Tensor) -> Tensor:
    """Points at ``t`` on the upper and the lower moon, ``[2, n, 2]``."""
    around = SCALE * torch.stack([t.cos(), t.sin()], 1)
    return torch.stack([around + t.new_tensor(CENTRES[0]), t.new_tensor(CENTRES[1]) - around])


def _distance_to_half_circle(x: Tensor, sign: float) -> Tensor:
    """Distance to the half circle of radius 2 around 0 on the side where sign * x2 >= 0."""
    to_arc = (x.square().sum(1).sqrt() - SCALE).abs()
    to_ends = ((x[:, 0].abs() - SCALE).square() + x[:, 1].square()).sqrt()
    return torch.where(sign * x[:, 1] >= 0, to_arc, to_ends)
