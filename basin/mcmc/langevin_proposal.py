"""The Langevin move, shared by the unadjusted, adjusted and annealed kernels.

    x' = x - epsilon dE/dx + sqrt(2 epsilon) z = x + epsilon s(x) + sqrt(2 epsilon) z

It is the Euler-Maruyama step of dX = -dE/dx dt + sqrt(2) dW, whose law at rest is exp(-E) / Z.
Cost: two passes over x; the score is given.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from basin.core.tensors import event_sum

__all__ = ["langevin_log_ratio", "langevin_proposal"]


def langevin_proposal(x: Tensor, score: Tensor, step_size: float | Tensor, noise: Tensor) -> Tensor:
    """``x + step_size score + sqrt(2 step_size) noise``, shape of ``x``.

    Args:
        x, score, noise: ``[chains, *event]``; noise is standard normal.
        step_size: epsilon, a number or a tensor that broadcasts against ``x``.
    """
    if isinstance(step_size, Tensor):
        return x + step_size * score + (2 * step_size).sqrt() * noise
    return torch.add(x, score, alpha=step_size).add_(noise, alpha=math.sqrt(2 * step_size))


def langevin_log_ratio(
    score: Tensor, proposed_score: Tensor, step_size: float, noise: Tensor
) -> Tensor:
    """``log q(x | x') - log q(x' | x)`` of the move from x to x' made with ``noise``, ``[chains]``.

    q(x' | x) = N(x'; x + epsilon s(x), 2 epsilon I). The way back needs the noise
    z' = -(z + sqrt(epsilon / 2) (s + s')), so the ratio (|z|^2 - |z'|^2) / 2 is

        -sqrt(epsilon / 2) z . (s + s') - (epsilon / 4) |s + s'|^2,

    which never subtracts two large squares.
    """
    total = score + proposed_score
    inner = event_sum(noise * total)
    return -math.sqrt(step_size / 2) * inner - (step_size / 4) * event_sum(total.square())
