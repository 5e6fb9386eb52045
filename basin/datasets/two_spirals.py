"""Two interleaved spirals (the lesson's, FFJORD's), blurred or not.

    X = +-[ (-n cos n, n sin n) + (U, U') / 2 ] / 3 + s Z,   n = 3 pi sqrt(V),   U, U', V uniform
    s^2 = noise^2 + sigma^2
    p_sigma(x) = 1/2 sum over +- of integral_0^3pi b(x1; c1(n)) b(x2; c2(n)) 2 n dn / (3 pi)^2

where b is the uniform law on the 1/6 after the curve, blurred by s: a difference of normal CDFs.
By quadrature along n (see :mod:`basin.datasets.curve`): relative error below 1e-6
where the density is above e^-40 of its peak, tested by halving the panels.

``mode_of`` takes the spiral whose arm (-n cos n, n sin n) / 3 at n = 3 |x| points nearest to the
direction of x. Turning the plane by 180 degrees swaps the spirals, so both regions have
probability exactly 1/2 at any blur.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from basin.core.validation import non_negative, positive
from basin.datasets.curve import log_sum, panels
from basin.datasets.normal_interval import log_box
from basin.datasets.toy_density import ToyDensity

__all__ = ["TwoSpirals"]

STOP = 3 * math.pi
BOX = 1 / 6
"""Side of the square that (U, U') fills after the division by 3."""
NEAR = 1e-6
"""Where a product of CDF differences is above this, the rounding of all (1e-16) does no harm;
elsewhere logarithms are used, at four times the cost."""
REACH = 6.5
"""Standard deviations: four tails beyond 6.5 hold 1.6e-10."""


@dataclass(frozen=True, repr=False)
class TwoSpirals(ToyDensity):
    """Two spirals of one and a half turns each, mirror images through the origin.

    Args:
        noise: standard deviation of the Gaussian noise, positive.
        sigma: blur already applied on top, 0 or above.

    Example:
        >>> TwoSpirals().mode_weights
        tensor([0.5000, 0.5000], dtype=torch.float64)
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
        """s, the standard deviation of the Gaussian part, blur included."""
        return math.hypot(self.noise, self.sigma)

    @cached_property
    def bounds(self) -> Tensor:
        n = torch.linspace(0, STOP, 4001, dtype=torch.float64)
        reach = _spiral(n).abs().amax(0) + BOX + REACH * self.width
        return torch.stack([-reach, reach], 1)

    @cached_property
    def mode_weights(self) -> Tensor:
        return torch.full((2,), 1 / 2, dtype=torch.float64)

    def sample_clean(self, n: int, generator: torch.Generator) -> Tensor:
        device = generator.device
        along = STOP * torch.rand(n, generator=generator, device=device).sqrt()
        box = BOX * torch.rand(n, 2, generator=generator, device=device)
        sign = 2.0 * torch.randint(0, 2, (n, 1), generator=generator, device=device) - 1
        noise = torch.randn(n, 2, generator=generator, device=device)
        return sign * (_spiral(along) + box) + self.noise * noise

    def log_density(self, x: Tensor) -> Tensor:
        middles, log_weights = (value.to(x.device) for value in self._nodes)

        def log_terms(part: Tensor, which: Tensor | slice) -> Tensor:
            first, second = (part[:, None, i] - middles[which, i] for i in (0, 1))
            product = self._box(first) * self._box(second)
            if float(product.detach().amax(1).min()) > NEAR:
                return log_weights[which] + product.clamp(min=1e-300).log() - 2 * math.log(BOX)
            return log_weights[which] + sum(
                log_box(offset, -BOX / 2, BOX / 2, self.width) for offset in (first, second)
            )

        at_middle = log_box(x.new_zeros(1), -BOX / 2, BOX / 2, self.width)
        return log_sum(x, log_terms, log_weights + 2 * at_middle, self.width)

    def mode_of(self, x: Tensor) -> Tensor:
        """0 near the spiral that starts towards the left, 1 near its mirror image."""
        n = 3 * x.square().sum(1).sqrt()
        return (x[:, 1] * n.sin() < x[:, 0] * n.cos()).long()

    def _box(self, offset: Tensor) -> Tensor:
        """Probability within the blurred box; a difference of CDFs, no good in the tails."""
        scale = 1 / (2**0.5 * self.width)
        upper, lower = (offset + BOX / 2) * scale, (offset - BOX / 2) * scale
        return (upper.erf() - lower.erf()) / 2

    @cached_property
    def _nodes(self) -> tuple[Tensor, Tensor]:
        n, weight = panels(lambda n: (1 + n**2).sqrt() / 3 / self.width, 0.0, STOP)
        middle = _spiral(n) + BOX / 2
        return torch.cat([middle, -middle]), (weight * n / STOP**2).log().repeat(2)


def _spiral(n: Tensor) -> Tensor:
    return n[:, None] / 3 * torch.stack([-n.cos(), n.sin()], 1)
