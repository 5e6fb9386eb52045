"""Tests on laws: Kolmogorov-Smirnov p-values, and exact draws and distributions by quadrature.

Every statistical test has one fixed seed and fails below ``THRESHOLD``; its mutant must fall below
it, so that a green test has power and a red one means something.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy import stats
from torch import Tensor

THRESHOLD = 1e-4


def ks_p_value(draws: Tensor, cdf: Callable[[np.ndarray], np.ndarray]) -> float:
    """p-value of independent ``draws`` ``[n]`` under the distribution function ``cdf``."""
    return float(stats.kstest(draws.detach().double().cpu().numpy(), cdf).pvalue)


def two_sample_p_value(first: Tensor, second: Tensor) -> float:
    """p-value of two sets of independent draws ``[n]``, ``[m]`` having one law."""
    samples = (part.detach().double().cpu().numpy() for part in (first, second))
    return float(stats.ks_2samp(*samples).pvalue)


def assert_same_law(draws: Tensor, cdf: Callable[[np.ndarray], np.ndarray]) -> None:
    """Fail below the threshold: the draws are not from this law."""
    p_value = ks_p_value(draws, cdf)
    assert p_value > THRESHOLD, f"KS p-value {p_value:.2g}: the law has moved"


def assert_different_law(draws: Tensor, cdf: Callable[[np.ndarray], np.ndarray]) -> None:
    """Fail above the threshold: the test could not tell the mutant from the real thing."""
    p_value = ks_p_value(draws, cdf)
    assert p_value < THRESHOLD, f"KS p-value {p_value:.2g}: the test has no power here"


def normal_cdf(mean: float, standard_deviation: float) -> Callable[[np.ndarray], np.ndarray]:
    """Distribution function of N(mean, standard_deviation^2)."""
    return stats.norm(mean, standard_deviation).cdf


class GridLaw:
    """The law exp(-E) / Z of a one-dimensional energy, by the trapezoid rule on a fine grid.

    ``cdf`` is its distribution function, ``draw`` inverts it: exact up to the grid, which for a
    smooth energy is far below what 20,000 draws can see.
    """

    def __init__(
        self, energy: Callable[[Tensor], Tensor], low: float, high: float, num_points: int = 20_001
    ) -> None:
        self.points = torch.linspace(low, high, num_points, dtype=torch.float64)
        with torch.no_grad():
            values = energy(self.points.unsqueeze(1))
        weights = (values.min() - values).exp()
        mass = torch.cumulative_trapezoid(weights, self.points)
        self.masses = torch.cat([torch.zeros(1, dtype=torch.float64), mass / mass[-1]])

    def cdf(self, x: np.ndarray) -> np.ndarray:
        return np.interp(x, self.points.numpy(), self.masses.numpy())

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """``[n, 1]`` draws in float64."""
        uniform = torch.rand(n, generator=generator, dtype=torch.float64)
        drawn = np.interp(uniform.numpy(), self.masses.numpy(), self.points.numpy())
        return torch.from_numpy(drawn).unsqueeze(1)
