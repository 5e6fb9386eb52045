"""Tiny energies with a known law, so that samplers are tested without basin.energies."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from basin.core.gradients import score


class DiagonalGaussian:
    """E = sum_i precision_i (x_i - mean_i)^2 / 2."""

    def __init__(self, precision: list[float], mean: list[float] | None = None) -> None:
        self.precision = torch.tensor(precision, dtype=torch.float64)
        self.mean = torch.tensor(mean or [0.0] * len(precision), dtype=torch.float64)

    def __call__(self, x: Tensor) -> Tensor:
        return 0.5 * (self.precision.to(x) * (x - self.mean.to(x)).square()).sum(dim=1)

    def sample_base(self, n: int, generator: torch.Generator) -> Tensor:
        noise = torch.randn(n, len(self.mean), generator=generator)
        return (self.mean + noise / self.precision.sqrt()).float()


class AsymmetricMixture:
    """0.3 N(-2, 0.5^2) + 0.7 N(1, 1) along the first coordinate, N(0, 2^2) along the second."""

    weights = (0.3, 0.7)
    means = (-2.0, 1.0)
    standard_deviations = (0.5, 1.0)

    def __call__(self, x: Tensor) -> Tensor:
        parts = [
            math.log(weight / scale) - 0.5 * ((x[:, 0] - mean) / scale).square()
            for weight, mean, scale in zip(
                self.weights, self.means, self.standard_deviations, strict=True
            )
        ]
        return x[:, 1].square() / 8 - torch.logsumexp(torch.stack(parts), dim=0)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        second = (torch.rand(n, generator=generator) < self.weights[1]).long()
        noise = torch.randn(n, 2, generator=generator)
        mean = torch.tensor(self.means)[second]
        scale = torch.tensor(self.standard_deviations)[second]
        return torch.stack([mean + scale * noise[:, 0], 2 * noise[:, 1]], dim=1)

    def cdf(self, x: np.ndarray) -> np.ndarray:
        """Distribution function of the first coordinate."""
        parts = zip(self.weights, self.means, self.standard_deviations, strict=True)
        return np.sum([w * stats.norm(m, s).cdf(x) for w, m, s in parts], axis=0)


def log_gamma_energy(x: Tensor) -> Tensor:
    """E = exp(x) - 2 x, the law of the logarithm of a Gamma(2) variable: skewed, one steep side."""
    return (x.exp() - 2 * x).sum(dim=1)


def quartic_energy(x: Tensor) -> Tensor:
    """E = (x^2 - 1)^2 + x / 2: two wells of unequal depth."""
    return ((x.square() - 1).square() + 0.5 * x).sum(dim=1)


class NoisyGaussian(nn.Module):
    """N(mean, scale^2 I) blurred by N(0, sigma^2 I), the mean a parameter; has at(sigma)."""

    def __init__(self, dim: int = 2, mean: float = 0.0, scale: float = 1.0) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.full((dim,), mean))
        self.scale = scale

    def forward(self, x: Tensor, sigma: float) -> Tensor:
        variance = self.scale**2 + sigma**2
        return 0.5 * (x - self.mean.to(x)).square().sum(dim=1) / variance

    def at(self, sigma: float) -> GaussianAtNoiseLevel:
        return GaussianAtNoiseLevel(self, sigma)


class GaussianAtNoiseLevel(nn.Module):
    """``NoisyGaussian`` at one ``sigma``."""

    def __init__(self, energy: NoisyGaussian, sigma: float) -> None:
        super().__init__()
        self.energy = energy
        self.sigma = sigma

    def forward(self, x: Tensor) -> Tensor:
        return self.energy(x, self.sigma)

    def at(self, sigma: float) -> GaussianAtNoiseLevel:
        return self.energy.at(sigma)

    def stochastic_score(self, x: Tensor, batch_size: int, generator: torch.Generator) -> Tensor:
        """The score and noise of variance 1 / ``batch_size``."""
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        return score(self, x) + noise / math.sqrt(batch_size)

    def sample_base(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.randn(n, len(self.energy.mean), generator=generator)
