"""Gaussian neighbours of the data, y = x + r z, at scales r from one range.

    log r uniform on [log noise_min, log noise_max], stratified over the batch;  z ~ N(0, I)

The step from x to y is as likely as that from y to x at each scale, and so it is for the mixture
of all scales. Small steps show the local shape of a density; large ones compare parts of it that
lie far apart.

noise_min     a tenth of the standard deviation: shorter steps say the same of a smooth energy with
              more noise, and in many dimensions longer ones alone are told apart too easily
noise_max     diameter / sqrt(2 d): half the diameter in two dimensions, a step that long in any
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from basin.core.noise import log_uniform_stratified
from basin.core.noise_levels import NoiseLevels, noise_levels
from basin.core.validation import positive

__all__ = ["Neighbours", "check_scales", "neighbours_of"]

# A step of four standard deviations happens once in 16,000: a mode farther away is never seen.
_FARTHEST_STEP = 4.0


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

    def blindness(self) -> str:
        """Why the weights of modes farther apart than the steps are not seen; empty when all are.

        In high dimension an isotropic step hits no other mode whatever its length, and the
        diameter in units of the noise, which grows like sqrt(d), says so.
        """
        if self.reaches_across:
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
