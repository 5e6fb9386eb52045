"""An energy on a box or half line, continued to all of space by reflection at the walls.

    E(x) between the walls becomes E(fold(y)) everywhere,       s(y) = slope(y) s(fold(y))

    fold(y)    y, brought back by whole periods 2 (upper - lower) where there are two walls, then
               max(y, 2 lower - y) and min(y, 2 upper - y)
    slope(y)   d fold / dy, +1 or -1

Every point between the walls has mirror images of the same energy. A chain that runs out is a
chain inside that is reflected at the walls; a kernel that treats y and its mirror image alike (any
whose noise is symmetric in each coordinate) keeps exp(-E) / Z between the walls exactly if it keeps
exp(-E(fold(y))). E is never asked for a value outside. Cost: that of the energy.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from basin.core.gradients import score
from basin.energies.composed.members import member_energy

__all__ = ["Folded"]


class _Walls(NamedTuple):
    """``lower`` and ``upper``, and the zigzag between two walls: where it starts, its period."""

    lower: Tensor
    upper: Tensor
    start: Tensor
    period: Tensor
    frequency: Tensor


class Folded(nn.Module):
    """``energy`` between walls, as an energy on all of space: ``[batch, *event] -> [batch]``.

    A chain under it wanders outside the walls: ``fold`` brings its draws back, and only folded
    draws have a law. ``samplers.Reflected`` does both; take this one where warm-up should adapt
    the kernel.

    Args:
        energy: any energy, asked for values between the walls only.
        lower, upper: walls, a number or one for each coordinate; None where there is none.

    Raises:
        ValueError: ``lower`` is not below ``upper``.

    Example:
        >>> import torch, basin
        >>> exponential = Folded(lambda x: x.sum(1), lower=0.0)         # on x > 0
        >>> start = torch.ones(500, 1)
        >>> chains = basin.sample(
        ...     exponential, basin.samplers.MALA(), start, num_steps=50, num_warmup=100)
        >>> inside = exponential.fold(chains.positions)
        >>> bool((inside >= 0).all()), 0.9 < float(inside.mean()) < 1.1
        (True, True)
    """

    walls: Tensor

    def __init__(self, energy: Any, lower: Any = 0.0, upper: Any = None) -> None:
        super().__init__()
        self.energy = energy
        self.register_buffer("walls", torch.stack(_walls(lower, upper)))

    @property
    def lower(self) -> Any:
        """As it was given: a number, a list or None."""
        return _as_given(self.walls[0])

    @property
    def upper(self) -> Any:
        """As it was given: a number, a list or None."""
        return _as_given(self.walls[1])

    @property
    def event_shape(self) -> tuple[int, ...]:
        """That of the energy."""
        return self.energy.event_shape

    def fold(self, x: Tensor) -> Tensor:
        """Where each point is between the walls, shape of ``x`` ``[..., *event]``."""
        return self._folded(x)[0]

    def contains(self, x: Tensor) -> Tensor:
        """Whether each coordinate is between its walls, or on one; shape of ``x``."""
        walls = _Walls(*self.walls.to(x))
        return (walls.lower <= x) & (x <= walls.upper)

    def forward(self, x: Tensor) -> Tensor:
        """E at the folded points, ``[batch]``."""
        return member_energy(self.energy, self.fold(x))

    def score(self, x: Tensor) -> Tensor:
        """The score at the folded point, turned round where the fold turns; shape of ``x``."""
        position, once = self._folded(x)
        inner = score(self.energy, position, create_graph=torch.is_grad_enabled())
        return torch.where(self.contains(once), inner, -inner)

    def _folded(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The folded points, and where they were before the last reflection."""
        walls = _Walls(*self.walls.to(x))
        once = x - walls.period * ((x - walls.start) * walls.frequency).floor()
        position = torch.minimum(once, 2 * walls.upper - once)
        position = torch.maximum(position, 2 * walls.lower - position)
        return position.clamp(walls.lower, walls.upper), once  # rounding may end beyond a wall


def _walls(lower: Any, upper: Any) -> _Walls:
    """In float64 and of one shape, or a ``ValueError``; without two walls the period is zero."""
    low, high = _numbers(lower, -torch.inf), _numbers(upper, torch.inf)
    if low.ndim and high.ndim and low.shape != high.shape:
        raise ValueError(
            f"lower and upper must be numbers or of one shape, got {tuple(low.shape)} and "
            f"{tuple(high.shape)}"
        )
    if not bool((low < high).all()):
        raise ValueError(f"lower must lie below upper, got lower={lower!r} and upper={upper!r}")
    low, high = torch.broadcast_tensors(low, high)
    has_both = low.isfinite() & high.isfinite()
    start = torch.where(has_both, low, 0.0)
    period = torch.where(has_both, 2 * (high - low), 0.0)
    frequency = torch.where(has_both, 1 / period, 0.0)
    return _Walls(low, high, start, period, frequency)


def _numbers(wall: Any, nowhere: float) -> Tensor:
    """A wall as float64, ``nowhere`` where it is None."""
    if isinstance(wall, Tensor):
        return wall.to(torch.float64)
    given = [nowhere if w is None else w for w in (wall if hasattr(wall, "__len__") else [wall])]
    numbers = torch.tensor(given, dtype=torch.float64)
    return numbers if hasattr(wall, "__len__") else numbers[0]


def _as_given(wall: Tensor) -> Any:
    """A row of walls as JSON has it, which knows no infinity."""
    given = [float(w) if bool(w.isfinite()) else None for w in wall.reshape(-1)]
    return given if wall.ndim else given[0]
