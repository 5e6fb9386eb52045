"""My objective.

    J = E_p [ ... ]                      the equation, in the symbols of DESIGN.md

Source: authors and year, "title", equation number; what differs here (a factor, a sign).
Targets: which density the minimiser is about (p, or p blurred by N(0, sigma^2 I)).
Cost: gradients of the energy for each row; whether it samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from basin.core.gradients import score
from basin.core.references import Reference
from basin.core.tensors import event_sum, normal_like
from basin.core.types import Loss, Objective
from basin.core.validation import positive

__all__ = ["MyObjective", "my_objective"]


def my_objective(energy: Any, x: Tensor, *, sigma: float, generator: torch.Generator) -> Tensor:
    """Loss of each row, ``[batch]``: a pure function for anyone's own loop.

    Args:
        energy: callable ``[batch, *event] -> [batch]``.
        x: data, ``[batch, *event]``.
        sigma: noise standard deviation in the units of x, positive.
        generator: source of the noise.
    """
    positive(sigma=sigma)
    z = normal_like(x, generator)
    return event_sum((score(energy, x + sigma * z, create_graph=True) + z / sigma).square())


@dataclass(frozen=True)
class MyObjective(Objective):
    """One sentence that the shell shows beside the name.

    Args:
        sigma: noise standard deviation in the model's coordinates.
    """

    uses_score: ClassVar[bool] = True
    needs_noise_level: ClassVar[bool] = False
    normalises: ClassVar[bool] = False
    references: ClassVar[tuple[Reference, ...]] = ()

    sigma: float = 0.1

    def __post_init__(self) -> None:
        positive(sigma=self.sigma)

    def init(self, x: Tensor, generator: torch.Generator) -> None:
        """No state: nothing has to be remembered from step to step."""
        del x, generator

    def __call__(self, energy: Any, x: Tensor, state: None, generator: torch.Generator) -> Loss:
        value = my_objective(energy, x, sigma=self.sigma, generator=generator).mean()
        trivial = torch.as_tensor(x[0].numel() / self.sigma**2)
        return Loss(value, {"space": value.detach(), "trivial": trivial}, state)

    def noise_level(self, state: None) -> float:
        return self.sigma

    def blindness(self, state: None) -> str:
        return "why the weights of far modes cannot be seen, or nothing where they can"
