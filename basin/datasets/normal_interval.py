"""Gaussian mass of an interval, in logarithms: a box blurred by a Gaussian.

    log [ Phi(upper) - Phi(lower) ],   lower < upper

The plain difference is 0 - 0 in the tails. Here the interval is first reflected so that its middle
is not above 0 (Phi(u) - Phi(l) = Phi(-l) - Phi(-u)), and then

    log Phi(u) + log(1 - exp(log Phi(l) - log Phi(u)))

is accurate to about 1e-13 relative for any distance from 0. Cost: two ``log_ndtr`` an element.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["log_box", "log_normal_interval", "normal_interval_integral"]

SURE = 25.0
"""Phi(25) = 1 to 1e-137: an upper end is not followed beyond, where second derivatives overflow."""


def log_normal_interval(lower: Tensor, upper: Tensor) -> Tensor:
    """log(Phi(upper) - Phi(lower)), elementwise; twice differentiable.

    >>> import torch
    >>> at = torch.tensor([-1.0, 0.0, 39.0], dtype=torch.float64)
    >>> log_normal_interval(at, at + 2).float()
    tensor([-3.8172e-01, -7.3972e-01, -7.6508e+02])
    """
    is_right = lower + upper > 0
    low = torch.where(is_right, -upper, lower)
    high = torch.where(is_right, -lower, upper).clamp(max=SURE)
    log_high = torch.special.log_ndtr(high)
    return log_high + torch.log(-torch.expm1(torch.special.log_ndtr(low) - log_high))


def log_box(x: Tensor, lower: float | Tensor, upper: float | Tensor, sigma: float) -> Tensor:
    """Log density of U + sigma Z, U uniform on [lower, upper]: the box blurred; sigma > 0."""
    width = torch.as_tensor(upper - lower, dtype=x.dtype, device=x.device)
    return log_normal_interval((x - upper) / sigma, (x - lower) / sigma) - width.log()


def normal_interval_integral(x: Tensor) -> Tensor:
    """The antiderivative of Phi that vanishes at minus infinity: x Phi(x) + phi(x)."""
    return x * torch.special.ndtr(x) + torch.exp(-0.5 * x.square()) / (2 * torch.pi) ** 0.5
