"""A conditional energy held at one condition: E_c(x) = E(x | c).

Samplers never learn about conditions: they are given this. Cost: that of the inner energy.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from basin.core.conditions import Given

__all__ = ["AtCondition"]


class AtCondition(nn.Module):
    """``energy.given(condition)``: an energy ``[batch, *event] -> [batch]`` from a conditional one.

    Args:
        energy: callable ``(x, condition) -> [batch]``.
        condition: one condition, of the shape of one row's; every row of x gets it.

    The weights are those of ``energy`` itself, not copies.

    Example:
        >>> import torch
        >>> energy = AtCondition(lambda x, c: 0.5 * (x - c).square().sum(1), torch.tensor([2.0]))
        >>> energy(torch.zeros(3, 1))
        tensor([2., 2., 2.])
    """

    condition: Tensor

    def __init__(self, energy: Any, condition: Tensor | float) -> None:
        super().__init__()
        self.energy = energy
        self.register_buffer("condition", torch.as_tensor(condition), persistent=False)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """That of the inner energy."""
        return self.energy.event_shape

    def forward(self, x: Tensor) -> Tensor:
        """E(x | c), ``[batch]``."""
        return self._bound(x)(x)

    def score(self, x: Tensor) -> Tensor:
        """-dE/dx under this condition."""
        return self._bound(x).score(x)

    def _bound(self, x: Tensor) -> Given:
        return Given(self.energy, self.condition.expand(len(x), *self.condition.shape))
