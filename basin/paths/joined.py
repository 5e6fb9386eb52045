"""Two paths, one after the other.

    E_t = first(t / at)  up to t = at,      second((t - at) / (1 - at))  from there on

The usual first part leads from a law that can be drawn exactly to the start of the second, which
cannot: ``Joined(Geometric(gaussian, noisy.at(sigma_max)), Noised(noisy, levels))``. Where the two
do not meet the path jumps at t = at, and whoever walks it pays with the variance of the weights.
Cost: that of the parts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from basin.core.types import Energy, Path
from basin.core.validation import in_unit_interval, positive

__all__ = ["Joined"]


@dataclass(frozen=True, eq=False)
class Joined(Path):
    """``first`` for t up to ``at``, then ``second``.

    Args:
        first: from 0 to its own 1, which should be where ``second`` starts.
        second: from 0 to 1, the target.
        at: share of t that the first part takes, in (0, 1). No matter to a walk that chooses its
            own steps.

    >>> import torch
    >>> from basin.paths.geometric import Geometric
    >>> a, b, c = (lambda x, k=k: k * x.sum(1) for k in (1, 3, 5))
    >>> path = Joined(Geometric(a, b), Geometric(b, c), at=0.5)
    >>> path(0.25)(torch.ones(1, 1)), path(0.75)(torch.ones(1, 1))
    (tensor([2.]), tensor([4.]))
    """

    first: Path
    second: Path
    at: float = 0.1

    def __post_init__(self) -> None:
        positive(at=self.at)
        in_unit_interval(at=self.at)
        if self.at == 1:
            raise ValueError("at must lie below 1, got 1: the second path would have no room")

    def __call__(self, t: float, /) -> Energy:
        in_unit_interval(t=t)
        return self.first(self._in_first(t)) if t <= self.at else self.second(self._in_second(t))

    def along(self, x: Tensor) -> Callable[[float], Tensor]:
        """Each part's own way, asked for when it is reached."""
        parts: dict[str, Callable[[float], Tensor]] = {}

        def energies(t: float) -> Tensor:
            in_unit_interval(t=t)
            name = "first" if t <= self.at else "second"
            if name not in parts:
                parts[name] = (self.first if name == "first" else self.second).along(x)
            inner = self._in_first(t) if name == "first" else self._in_second(t)
            return parts[name](inner)

        return energies

    def _in_first(self, t: float) -> float:
        return min(1.0, t / self.at)

    def _in_second(self, t: float) -> float:
        return 1.0 if t == 1 else min(1.0, max(0.0, (t - self.at) / (1 - self.at)))
