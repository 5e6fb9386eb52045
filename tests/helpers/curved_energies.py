"""Targets with exact draws that are hard for samplers: funnel, banana, a Gamma on the half line."""

from __future__ import annotations

import math

import torch
from scipy import stats
from torch import Tensor

from helpers.statistics import normal_cdf


class Funnel:
    """v ~ N(0, scale^2), x | v ~ N(0, e^v): Neal's funnel in two dimensions, v first."""

    def __init__(self, scale: float = 1.5) -> None:
        self.scale = scale

    def __call__(self, x: Tensor) -> Tensor:
        v, inner = x[:, 0], x[:, 1]
        return 0.5 * (v / self.scale).square() + 0.5 * v + 0.5 * inner.square() * (-v).exp()

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        z = torch.randn(n, 2, generator=generator)
        v = self.scale * z[:, 0]
        return torch.stack([v, (0.5 * v).exp() * z[:, 1]], dim=1)

    def cdf(self, x):
        """Distribution function of v."""
        return normal_cdf(0.0, self.scale)(x)


class Banana:
    """x_0 ~ N(0, 1), x_1 | x_0 ~ N(bend (x_0^2 - 1), width^2)."""

    def __init__(self, bend: float = 1.0, width: float = 0.5) -> None:
        self.bend, self.width = bend, width

    def __call__(self, x: Tensor) -> Tensor:
        ridge = self.bend * (x[:, 0].square() - 1)
        return 0.5 * x[:, 0].square() + 0.5 * ((x[:, 1] - ridge) / self.width).square()

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        z = torch.randn(n, 2, generator=generator)
        ridge = self.bend * (z[:, 0].square() - 1)
        return torch.stack([z[:, 0], ridge + self.width * z[:, 1]], dim=1)

    def cdf(self, x):
        """Distribution function of the first coordinate."""
        return normal_cdf(0.0, 1.0)(x)


class HalfLineGamma:
    """Gamma(shape, 1) on x > 0 in one dimension: E = x - (shape - 1) log x, NaN for x < 0."""

    def __init__(self, shape: float = 2.5) -> None:
        self.shape = shape

    def __call__(self, x: Tensor) -> Tensor:
        return (x - (self.shape - 1) * x.log()).sum(dim=1)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        uniform = torch.rand(n, 1, generator=generator, dtype=torch.float64)
        return torch.from_numpy(stats.gamma(self.shape).ppf(uniform.numpy())).float()

    def cdf(self, x):
        return stats.gamma(self.shape).cdf(x)

    @property
    def log_z(self) -> float:
        return math.lgamma(self.shape)
