"""Tempering: one energy, from hot to its own temperature.

    E_t = E / T(t),      T(t) = ``temperature(t)``, which should end at 1

Source: Kirkpatrick, Gelatt & Vecchi 1983. T above 1 flattens the landscape. Unlike the geometric
path its start has no exact draws, and exp(-E / T) must be integrable. Cost: one energy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from basin.core.types import Energy, Path, Schedule
from basin.core.validation import in_unit_interval, positive
from basin.paths.weighted import WeightedEnergy
from basin.schedules.geometric import Geometric

__all__ = ["Tempered"]


@dataclass(frozen=True, eq=False)
class Tempered(Path):
    """``path(t)`` is ``energy / temperature(t)``.

    >>> import torch
    >>> path = Tempered(lambda x: x.sum(1), Geometric(4.0, 1.0))
    >>> path(0.0)(torch.ones(1, 2)), path(1.0)(torch.ones(1, 2))
    (tensor([0.5000]), tensor([2.]))
    """

    energy: Energy
    temperature: Schedule = field(default=Geometric(10.0, 1.0))

    def __call__(self, t: float, /) -> Energy:
        in_unit_interval(t=t)
        temperature = self.temperature(t)
        positive(temperature=temperature)
        if temperature == 1:
            return self.energy
        return WeightedEnergy((1 / temperature,), (self.energy,))

    def along(self, x: Tensor) -> Callable[[float], Tensor]:
        """The energy once, whatever the number of t."""
        values = self.energy(x)

        def energies(t: float) -> Tensor:
            in_unit_interval(t=t)
            temperature = self.temperature(t)
            positive(temperature=temperature)
            return values / temperature

        return energies
