"""Exponential moving average of the weights.

    a <- a + (1 - d_t)(w - a)        d_t = min(decay, (1 + t) / (10 + t))

The rising decay lets the average forget the first steps (the rule of TensorFlow's
ExponentialMovingAverage with num_updates). Buffers are constants and are not averaged.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

__all__ = ["WeightAverage"]


class WeightAverage:
    """The averaged copy of a module, ``average.module``; ``update`` after each step."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.module = copy.deepcopy(module).requires_grad_(False)
        self._average: list[Tensor] = list(self.module.parameters())
        self._source: list[Tensor] = [p.detach() for p in module.parameters()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the weights after step ``step`` (from 0)."""
        torch._foreach_lerp_(self._average, self._source, self.pace(step))  # pyright: ignore[reportPrivateImportUsage]

    def pace(self, step: int) -> float:
        """``1 - d_t`` at step ``step``."""
        return 1 - min(self.decay, (1 + step) / (10 + step))
