"""Score matching of Gaussians in closed form, for every estimator of the same criterion.

For x ~ N(0, S) and E = x'Px/2:  J(P) = E[ |Px|^2 - 2 tr P ] = tr(PSP) - 2 tr P, least at P = S^-1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

COVARIANCE = torch.tensor([[2.0, 0.6], [0.6, 0.5]], dtype=torch.float64)
PRECISION = torch.tensor([[1.0, 0.2], [0.2, 2.0]], dtype=torch.float64)
STANDARD_ERRORS = 3.9  # a two-sided p-value of 1e-4


class Quadratic(nn.Module):
    """E(x) = x'Px/2."""

    def __init__(self, precision: Tensor) -> None:
        super().__init__()
        self.precision = nn.Parameter(precision.clone())

    def forward(self, x: Tensor) -> Tensor:
        symmetric = (self.precision + self.precision.T) / 2
        return 0.5 * ((x @ symmetric) * x).sum(1)


class Quartic(nn.Module):
    """E(x) = a sum x_i^4 / 4 + b x_1^2 x_2^2 / 2: curvature that changes and couples."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.25 * x.pow(4).sum(1) + 0.3 * (x[:, 0] * x[:, 1]).square()


def gaussian_rows(n: int, seed: int = 10_007) -> Tensor:
    """``n`` draws of N(0, S)."""
    z = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return z @ torch.linalg.cholesky(COVARIANCE).T


def closed_form(precision: Tensor) -> Tensor:
    """J(P)."""
    return torch.trace(precision @ COVARIANCE @ precision) - 2 * torch.trace(precision)


def standard_errors_off(values: Tensor, truth: Tensor | float) -> float:
    """Distance of a mean of independent values from the truth, in standard errors."""
    values, truth = values.detach(), torch.as_tensor(truth).detach()
    return float((values.mean() - truth).abs() / (values.std() / len(values) ** 0.5))


def gradient_off(loss: Callable[[nn.Module, Tensor, torch.Generator], Tensor]) -> float:
    """How far the gradient at P = S^-1 is from zero: the largest entry, in standard errors."""
    energy = Quadratic(torch.linalg.inv(COVARIANCE))
    generator = torch.Generator().manual_seed(3)
    found = []
    for rows in gaussian_rows(120_000, seed=2).split(1000):
        value = loss(energy, rows, generator).mean()
        found.append(torch.autograd.grad(value, energy.precision)[0])
    gradients = torch.stack(found)
    error = gradients.std(0) / len(gradients) ** 0.5
    return float((gradients.mean(0).abs() / error).max())
