"""Neighbours of the data, y = x + s: steps s at scales from one range, and leaps.

    step    s = r z,        log r uniform on [log noise_min, log noise_max], stratified; z ~ N(0, I)
    leap    s = x_j - x_k   the difference of two other rows of the batch

The step from x to y is as likely as that from y to x at each scale, and so it is for the mixture
of all scales. Small steps show the local shape of a density; large ones compare parts of it that
lie far apart, but hardly ever land in another mode. A leap does, as in differential evolution
Markov chains (ter Braak 2006): with independent rows its law is that of a difference, symmetric and
independent of x.

    noise_min     a tenth of the standard deviation: shorter steps say the same of a smooth energy
                  with more noise, and in many dimensions longer ones are too easily told apart
    noise_max     diameter / sqrt(2 d): half the diameter in two dimensions, as long a step in any
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from basin.core.noise import log_uniform_stratified
from basin.core.noise_levels import NoiseLevels, noise_levels
from basin.core.validation import positive

__all__ = ["LEAPS", "Neighbours", "check_scales", "neighbours_of", "with_leaps"]

LEAPS = 0.25
"""Share of rows that leap, where nothing else is said: the others see the local shape."""

# A step of four standard deviations happens once in 16,000: a mode farther away is never seen.
_FARTHEST_STEP = 4.0
# A leap from a Gaussian mode to a like one lands at 3 times its covariance: about 3^(-d/2) of them
# among the likely points, one in eighty here.
_LEAP_DIMENSIONS = 8


class Neighbours(NamedTuple):
    """The range of noise scales in use, and the distances that it was chosen from."""

    noise_min: float
    noise_max: float
    levels: NoiseLevels

    def scales(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """One scale for each row of ``x``, ``[batch]``."""
        if self.noise_min == self.noise_max:
            return torch.full((len(x),), self.noise_min, dtype=x.dtype, device=x.device)
        return log_uniform_stratified(self.noise_min, self.noise_max, len(x), generator).to(x.dtype)

    @property
    def reaches_across(self) -> bool:
        """Whether the longest steps cross the whole of the data."""
        return _FARTHEST_STEP * self.noise_max >= self.levels.diameter

    def blindness(self, leaps: float) -> str:
        """Why the weights of modes farther apart than the steps are not seen; empty when all are.

        In high dimension an isotropic step hits no other mode whatever its length, and the
        diameter in units of the noise, which grows like sqrt(d), says so; nor does a leap.

        Args:
            leaps: the share of rows that leap.
        """
        if self.reaches_across or (leaps > 0 and self.levels.dimension <= _LEAP_DIMENSIONS):
            return ""
        return (
            f"rows are compared with neighbours at most {self.noise_max:.3g} away (standard "
            f"deviation per coordinate), and the data reach over {self.levels.diameter:.3g}: no "
            "comparison joins modes farther apart than about four of these steps, so their "
            "weights are not seen"
        )

    def table(self) -> str:
        """The distances and what was chosen from them, one a line."""
        lines = self.levels.table().splitlines()[:5]
        return "\n".join(
            [
                *lines,
                f"  noise scales                            "
                f"{self.noise_min:.4g} ... {self.noise_max:.4g}",
            ]
        )


def neighbours_of(x: Tensor, noise_min: float | None, noise_max: float | None) -> Neighbours:
    """The range given, its missing ends read off ``x``; refused unless min <= max.

    One end given beyond the other's default moves the default to it.
    """
    levels = noise_levels(x)
    lower, upper = noise_min, noise_max
    if lower is None:
        lower = levels.standard_deviation / 10
        lower = lower if upper is None else min(lower, upper)
    if upper is None:
        upper = max(lower, levels.diameter / (2 * levels.dimension) ** 0.5)
    return Neighbours(lower, upper, levels)


def with_leaps(step: Tensor, x: Tensor, leaps: float, generator: torch.Generator) -> Tensor:
    """``step`` with the difference of two other rows in its place for a share of the rows.

    Args:
        step: ``[copies * batch, *event]``, the copies one after the other.
        x: independent rows, ``[batch, *event]``.
        leaps: the share of rows, evenly spread over the batch, all copies of them; from 0 to 1.
            None leaps in a batch that has no two others for every copy.
        generator: chooses the two others of each copy.

    Example:
        >>> x = torch.tensor([[1.0], [10.0], [100.0], [1000.0]])
        >>> generator = torch.Generator().manual_seed(0)
        >>> with_leaps(torch.zeros(4, 1), x, 0.5, generator).flatten()
        tensor([  0.,  99.,   0., -99.])
    """
    n, copies = len(x), len(step) // len(x)
    if not leaps or n <= 2 * copies:
        return step
    row = torch.arange(n, device=x.device, dtype=torch.float64)
    is_leap = torch.floor((row + 1) * leaps) > torch.floor(row * leaps)
    # Different shifts, none of them zero: the copies of a row and the row itself share no row.
    shifts = 1 + torch.randperm(n - 1, generator=generator, device=generator.device)[: 2 * copies]
    pairs = shifts.reshape(copies, 2).tolist()
    apart = torch.cat([x.roll(first, 0) - x.roll(second, 0) for first, second in pairs])
    return torch.where(is_leap.repeat(copies).reshape(-1, *[1] * (x.ndim - 1)), apart, step)


def check_scales(**ends: float | None) -> None:
    """Raise ``ValueError`` unless the ends given, the lower one first, are positive and in order.

    >>> check_scales(noise_min=2.0, noise_max=1.0)
    Traceback (most recent call last):
    ValueError: noise_min must be at most noise_max, got 2.0 and 1.0
    """
    given = {name: value for name, value in ends.items() if value is not None}
    positive(**given)
    if len(given) == 2:
        (lower, low), (upper, high) = given.items()
        if low > high:
            raise ValueError(f"{lower} must be at most {upper}, got {low} and {high}")
