"""What annealed importance sampling and sequential Monte Carlo share: the stages of a walk.

    0 = t_0 < t_1 < ... < t_K = 1,      at each t_k a kernel that leaves exp(-E_{t_k}) alone,
                                        in coordinates in which E_t is round on average

A schedule is found once, by a run that chooses it from its particles, and can then be kept: a walk
along a fixed schedule has weights of mean Z exactly, forward, and 1/Z, backward.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from basin.core.types import Energy, Kernel, Path
from basin.core.validation import positive_integer
from basin.mcmc.coordinates import Coordinates
from basin.mcmc.exactness import is_exact, is_reversible
from basin.paths.geometric import Geometric
from basin.paths.joined import Joined

__all__ = ["AnnealingSchedule", "Moved", "Stage", "annealed_path", "log_ratio", "move", "start"]


@dataclass(frozen=True, eq=False)
class Stage:
    """Where on the path, and how to move there.

    Args:
        time: t of the path.
        kernel: leaves exp(-E_t) alone.
        coordinates: in which the kernel moves; None for those of x.
    """

    time: float
    kernel: Kernel
    coordinates: Coordinates | None = None


@dataclass(frozen=True, eq=False)
class AnnealingSchedule:
    """The stages of a walk from t = 0 to t = 1, both included.

    Args:
        stages: in ascending order of t.
        num_moves: kernel steps at each stage.
    """

    stages: tuple[Stage, ...]
    num_moves: int = 1

    def __post_init__(self) -> None:
        positive_integer(num_moves=self.num_moves)
        for stage in self.stages:
            require_invariant(stage.kernel)
        times = self.times
        if len(times) < 2 or times[0] != 0 or times[-1] != 1 or bool((np.diff(times) <= 0).any()):
            raise ValueError(f"times must rise from 0 to 1, got {times}")

    @property
    def times(self) -> tuple[float, ...]:
        """t of each stage."""
        return tuple(stage.time for stage in self.stages)

    def with_num_times(self, num_times: int, num_moves: int | None = None) -> AnnealingSchedule:
        """As many steps as wanted, dense where this one is: t is interpolated in its index.

        Each new stage moves as the nearest old one does.

        >>> from basin.samplers import MALA
        >>> short = AnnealingSchedule(tuple(Stage(t, MALA()) for t in (0.0, 0.1, 1.0)))
        >>> short.with_num_times(4).times
        (0.0, 0.05, 0.1, 0.55, 1.0)
        """
        positive_integer(num_times=num_times)
        index = np.linspace(0, len(self.stages) - 1, num_times + 1)
        times = np.interp(index, np.arange(len(self.stages)), self.times)
        stages = [
            replace(self.stages[round(float(i))], time=float(t))
            for i, t in zip(index, times, strict=True)
        ]
        return AnnealingSchedule(tuple(stages), num_moves or self.num_moves)

    @staticmethod
    def even(kernel: Kernel, num_times: int, num_moves: int = 1) -> AnnealingSchedule:
        """t = k / ``num_times``, with one kernel, as it is given."""
        positive_integer(num_times=num_times)
        stages = tuple(Stage(k / num_times, kernel) for k in range(num_times + 1))
        return AnnealingSchedule(stages, num_moves)

    def pairs(self) -> Iterator[tuple[Stage, Stage]]:
        """Neighbouring stages, upwards."""
        return zip(self.stages[:-1], self.stages[1:], strict=True)


class Moved(NamedTuple):
    """Where the chains are, their mean acceptance (None without one), divergent transitions."""

    position: Tensor
    acceptance: float | None
    num_divergent: int


def move(path: Path, stage: Stage, x: Tensor, num_moves: int, generator: torch.Generator) -> Moved:
    """``num_moves`` steps of the stage's kernel from ``x`` ``[chains, *event]``."""
    energy: Any = path(stage.time)
    if stage.coordinates is not None:
        energy, x = stage.coordinates.energy(energy), stage.coordinates.into(x)
    state = stage.kernel.init(energy, x, generator)
    accepted, num_divergent = [], 0
    for _ in range(num_moves):
        state, info = stage.kernel.step(energy, state, generator)
        if hasattr(info, "acceptance_probability"):
            accepted.append(info.acceptance_probability.double().mean())
        num_divergent += int(info.is_divergent.sum())
    moved = state.position
    if stage.coordinates is not None:
        moved = stage.coordinates.back(moved)
    return Moved(moved, float(torch.stack(accepted).mean()) if accepted else None, num_divergent)


def log_ratio(before: Tensor, after: Tensor) -> Tensor:
    """E_before - E_after in float64: the logarithm of a weight; a point without density stays so.

    Raises:
        ValueError: an energy is NaN or minus infinity.
    """
    before, after = before.double(), after.double()
    for values in (before, after):
        bad = torch.isnan(values) | torch.isneginf(values)
        if bool(bad.any()):
            raise ValueError(
                f"energies must be finite or +inf along the path, got {float(values[bad][0])} in "
                f"{int(bad.sum())} of {len(values)} chains"
            )
    return torch.where(torch.isposinf(before), torch.zeros_like(before), before - after)


def annealed_path(energy_or_path: Energy | Path, base: Any) -> Path:
    """The path from a law that can be drawn exactly, whose log Z is known, to the target.

    Args:
        energy_or_path: the target, or a path to it.
        base: energy with ``sample(n, generator)`` and ``log_z``; None when path(0) is one.
    """
    if base is None:
        if not isinstance(energy_or_path, Path):
            raise ValueError(
                "base must be given for an energy: a law near its mass that can be drawn, such as "
                "basin.energies.Gaussian(mean, covariance)"
            )
        base, path = energy_or_path(0.0), energy_or_path
    elif isinstance(energy_or_path, Path):
        path = Joined(Geometric(base, energy_or_path(0.0)), energy_or_path)
    else:
        path = Geometric(base, energy_or_path)
    if not (hasattr(base, "sample") and hasattr(base, "log_z")):
        raise ValueError(
            "base must have sample(n, generator) and log_z, got "
            f"{type(base).__name__}; give base=basin.energies.Gaussian(mean, covariance), or "
            "another law that can be drawn exactly"
        )
    return path


def start(path: Path, n: int, generator: torch.Generator) -> tuple[Tensor, float]:
    """``n`` exact draws of path(0) and its log Z."""
    base: Any = path(0.0)
    return base.sample(n, generator), float(base.log_z)


def require_invariant(kernel: Any) -> None:
    """Refuse kernels whose law at rest is not the energy's: the weights would be wrong."""
    if not (hasattr(kernel, "init") and hasattr(kernel, "step")):
        raise TypeError(f"kernel must have init and step, as basin.samplers.MALA(), got {kernel!r}")
    if not is_exact(kernel):
        raise ValueError(
            f"kernel must leave exp(-E) alone for the weights to be right, got {kernel!r}, which "
            "does not say so (is_exact): a kernel without an accept step has another law at rest; "
            "take MALA"
        )


def require_reversible(kernel: Any) -> None:
    """Refuse kernels whose walk backward is not the reversal of the walk forward."""
    if not is_reversible(kernel):
        raise ValueError(
            f"kernel must be reversible for walks in both directions to be joined, got {kernel!r}, "
            'which does not say so (is_reversible); take MALA, or Gibbs(scan="shuffled")'
        )
