"""Small densities with everything in closed form, independent of those in basin.datasets."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from basin.core.types import Density


class IsotropicMixture(Density):
    """Σ_k w_k N(mean_k, sd² I) in float64; one component makes it a Gaussian."""

    is_smooth = True

    def __init__(self, means: list[list[float]], weights: list[float], sd: float) -> None:
        self.means = torch.tensor(means, dtype=torch.float64)
        self.mode_weights = torch.tensor(weights, dtype=torch.float64)
        self.sd = sd
        self.event_shape = (self.means.shape[1],)
        low, high = self.means.amin(dim=0), self.means.amax(dim=0)
        self.bounds = torch.stack([low - 8 * sd, high + 8 * sd], dim=1)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        picked = torch.multinomial(self.mode_weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, *self.event_shape, generator=generator, dtype=torch.float64)
        return self.means[picked] + self.sd * noise

    def log_prob(self, x: Tensor) -> Tensor:
        dim = self.means.shape[1]
        squares = (x.double()[:, None] - self.means).square().sum(dim=2)
        constant = 0.5 * dim * math.log(2 * math.pi * self.sd**2)
        return torch.logsumexp(self.mode_weights.log() - squares / (2 * self.sd**2), 1) - constant

    def blurred(self, sigma: float) -> IsotropicMixture:
        sd = math.hypot(self.sd, sigma)
        return IsotropicMixture(self.means.tolist(), self.mode_weights.tolist(), sd)

    def mode_of(self, x: Tensor) -> Tensor:
        return torch.cdist(x.double(), self.means).argmin(dim=1)


def standard_gaussian(dim: int = 2) -> IsotropicMixture:
    """N(0, I)."""
    return IsotropicMixture([[0.0] * dim], [1.0], 1.0)


def two_blobs(weight: float = 0.8) -> IsotropicMixture:
    """Two blobs at distance 8, sd 0.3, as in the issue."""
    return IsotropicMixture([[-4.0, 0.0], [4.0, 0.0]], [weight, 1 - weight], 0.3)
