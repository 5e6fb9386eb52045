"""A density at another temperature.

    E_T(x) = E(x) / T,      s_T(x) = s(x) / T,      p_T(x) proportional to p(x)^(1/T)

T > 1 flattens the landscape, T < 1 sharpens it. Cost: that of the energy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from basin.core.validation import positive
from basin.energies.composed.members import member_energy, member_score

__all__ = ["Tempered"]


class Tempered(nn.Module):
    """``energy / temperature``: ``[batch, *event] -> [batch]``.

    Args:
        energy: any energy.
        temperature: T, positive, without units (Boltzmann's constant is 1).

    Example:
        >>> import torch
        >>> Tempered(lambda x: x.square().sum(1), temperature=4.0)(torch.ones(1, 2))
        tensor([0.5000])
    """

    def __init__(self, energy: Any, temperature: float) -> None:
        super().__init__()
        positive(temperature=temperature)
        self.energy = energy
        self.temperature = temperature

    @property
    def event_shape(self) -> tuple[int, ...]:
        """That of the energy."""
        return self.energy.event_shape

    def forward(self, x: Tensor) -> Tensor:
        """E(x) / T, ``[batch]``."""
        return member_energy(self.energy, x) / self.temperature

    def score(self, x: Tensor) -> Tensor:
        """s(x) / T, shape of ``x``."""
        return member_score(self.energy, x) / self.temperature

    @property
    def of_one_hot(self) -> Callable[[Tensor], Tensor]:
        """E / T of one-hot rows, for an energy of categories that offers it."""
        of_one_hot = self.energy.of_one_hot
        return lambda rows: of_one_hot(rows) / self.temperature

    @property
    def conditional_energies(self) -> Callable[[Tensor, int], Tensor]:
        """E / T for each value of a coordinate, for an energy that offers them."""
        conditional_energies = self.energy.conditional_energies
        return lambda x, coordinate: conditional_energies(x, coordinate) / self.temperature

    def sample_base(self, n: int, generator: torch.Generator) -> Tensor:
        """Where chains may start: the energy's own base law, at temperature 1."""
        if not hasattr(self.energy, "sample_base"):
            raise ValueError(
                f"{type(self.energy).__name__} has no base law to start chains from; "
                "give the starting points x0"
            )
        return self.energy.sample_base(n, generator)

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        return f"temperature={self.temperature}"
