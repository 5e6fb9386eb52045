"""A weighted sum of energies, the inner part of geometric and tempered paths."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from basin.core.gradients import score
from basin.core.types import Energy

__all__ = ["WeightedEnergy"]


@dataclass(frozen=True, eq=False)
class WeightedEnergy:
    """``E(x) = sum_i weight_i E_i(x)``; its score uses the parts' closed forms.

    Args:
        weights: one number a part.
        parts: energies on the same space.
    """

    weights: tuple[float, ...]
    parts: tuple[Energy, ...]

    def __call__(self, x: Tensor, /) -> Tensor:
        pairs = zip(self.weights, self.parts, strict=True)
        return torch.stack([weight * part(x) for weight, part in pairs]).sum(dim=0)

    def score(self, x: Tensor) -> Tensor:
        """``sum_i weight_i s_i(x)``, shape of ``x``."""
        keep_graph = torch.is_grad_enabled()
        pairs = zip(self.weights, self.parts, strict=True)
        terms = [weight * score(part, x, create_graph=keep_graph) for weight, part in pairs]
        return torch.stack(terms).sum(dim=0)
