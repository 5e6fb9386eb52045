"""A walk down the noise levels: a path and the kernel whose steps fit it.

    sigma_k = sigma_max f^k,      f = (sigma / sigma_max)^(1/n),      k = 1, ..., n

Step k runs on the energy of level k - 1 and ends at level k, so that the path is one factor above
the level that the draws are from. In each step the share r = 1 - f^2 of sigma^2 goes.
"""

from __future__ import annotations

from typing import NamedTuple

from basin.core.types import Kernel, NoisyEnergy
from basin.core.validation import positive, positive_integer
from basin.paths.noised import Noised
from basin.schedules.geometric import Geometric

__all__ = ["Walk", "walk_down"]


class Walk(NamedTuple):
    """A path down the noise levels and the kernel whose steps fit it."""

    path: Noised
    kernel: Kernel


def walk_down(
    noisy_energy: NoisyEnergy, sigma_max: float, sigma: float, num_steps: int
) -> tuple[Noised, float]:
    """The path from ``sigma_max`` to ``sigma`` in ``num_steps`` steps, and the share of a step.

    Raises:
        ValueError: ``sigma`` does not lie below ``sigma_max``.

    >>> class Noisy:
    ...     def at(self, sigma):
    ...         return sigma
    >>> path, share = walk_down(Noisy(), 8.0, 1.0, num_steps=3)
    >>> [round(path(k / 3), 6) for k in (1, 2, 3)], share
    ([8.0, 4.0, 2.0], 0.75)
    """
    positive(sigma_max=sigma_max, sigma=sigma)
    positive_integer(num_steps=num_steps)
    if not sigma < sigma_max:
        raise ValueError(
            f"sigma must lie below sigma_max to walk down to it, got {sigma:.6g} and "
            f"{sigma_max:.6g}; at sigma_max itself the start is the draw"
        )
    factor = (sigma / sigma_max) ** (1 / num_steps)
    return Noised(noisy_energy, Geometric(sigma_max / factor, sigma / factor)), 1 - factor**2
