"""Quadratic energies on Gaussian rows: where every implicit score matching loss is known.

For x ~ N(0, S) and E = x'Px/2:   E_p[ sum (dE)^2 - 2 d2E ] = tr(P S P) - 2 tr P,
with its minimum -tr(S^-1) at P = S^-1, and gradient 2 (P S - I) in P (P symmetric).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

COVARIANCE = torch.tensor([[2.0, 0.6], [0.6, 0.5]], dtype=torch.float64)
PRECISION = torch.tensor([[0.9, 0.1], [0.1, 1.4]], dtype=torch.float64)
OPTIMUM = torch.linalg.inv(COVARIANCE)


class Quadratic(nn.Module):
    """E(x) = x'Px/2, with the symmetric part of P."""

    def __init__(self, precision: Tensor = PRECISION) -> None:
        super().__init__()
        self.precision = nn.Parameter(precision.clone())

    def forward(self, x: Tensor) -> Tensor:
        symmetric = (self.precision + self.precision.T) / 2
        return 0.5 * ((x @ symmetric) * x).sum(1)


def gaussian_rows(n: int, seed: int = 0, covariance: Tensor = COVARIANCE) -> Tensor:
    """``[n, 2]`` draws of N(0, S)."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, len(covariance), generator=generator, dtype=torch.float64)
    return z @ torch.linalg.cholesky(covariance).T


def implicit_loss(precision: Tensor, covariance: Tensor = COVARIANCE) -> Tensor:
    """tr(P S P) - 2 tr P."""
    return torch.trace(precision @ covariance @ precision) - 2 * torch.trace(precision)


def implicit_gradient(precision: Tensor, covariance: Tensor = COVARIANCE) -> Tensor:
    """Its gradient in the entries of P, ``[4]``."""
    leaf = precision.clone().requires_grad_(True)
    value = implicit_loss((leaf + leaf.T) / 2, covariance)
    return torch.autograd.grad(value, leaf)[0].flatten()


def standard_errors(losses: Tensor, truth: Tensor | float) -> float:
    """Distance of the mean of independent losses from the truth, in standard errors."""
    losses = losses.detach()
    return float((losses.mean() - truth).abs() / (losses.std() / len(losses) ** 0.5))


def mean_gradient(
    objective: Any,
    precision: Tensor = PRECISION,
    *,
    num_batches: int = 200,
    batch: int = 64,
    rows: Callable[[int, int], Tensor] = gaussian_rows,
) -> tuple[Tensor, Tensor]:
    """Mean parameter gradient of an objective over fresh batches, and its standard error."""
    generator = torch.Generator().manual_seed(3)
    energy = Quadratic(precision)
    state = objective.init(rows(100, 10_000), generator)
    gradients = []
    for index in range(num_batches):
        loss = objective(energy, rows(batch, index), state, generator)
        gradients.append(torch.autograd.grad(loss.value, energy.precision)[0].flatten())
    values = torch.stack(gradients)
    return values.mean(0), values.std(0) / num_batches**0.5
