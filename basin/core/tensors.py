"""Sums over the event dimensions and other one-liners that many files need."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = [
    "event_mean_square",
    "event_sum",
    "expand_like",
    "laid_out",
    "normal_like",
    "num_event_dimensions",
]


def event_sum(x: Tensor) -> Tensor:
    """Sum over all dimensions but the first: ``[batch, *event] -> [batch]``."""
    return x.flatten(1).sum(dim=1) if x.ndim > 1 else x


def event_mean_square(x: Tensor) -> Tensor:
    """Mean of squares over the event: ``[batch, *event] -> [batch]``."""
    return x.flatten(1).square().mean(dim=1)


def num_event_dimensions(x: Tensor) -> int:
    """d, the number of coordinates of one row."""
    return math.prod(x.shape[1:])


def expand_like(value: Tensor, x: Tensor) -> Tensor:
    """View ``value`` ``[batch]`` so that it multiplies the rows of ``x`` ``[batch, *event]``."""
    return value.reshape(-1, *([1] * (x.ndim - 1)))


def normal_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise of the shape, dtype and device of ``x``."""
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)


def laid_out(x: Tensor, strides: tuple[int, ...]) -> Tensor:
    """``x`` where its strides are these, else a copy with them: for kernels that never look."""
    if x.stride() == strides:
        return x
    return torch.empty_strided(x.shape, strides, dtype=x.dtype, device=x.device).copy_(x)
