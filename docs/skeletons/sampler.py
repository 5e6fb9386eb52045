"""My sampler.

    x <- ...                             the update, in the symbols of DESIGN.md

Source: authors and year, algorithm number; what other papers write (epsilon or epsilon / 2).
Targets: exp(-E) / Z exactly, or its own law at rest, in closed form on a Gaussian.
Cost: gradients of the energy for each step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from basin.core.gradients import score
from basin.core.tensors import normal_like
from basin.core.types import Energy, Kernel
from basin.core.validation import positive

__all__ = ["MyInfo", "MySampler", "MyState"]


class MyState(NamedTuple):
    """All that the next step needs."""

    position: Tensor


class MyInfo(NamedTuple):
    """What a reader of the chain wants, ``[chains]`` each."""

    is_divergent: Tensor


@dataclass(frozen=True)
class MySampler(Kernel):
    """One sentence that the shell shows beside the name.

    Args:
        step_size: epsilon, positive, in squared units of x.
    """

    is_exact: ClassVar[bool] = False  # True where exp(-E) / Z is its law at every step_size
    is_reversible: ClassVar[bool] = False

    step_size: float = 0.01

    def __post_init__(self) -> None:
        positive(step_size=self.step_size)

    def init(self, energy: Energy, x: Tensor, generator: torch.Generator) -> MyState:
        del energy, generator
        return MyState(x)

    def step(
        self, energy: Energy, state: MyState, generator: torch.Generator
    ) -> tuple[MyState, MyInfo]:
        noise = normal_like(state.position, generator)
        drift = self.step_size * score(energy, state.position)
        position = state.position + drift + math.sqrt(2 * self.step_size) * noise
        return MyState(position), MyInfo(~torch.isfinite(position).flatten(1).all(dim=1))
