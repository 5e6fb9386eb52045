"""The pinwheel (FFJORD's, after Johnson et al. 2016): five bent arms, blurred or not.

    f = (r, q),   r ~ N(1, radial_noise^2),   q ~ N(0, tangential_noise^2),   k uniform
    X = 2 R(-a_k(r)) f + sigma Z,   a_k(r) = 2 pi k / num_arms + rate exp(r)

with R(a) the anticlockwise rotation by a.

**sigma = 0**, by change of variables. With f = rho (cos p, sin p) and x = 2 rho (cos b, sin b),
f is a source of x for some arm when

    F(p) = p - rate exp(rho cos p) = b   modulo 2 pi / num_arms,    |dx/df| = 4 |F'(p)|
    p(x) = 1 / (4 num_arms) sum over roots of N(r; 1, .) N(q; 0, .) / |F'(p)|

F has at most two turning points, found first; each monotone branch holds its roots in order, and
the ones nearest to p = 0, which carry the mass, are found by bisection and Newton. Where F' = 0 (4
standard deviations and more out, total mass near 1e-9) the density is infinite: not smooth.

**sigma > 0**, by quadrature along r. Given r and k the law is Gaussian around 2 R(-a_k(r)) (r, 0)
with variance sigma^2 along the arm's radius and sigma^2 + 4 tangential_noise^2 across it; nodes
follow the arm with a spacing tied to these two (see :mod:`basin.datasets.curve`). r runs over 7
standard deviations: relative error below 1e-6 where the density is above e^-20 of its peak (e^-40
for sigma of 0.1 and more), tested by halving the panels.

``mode_of`` counts arms by the angle of x unwound by rate exp(|x| / 2). Turning by one arm maps the
density onto itself, so each region has probability exactly 1 / num_arms at any blur.

Cost: about 270 + 25 / sigma nodes an arm, of which a few per cent matter in each part of the plane.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from basin.core.validation import non_negative, positive, positive_integer
from basin.datasets.curve import log_sum, panels
from basin.datasets.toy_density import ROWS_AT_ONCE, ToyDensity

__all__ = ["Pinwheel"]

SCALE = 2.0
REACH = 6.5
"""Standard deviations: four tails beyond 6.5 hold 1.6e-10."""
RADIAL_REACH = 7.0
"""Standard deviations of r in the quadrature: 2.6e-12 lies beyond."""
ROOTS = 8
"""Roots taken on each branch; the ninth lies beyond 10 / F'' of the first, 1e-20 of its mass."""
BISECTIONS, NEWTON_STEPS = 30, 3


@dataclass(frozen=True, repr=False)
class Pinwheel(ToyDensity):
    """Bent arms around the origin.

    Args:
        num_arms: 1 or more.
        radial_noise: standard deviation of r, before the doubling, positive.
        tangential_noise: standard deviation of q, before the doubling, positive.
        rate: how much the arms bend, positive.
        sigma: blur already applied, 0 (no score: infinite on thin curves) or above.

    Example:
        >>> Pinwheel().mode_weights
        tensor([0.2000, 0.2000, 0.2000, 0.2000, 0.2000], dtype=torch.float64)
    """

    num_arms: int = 5
    radial_noise: float = 0.3
    tangential_noise: float = 0.1
    rate: float = 0.25
    sigma: float = 0.0

    event_shape = (2,)

    def __post_init__(self) -> None:
        positive_integer(num_arms=self.num_arms)
        positive(
            radial_noise=self.radial_noise, tangential_noise=self.tangential_noise, rate=self.rate
        )
        non_negative(sigma=self.sigma)

    @property
    def is_smooth(self) -> bool:
        return self.sigma > 0

    @property
    def rows_at_once(self) -> int | None:
        return None if self.sigma > 0 else ROWS_AT_ONCE

    @cached_property
    def bounds(self) -> Tensor:
        farthest = math.hypot(1 + REACH * self.radial_noise, REACH * self.tangential_noise)
        reach = SCALE * farthest + REACH * self.sigma
        return torch.tensor([[-reach, reach]] * 2, dtype=torch.float64)

    @cached_property
    def mode_weights(self) -> Tensor:
        return torch.full((self.num_arms,), 1 / self.num_arms, dtype=torch.float64)

    def sample_clean(self, n: int, generator: torch.Generator) -> Tensor:
        device = generator.device
        noise = torch.randn(n, 2, generator=generator, device=device)
        r, q = 1 + self.radial_noise * noise[:, 0], self.tangential_noise * noise[:, 1]
        arm = torch.randint(0, self.num_arms, (n,), generator=generator, device=device)
        angle = 2 * math.pi / self.num_arms * arm + self.rate * r.exp()
        cos, sin = angle.cos(), angle.sin()
        return SCALE * torch.stack([r * cos + q * sin, q * cos - r * sin], 1)

    def log_density(self, x: Tensor) -> Tensor:
        return self._blurred_log_density(x) if self.sigma > 0 else self._clean_log_density(x)

    def mode_of(self, x: Tensor) -> Tensor:
        """Number of the arm, clockwise from the one that starts towards the first axis."""
        radius = x.square().sum(1).sqrt() / SCALE
        unwound = -torch.atan2(x[:, 1], x[:, 0]) - self.rate * radius.exp()
        return (unwound * self.num_arms / (2 * math.pi)).round().long() % self.num_arms

    # sigma > 0: Gaussians along the arms

    def _blurred_log_density(self, x: Tensor) -> Tensor:
        coefficients, peaks = (value.to(x.device) for value in self._gaussians)

        def log_terms(part: Tensor, which: Tensor | slice) -> Tensor:
            centre, along, across, weight = coefficients[:, which].split([2, 2, 2, 1])
            first, second = part[:, None, 0] - centre[0], part[:, None, 1] - centre[1]
            radial = first * along[0] + second * along[1]
            tangential = first * across[0] + second * across[1]
            return weight[0] - radial.square() - tangential.square()

        return log_sum(x, log_terms, peaks, self.sigma)

    @cached_property
    def _gaussians(self) -> tuple[Tensor, Tensor]:
        """Rows: centre, radial axis / (sqrt 2 sd), tangential axis / (sqrt 2 sd), log weight."""
        thick = math.hypot(self.sigma, SCALE * self.tangential_noise)

        def speed(r: Tensor) -> Tensor:
            turning = SCALE * r * self.rate * r.exp() / thick
            return ((SCALE / self.sigma) ** 2 + turning**2 + self.radial_noise**-2).sqrt()

        reach = RADIAL_REACH * self.radial_noise
        r, weight = panels(speed, 1 - reach, 1 + reach)
        log_weight = weight.log() - 0.5 * ((r - 1) / self.radial_noise).square()
        log_weight = log_weight - math.log(
            self.num_arms * (2 * math.pi) ** 1.5 * self.radial_noise * self.sigma * thick
        )
        arms = 2 * math.pi / self.num_arms * torch.arange(self.num_arms, dtype=torch.float64)
        angle = (arms[:, None] + self.rate * r.exp()).flatten()
        radial = torch.stack([angle.cos(), -angle.sin()])
        tangential = torch.stack([angle.sin(), angle.cos()])
        peaks = log_weight.repeat(self.num_arms)
        rows = [
            SCALE * r.repeat(self.num_arms) * radial,
            radial / (2**0.5 * self.sigma),
            tangential / (2**0.5 * thick),
            peaks[None],
        ]
        return torch.cat(rows), peaks

    # sigma = 0: change of variables

    def _clean_log_density(self, x: Tensor) -> Tensor:
        rho = (x.square().sum(1) + 1e-60).sqrt() / SCALE
        direction = torch.atan2(x[:, 1], x[:, 0])
        with torch.no_grad():
            roots, is_root = self._roots(rho, direction)
        height = self._turn(roots, rho[:, None])
        step = 2 * math.pi / self.num_arms
        error = height - direction[:, None]
        error = error - step * (error / step).detach().round()
        slope = self._slope(roots, rho[:, None])
        angle = roots - error / slope.detach()  # carries the gradient; the step itself is nil
        r, q = rho[:, None] * angle.cos(), rho[:, None] * angle.sin()
        log_mass = -0.5 * (
            ((r - 1) / self.radial_noise).square() + (q / self.tangential_noise).square()
        )
        log_mass = log_mass - self._slope(angle, rho[:, None]).abs().log()
        log_mass = torch.where(is_root, log_mass, -math.inf)
        area = SCALE**2 * 2 * math.pi * self.radial_noise * self.tangential_noise
        return log_mass.logsumexp(1) - math.log(self.num_arms * area)

    def _turn(self, angle: Tensor, rho: Tensor) -> Tensor:
        return angle - self.rate * (rho * angle.cos()).exp()

    def _slope(self, angle: Tensor, rho: Tensor) -> Tensor:
        return 1 + self.rate * rho * angle.sin() * (rho * angle.cos()).exp()

    def _roots(self, rho: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
        """Angles p with F(p) = direction modulo one arm, ``[batch, 2 ROOTS]``, and which are real.

        The slope is least at cos p = (sqrt(1 + 4 rho^2) - 1) / (2 rho), sin p < 0. If it is
        negative there, F falls between two turning points around it and rises elsewhere.
        """
        lowest = -torch.acos(2 * rho / (1 + (1 + 4 * rho.square()).sqrt()))
        is_bent = self._slope(lowest, rho) < 0
        start, stop = lowest.new_full(lowest.shape, -math.pi), torch.zeros_like(lowest)
        first = self._bisect(lambda p: -self._slope(p, rho), start, lowest)
        second = self._bisect(lambda p: self._slope(p, rho), lowest, stop)
        first = torch.where(is_bent, first, -math.pi)
        second = torch.where(is_bent, second, -math.pi)
        rising = self._branch(rho, direction, second, first + 2 * math.pi, 1.0)
        falling = self._branch(rho, direction, first, second, -1.0)
        return torch.cat([rising[0], falling[0]], 1), torch.cat(
            [rising[1], falling[1] & is_bent[:, None]], 1
        )

    def _branch(
        self, rho: Tensor, direction: Tensor, start: Tensor, stop: Tensor, sign: float
    ) -> tuple[Tensor, Tensor]:
        """The ROOTS lowest values of F on a branch ``start`` to ``stop``, rising or falling."""
        step, rows = 2 * math.pi / self.num_arms, rho[:, None]
        low, high = (self._turn(end, rho) for end in ((start, stop) if sign > 0 else (stop, start)))
        ahead = (direction - low) / step
        lowest = direction - step * ahead.floor()
        value = lowest[:, None] + step * torch.arange(ROOTS, dtype=rho.dtype, device=rho.device)
        is_root = value < high[:, None]
        left, right = start[:, None].expand_as(value), stop[:, None].expand_as(value)
        root = self._bisect(lambda p: sign * (self._turn(p, rows) - value), left, right)
        for _ in range(NEWTON_STEPS):
            better = root - (self._turn(root, rows) - value) / self._slope(root, rows)
            root = torch.where(better.isfinite(), better.clamp(left, right), root)
        return root, is_root

    @staticmethod
    def _bisect(function: Callable[[Tensor], Tensor], left: Tensor, right: Tensor) -> Tensor:
        """Where a function rises through 0 between ``left`` and ``right``."""
        for _ in range(BISECTIONS):
            middle = (left + right) / 2
            is_below = function(middle) < 0
            left, right = torch.where(is_below, middle, left), torch.where(is_below, right, middle)
        return (left + right) / 2
