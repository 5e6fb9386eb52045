"""The geometric path between two energies.

    E_t = (1 - t) E_base + t E_target,      p_t  proportional to  p_base^(1-t) p_target^t

Source: Gelman & Meng 1998, section 4.1; Neal 2001, equation 3. Cost: both energies at every point
between the ends, one at the ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from basin.core.types import Energy, Path
from basin.core.validation import batch_of_energies, in_unit_interval
from basin.paths.weighted import WeightedEnergy

__all__ = ["Geometric"]


@dataclass(frozen=True, eq=False)
class Geometric(Path):
    """``path(t)`` is ``(1 - t) base + t target``; the ends are the two energies themselves.

    >>> import torch
    >>> path = Geometric(lambda x: x.sum(1), lambda x: 3 * x.sum(1))
    >>> path(0.5)(torch.ones(1, 2))
    tensor([4.])
    """

    base: Energy
    target: Energy

    def __call__(self, t: float, /) -> Energy:
        in_unit_interval(t=t)
        if t == 0:
            return self.base
        if t == 1:
            return self.target
        return WeightedEnergy((1 - t, t), (self.base, self.target))

    def along(self, x: Tensor) -> Callable[[float], Tensor]:
        """Both ends once, whatever the number of t."""
        base, target = (
            batch_of_energies(energy, x, energy(x)) for energy in (self.base, self.target)
        )

        def energies(t: float) -> Tensor:
            in_unit_interval(t=t)
            if t == 0:
                return base
            return target if t == 1 else (1 - t) * base + t * target

        return energies
