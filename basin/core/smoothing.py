"""Noise added to rows that have no density of their own, for losses that integrate by parts.

    y = x + sigma z        sigma = 0 leaves the rows as they are

Implicit score matching replaces E_p[grad log p . s] by -E_p[div s], which holds where p has a
density without jumps. Rows on a grid (whole numbers, rounded or constant columns) have none: the
loss then falls without end as the energy digs a pit around each value.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from basin.core.noise_levels import noise_levels
from basin.core.tensors import normal_like
from basin.core.validation import non_negative

__all__ = ["Smoothing", "repeats_values", "smoothed", "smoothing", "smoothing_level"]

# As many are looked at as for the distances that a level is chosen from.
_NUM_ROWS = 2048
# Draws with replacement from more rows than are drawn leave at least 1 - 1/e of them distinct.
_DISTINCT_ROWS = 0.5
# float32 numbers of a continuous law hardly ever meet; rounded ones do all the time.
_DISTINCT_VALUES = 0.9


class Smoothing(NamedTuple):
    """The level in use, zero for none, and why; empty when it was given."""

    sigma: float
    why: str

    @property
    def level(self) -> float | None:
        """As ``Objective.noise_level`` wants it: None for the rows as they are."""
        return self.sigma or None


def smoothing_level(sigma: float | str) -> None:
    """Raise ``ValueError`` unless ``sigma`` is zero, positive or "auto"."""
    if isinstance(sigma, str):
        if sigma != "auto":
            raise ValueError(f'sigma must be zero, positive or "auto", got {sigma!r}')
    else:
        non_negative(sigma=sigma)


def smoothing(sigma: float | Literal["auto"], x: Tensor) -> Smoothing:
    """The level for rows like ``x``: as given, or with "auto" what they need.

    "auto" is zero for rows of a continuous law; where values repeat, the median distance to the
    nearest neighbour over sqrt(d), as denoising score matching would choose.

    Example:
        >>> smoothing("auto", torch.randn(50, 2, generator=torch.Generator().manual_seed(0))).sigma
        0.0
    """
    if not isinstance(sigma, str):
        return Smoothing(float(sigma), "")
    if not repeats_values(x):
        return Smoothing(0.0, "rows are taken as they are (sigma 0): no column repeats its values")
    chosen = noise_levels(x).single_sigma
    return Smoothing(
        chosen,
        f"rows are blurred by sigma {chosen:.4g} (nearest neighbours), as columns repeat their "
        "values: such rows have no density without it",
    )


def smoothed(x: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """``x + sigma z``; ``x`` itself, and nothing drawn, where sigma is zero."""
    return x + sigma * normal_like(x, generator) if sigma else x


def repeats_values(x: Tensor) -> bool:
    """Whether some coordinate repeats its values more than numbers of a continuous law would.

    Whole rows that come twice (a table drawn with replacement) are counted once first.
    """
    x = x[:_NUM_ROWS].detach().flatten(1)
    rows = torch.unique(x, dim=0)
    if len(rows) < _DISTINCT_ROWS * len(x):
        return True
    enough = _DISTINCT_VALUES * len(rows)
    return any(len(torch.unique(column)) < enough for column in rows.unbind(1))
