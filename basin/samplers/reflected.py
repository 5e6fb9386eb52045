"""Reflection: another kernel between walls, for laws on a box or a half line.

    y  a chain of ``kernel`` under E(fold(y)), on all of space
    x = fold(y)                                          fold reflects at ``lower`` and ``upper``

Source: reflected proposals for random walks are folklore; that a kernel need not be a random walk
follows from symmetry. Let R be any of the reflections at a wall, and their products. E(fold(y)) is
the same at y and at R y, so a kernel whose noise is symmetric in each coordinate moves R y as it
moves y, seen in the mirror: fold(y) is then a Markov chain of its own, and if the kernel leaves
the mirrored measure exp(-E(fold(y))) dy alone, fold(y) leaves exp(-E) / Z on the box alone. So it
does for MALA (with one step size or one for each coordinate), Barker and HMC; a metric with
correlations between coordinates breaks the symmetry.

Targets what the kernel targets, on the box: exactly if it has an accept step. An unadjusted kernel
has an error of order sqrt(epsilon) within sqrt(epsilon) of a wall where the density is not flat.
Cost: that of the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from basin.core.types import Energy, Kernel
from basin.core.validation import kernel_object, one_or_each
from basin.energies.composed.folded import Folded

__all__ = ["Reflected", "ReflectedState"]


class ReflectedState(NamedTuple):
    """``position`` between the walls, ``[chains, *event]``; ``inner``, the kernel's, unfolded."""

    position: Tensor
    inner: Any


@dataclass(frozen=True)
class Reflected(Kernel):
    """A kernel whose chains are reflected at walls.

    Its info is that of the kernel inside, which warm-up adapts. ``energies.Folded(energy, lower,
    upper)`` is the same for a kernel alone, with positions that are still to be folded.

    Args:
        kernel: what moves the chains; its noise must be symmetric in each coordinate.
        lower: the wall below, a number or a tuple with one for each coordinate (of an event
            with one dimension); -inf where there is none.
        upper: the wall above, likewise; inf where there is none.

    Raises:
        ValueError: ``lower`` is not below ``upper``, or a chain starts outside.

    Example:
        >>> import torch, basin
        >>> gamma = lambda x: (x - 1.5 * x.log()).sum(1)                # Gamma(2.5) on x > 0
        >>> kernel = Reflected(basin.samplers.MALA(0.5))
        >>> chains = basin.sample(gamma, kernel, torch.ones(2_000, 1), num_steps=50, keep="last")
        >>> bool((chains.last > 0).all()), 2.3 < float(chains.last.mean()) < 2.7
        (True, True)
    """

    is_exact: ClassVar[bool] = True
    is_reversible: ClassVar[bool] = True

    kernel: Kernel
    lower: float | tuple[float, ...] = 0.0
    upper: float | tuple[float, ...] = float("inf")

    def __post_init__(self) -> None:
        kernel_object(kernel=self.kernel)
        object.__setattr__(self, "lower", one_or_each("lower", self.lower))
        object.__setattr__(self, "upper", one_or_each("upper", self.upper))
        Folded(None, self.lower, self.upper)

    def init(self, energy: Energy, x: Tensor, generator: torch.Generator) -> ReflectedState:
        mirrored = Folded(energy, self.lower, self.upper)
        is_outside = ~mirrored.contains(x)
        if bool(is_outside.any()):
            row = int(is_outside.flatten(1).any(dim=1).nonzero()[0, 0])
            raise ValueError(
                f"x0 must lie between lower={self.lower} and upper={self.upper}, got "
                f"{x[row][is_outside[row]][0].item():g} in row {row}"
            )
        return ReflectedState(x, self.kernel.init(mirrored, x, generator))

    def step(
        self, energy: Energy, state: ReflectedState, generator: torch.Generator
    ) -> tuple[ReflectedState, Any]:
        mirrored = Folded(energy, self.lower, self.upper)
        inner, info = self.kernel.step(mirrored, state.inner, generator)
        return ReflectedState(mirrored.fold(inner.position), inner), info
