"""The Metropolis-Hastings accept step, for many chains at once.

    accept x' with probability min(1, exp(log_acceptance)),
    log_acceptance = E(x) - E(x') + log q(x | x') - log q(x' | x)

Source: Hastings 1970, equation 8. A proposal whose log acceptance is not finite (energy or score
overflowed, or left the support) is rejected *and* reported as divergent: a reader of the run must
see it. Cost: one uniform number a chain.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from basin.core.tensors import expand_like

__all__ = ["Acceptance", "metropolis", "select"]


class Acceptance(NamedTuple):
    """What the accept step decided, each ``[chains]``."""

    is_accepted: Tensor
    acceptance_probability: Tensor
    is_divergent: Tensor


def metropolis(log_acceptance: Tensor, generator: torch.Generator) -> Acceptance:
    """Accept or reject, given log acceptance ratios ``[chains]``.

    >>> import torch
    >>> ratios = torch.tensor([0.3, float("nan"), -float("inf")])
    >>> metropolis(ratios, torch.Generator().manual_seed(0)).is_accepted
    tensor([ True, False, False])
    """
    is_divergent = ~torch.isfinite(log_acceptance)
    probability = log_acceptance.clamp(max=0.0).masked_fill(is_divergent, -math.inf).exp()
    uniform = torch.rand(
        probability.shape, generator=generator, dtype=probability.dtype, device=probability.device
    )
    return Acceptance(uniform < probability, probability, is_divergent)


def select(is_accepted: Tensor, accepted: Tensor, rejected: Tensor) -> Tensor:
    """Rows of ``accepted`` where ``is_accepted`` ``[chains]``, rows of ``rejected`` elsewhere."""
    return torch.where(expand_like(is_accepted, accepted), accepted, rejected)
