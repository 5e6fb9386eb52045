"""log Z by importance sampling with a Gaussian proposal q = N(mean, covariance).

    Ẑ = (1/n) Σ_i w_i,   w_i = exp(-E(x_i)) / q(x_i),   x_i ~ q

Source: Owen, Monte Carlo theory, methods and examples, ch. 9. Ẑ is unbiased, so log Ẑ is low in
expectation, by about half its squared standard error. It is right when q covers the mass of
exp(-E) with tails at least as heavy. Where it covers less of it the interval reaches farther up, by
the tail that the weights show (:mod:`basin.partition.weights`), and when a few weights carry the
sum the estimate is refused.
Cost: ``num_samples`` energies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from basin.core.validation import positive, positive_integer
from basin.partition.blocks import energies_in_blocks
from basin.partition.log_z import LogZ
from basin.partition.weights import log_z_of_weights

__all__ = ["gaussian_reference"]


def gaussian_reference(
    energy: Any,
    mean: Tensor | Sequence[float],
    covariance_or_scale: Tensor | Sequence[Any] | float,
    *,
    num_samples: int = 10_000,
    generator: torch.Generator,
    minimum_effective_sample_size: float = 100.0,
    block: int = 8192,
) -> LogZ:
    """log Z of ``energy`` in any dimension, from draws of a Gaussian that covers its mass.

    Args:
        energy: ``[batch, *event] -> [batch]`` in nats.
        mean: ``[*event]``, centre of the proposal.
        covariance_or_scale: a standard deviation (a number), one a coordinate (``[*event]``), or a
            covariance ``[d, d]`` of the flattened event. Take it a little wide: 1.2 times the
            standard deviation of the data costs little and protects the tails.
        num_samples: draws from the proposal.
        generator: source of the draws.
        minimum_effective_sample_size: fewer than this many effective draws are refused.
        block: energies evaluated at a time.

    Returns:
        A :class:`LogZ` of kind ``"interval"`` (95%) with the effective sample size.

    Raises:
        ValueError: a covariance that is not positive definite, or of a wrong shape.
        LogZNotEstimated: the effective sample size collapsed; the message says what to try.

    Example:
        >>> import torch
        >>> g = torch.Generator().manual_seed(0)
        >>> found = gaussian_reference(
        ...     lambda x: 0.5 * x.square().sum(1), torch.zeros(5), 1.2, generator=g)
        >>> abs(found.log_z - 2.5 * torch.log(torch.tensor(2 * torch.pi)).item()) < 0.03
        True
    """
    positive_integer(num_samples=num_samples, block=block)
    positive(minimum_effective_sample_size=minimum_effective_sample_size)
    centre = torch.as_tensor(mean, dtype=torch.float64).cpu()
    factor = _cholesky_factor(covariance_or_scale, centre)
    dim = centre.numel()
    noise = torch.randn(
        num_samples, dim, generator=generator, dtype=torch.float64, device=generator.device
    ).cpu()
    log_proposal = (
        -0.5 * noise.square().sum(dim=1)
        - 0.5 * dim * math.log(2 * math.pi)
        - float(factor.diagonal().log().sum())
    )
    points = (centre.flatten() + noise @ factor.T).reshape(num_samples, *centre.shape)
    log_weights = -energies_in_blocks(energy, points, block=block) - log_proposal
    return log_z_of_weights(
        log_weights,
        method="importance sampling from a Gaussian",
        raise_what="num_samples, move or widen the Gaussian, or use a method that goes in steps "
        "(heat_residual, annealed importance sampling)",
        minimum_effective_sample_size=minimum_effective_sample_size,
    )


def _cholesky_factor(covariance_or_scale: Tensor | Sequence[Any] | float, mean: Tensor) -> Tensor:
    """Lower triangular L with covariance L Lᵀ, ``[d, d]`` of float64."""
    value = torch.as_tensor(covariance_or_scale, dtype=torch.float64).cpu()
    dim = mean.numel()
    if value.ndim == 0 or (value.shape == mean.shape and value.shape != (dim, dim)):
        scale = value.expand(mean.shape).flatten()
        if not bool(((scale > 0) & torch.isfinite(scale)).all()):
            raise ValueError(f"covariance_or_scale must be positive, got {value.tolist()}")
        return torch.diag(scale)
    if value.shape != (dim, dim):
        raise ValueError(
            f"covariance_or_scale must be a number, of shape {tuple(mean.shape)} or of shape "
            f"({dim}, {dim}), got {tuple(value.shape)}"
        )
    factor, failed = torch.linalg.cholesky_ex(value)
    if int(failed) or not bool(torch.isfinite(factor).all()):
        raise ValueError("covariance_or_scale must be positive definite, got one that is not")
    return factor
