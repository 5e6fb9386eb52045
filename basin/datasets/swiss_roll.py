"""The Swiss roll: scikit-learn's, seen from its end, over 5 (FFJORD's), blurred or not.

    X = (t cos t, t sin t) / 5 + s Z,   t uniform in [3 pi / 2, 9 pi / 2]
    s^2 = (noise / 5)^2 + sigma^2
    p_sigma(x) = integral N(x; c(t), s^2 I) dt / (3 pi)

by quadrature along the spiral (see :mod:`basin.datasets.curve`): relative error below 1e-6
where the density is above e^-40 of its peak, tested by halving the panels. There is one mode.
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

__all__ = ["SwissRoll"]

START, STOP, SCALE = 1.5 * math.pi, 4.5 * math.pi, 1 / 5
REACH = 6.5
"""Standard deviations: four tails beyond 6.5 hold 1.6e-10."""


@dataclass(frozen=True, repr=False)
class SwissRoll(ToyDensity):
    """A spiral of one and a half turns, evenly filled in its angle.

    Args:
        noise: scikit-learn's noise, before the division by 5, positive.
        sigma: blur already applied on top, 0 or above.

    Example:
        >>> import torch
        >>> SwissRoll().sample(3, torch.Generator().manual_seed(0)).shape
        torch.Size([3, 2])
    """

    noise: float = 1.0
    sigma: float = 0.0

    event_shape = (2,)
    is_smooth = True
    rows_at_once = None

    def __post_init__(self) -> None:
        positive(noise=self.noise)
        non_negative(sigma=self.sigma)

    @property
    def width(self) -> float:
        """s, the standard deviation around the spiral, blur included."""
        return math.hypot(SCALE * self.noise, self.sigma)

    @cached_property
    def bounds(self) -> Tensor:
        t = torch.linspace(START, STOP, 4001, dtype=torch.float64)
        spiral, reach = _spiral(t), REACH * self.width + 1e-5
        return torch.stack([spiral.amin(0) - reach, spiral.amax(0) + reach], 1)

    @cached_property
    def mode_weights(self) -> Tensor:
        return torch.ones(1, dtype=torch.float64)

    def sample_clean(self, n: int, generator: torch.Generator) -> Tensor:
        device = generator.device
        t = START + (STOP - START) * torch.rand(n, generator=generator, device=device)
        noise = torch.randn(n, 2, generator=generator, device=device)
        return _spiral(t) + SCALE * self.noise * noise

    def log_density(self, x: Tensor) -> Tensor:
        centres, log_weights = self._nodes
        return gaussian_sum(x, centres, log_weights, self.width)

    def mode_of(self, x: Tensor) -> Tensor:
        """Always 0: there is one mode."""
        return torch.zeros(len(x), dtype=torch.int64, device=x.device)

    @cached_property
    def _nodes(self) -> tuple[Tensor, Tensor]:
        t, weight = panels(lambda t: SCALE * (1 + t**2).sqrt() / self.width, START, STOP)
        return _spiral(t), (weight / (STOP - START)).log()


def _spiral(t: Tensor) -> Tensor:
    return SCALE * t[:, None] * torch.stack([t.cos(), t.sin()], 1)
