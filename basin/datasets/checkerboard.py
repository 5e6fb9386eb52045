"""The checkerboard: uniform on 8 squares of side 2 in [-4, 4]^2, blurred or not.

    p(x) = 1/32 on the black squares
    p_sigma(x) = 1/8 sum_(i, j black) b_i(x1) b_j(x2),
    b_i(t) = (Phi((t - l_i) / sigma) - Phi((t - l_i - 2) / sigma)) / 2,   l_i = -4, -2, 0, 2

exact, and taken in logarithms so that the tails do not underflow. Square (column i, row j) is
black when i + j is even. (The lesson draws x1 = 2 t, x2 = 2 (v - 2 b + floor(t) mod 2) with
t = 4 u - 2, u and v uniform, b a fair coin.)

The regions of ``mode_of``: the plane is cut into the four columns by x1, and each column halfway
between its two black squares by x2. These are rectangles, so their probabilities are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from basin.core.validation import non_negative
from basin.datasets.normal_interval import log_box, normal_interval_integral
from basin.datasets.toy_density import ToyDensity

__all__ = ["Checkerboard"]

EDGES = (-4.0, -2.0, 0.0, 2.0)
SIDE = 2.0
BLACK = tuple((i, j) for i in range(4) for j in range(4) if (i + j) % 2 == 0)
REACH = 6.5
"""Standard deviations: four tails beyond 6.5 hold 1.6e-10."""


@dataclass(frozen=True, repr=False)
class Checkerboard(ToyDensity):
    """Eight black squares of a 4 x 4 board.

    Args:
        sigma: blur already applied, 0 (sharp edges, no score) or above.

    Example:
        >>> import torch
        >>> x = torch.tensor([[-3.0, -3.0], [-1.0, -3.0]])
        >>> Checkerboard().log_prob(x)
        tensor([-3.4657,    -inf])
        >>> Checkerboard().blurred(0.1).score(torch.tensor([[-2.0, -3.0]]))[:, 0]
        tensor([-7.9788])
    """

    sigma: float = 0.0

    event_shape = (2,)

    def __post_init__(self) -> None:
        non_negative(sigma=self.sigma)

    @property
    def is_smooth(self) -> bool:
        return self.sigma > 0

    @cached_property
    def bounds(self) -> Tensor:
        reach = 4 + REACH * self.sigma
        return torch.tensor([[-reach, reach]] * 2, dtype=torch.float64)

    @cached_property
    def mode_weights(self) -> Tensor:
        infinity = float("inf")
        weights = []
        for column, row in BLACK:
            left = -infinity if column == 0 else EDGES[column]
            right = infinity if column == 3 else EDGES[column] + SIDE
            middle = -1.0 if column % 2 == 0 else 1.0
            lower, upper = (-infinity, middle) if row < 2 else (middle, infinity)
            weights.append(
                sum(self._mass(i, left, right) * self._mass(j, lower, upper) for i, j in BLACK) / 8
            )
        return torch.tensor(weights, dtype=torch.float64)

    def sample_clean(self, n: int, generator: torch.Generator) -> Tensor:
        device = generator.device
        uniform = torch.rand(n, 2, generator=generator, device=device)
        column = torch.randint(0, 4, (n,), generator=generator, device=device)
        row = 2 * torch.randint(0, 2, (n,), generator=generator, device=device) + column % 2
        return torch.stack([column, row], 1) * SIDE + EDGES[0] + SIDE * uniform

    def log_density(self, x: Tensor) -> Tensor:
        if self.sigma == 0:
            squares = torch.tensor(BLACK, dtype=x.dtype, device=x.device) * SIDE + EDGES[0]
            offset = x[:, None] - squares
            is_inside = ((offset >= 0) & (offset <= SIDE)).all(2).any(1)
            return torch.where(is_inside, x.new_tensor(1 / 32), x.new_tensor(0.0)).log()
        boxes = torch.stack([log_box(x, edge, edge + SIDE, self.sigma) for edge in EDGES], 2)
        even, odd = boxes[:, :, 0::2].logsumexp(2), boxes[:, :, 1::2].logsumexp(2)
        pairs = torch.stack([even.sum(1), odd.sum(1)], 1)
        return pairs.logsumexp(1) - torch.tensor(8.0, dtype=x.dtype, device=x.device).log()

    def mode_of(self, x: Tensor) -> Tensor:
        """Number of the black square, column by column from the left, upwards within each."""
        column = ((x[:, 0] - EDGES[0]) / SIDE).floor().clamp(0, 3).long()
        middle = torch.where(column % 2 == 0, -1.0, 1.0)
        return 2 * column + (x[:, 1] >= middle).long()

    def _mass(self, i: int, lower: float, upper: float) -> float:
        """Probability that the blurred box i falls in [lower, upper]."""
        ends = torch.tensor([lower, upper], dtype=torch.float64)
        if self.sigma == 0:
            inside = ((ends - EDGES[i]) / SIDE).clamp(0, 1)
        else:
            ends = ends.clamp(-1e3 * (1 + self.sigma), 1e3 * (1 + self.sigma))
            start, stop = (ends - EDGES[i]) / self.sigma, (ends - EDGES[i] - SIDE) / self.sigma
            inside = normal_interval_integral(start) - normal_interval_integral(stop)
            inside = inside * self.sigma / SIDE
        return float(inside[1] - inside[0])
