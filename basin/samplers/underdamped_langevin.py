"""Underdamped Langevin: a position that a velocity carries, split as BAOAB.

    dx = v dt,      dv = s(x) dt - gamma v dt + sqrt(2 gamma) dW         gamma = ``friction``

    B   v <- v + h/2 s(x)                                                h = ``step_size``
    A   x <- x + h/2 v
    O   v <- e^(-gamma h) v + sqrt(1 - e^(-2 gamma h)) z,                z ~ N(0, I)
    A   x <- x + h/2 v
    B   v <- v + h/2 s(x)

Source: Leimkuhler & Matthews 2013, "Rational construction of stochastic numerical methods for
molecular sampling": their method BAOAB, here with mass and temperature one. Of the splittings with
one score a step it has the smallest error in the law of x. On a Gaussian of precision lambda that
law is exact, N(0, 1 / lambda), for every friction and every stable step; v has variance
1 - h^2 lambda / 4 instead of 1, independent of x. UBU (Sanz-Serna & Zygalakis 2021) follows single
paths more closely; its law of x has an error of order h^2 already on a Gaussian.

Targets exp(-E) / Z in x with an error of order h^2, none on Gaussians, and no law when
h >= 2 / sqrt(lambda_max), which ``sample`` warns of. With friction to infinity it is
x <- x + h^2/2 s(x) + h/2 (z + z_next): the step of ``Langevin`` with epsilon = h^2 / 2, its noise
shared out between two steps, which is what takes the bias away. Cost: one score a step, kept in the
state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from basin.core.gradients import score
from basin.core.references import Reference
from basin.core.tensors import normal_like
from basin.core.types import Energy, Kernel
from basin.core.validation import positive
from basin.mcmc.finiteness import finite_rows
from basin.mcmc.unadjusted_langevin import UnadjustedInfo

__all__ = ["UnderdampedLangevin", "UnderdampedState"]


class UnderdampedState(NamedTuple):
    """``position``, ``velocity`` and ``score`` ``[chains, *event]``, ``is_finite`` ``[chains]``."""

    position: Tensor
    velocity: Tensor
    score: Tensor
    is_finite: Tensor


@dataclass(frozen=True)
class UnderdampedLangevin(Kernel):
    """Langevin with a velocity, which goes straight where ULA diffuses.

    Each chain has its own velocity, N(0, I) where the chain starts. Where it is drawn anew at every
    step (along a path, and inside ``ParallelTempering``) nothing goes straight any more: the step
    is that of ``Langevin`` with epsilon = h^2 (1 + e^(-gamma h)) / 4, its bias included.

    Args:
        step_size: h, positive, in the units of x (and not squared, as that of ``Langevin``).
        friction: gamma, positive, in one over the units of x: about 1 / sqrt(lambda_min) forgets a
            velocity while it crosses the target once.

    >>> import torch, basin
    >>> gaussian = lambda x: 0.5 * x.square().sum(1)
    >>> kernel = UnderdampedLangevin(step_size=1.0)
    >>> chains = basin.sampling.sample(
    ...     gaussian, kernel, torch.zeros(5_000, 2), num_steps=30, keep="last")
    >>> 0.98 < float(chains.last.std()) < 1.02
    True
    """

    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "Rational construction of stochastic numerical methods for molecular sampling",
            ("Benedict Leimkuhler", "Charles Matthews"),
            2013,
            "https://arxiv.org/abs/1203.5428",
        ),
    )

    step_size: float = 0.1
    friction: float = 1.0

    def __post_init__(self) -> None:
        positive(step_size=self.step_size, friction=self.friction)

    def init(self, energy: Energy, x: Tensor, generator: torch.Generator) -> UnderdampedState:
        velocity = normal_like(x, generator)
        return UnderdampedState(x, velocity, score(energy, x).to(x.dtype), finite_rows(x))

    def step(
        self, energy: Energy, state: UnderdampedState, generator: torch.Generator
    ) -> tuple[UnderdampedState, UnadjustedInfo]:
        half = self.step_size / 2
        kept = math.exp(-self.friction * self.step_size)
        renewed = math.sqrt(-math.expm1(-2 * self.friction * self.step_size))

        v = state.velocity + half * state.score  # B
        x = state.position + half * v  # A
        v = kept * v + renewed * normal_like(v, generator)  # O
        x = x + half * v  # A
        s = score(energy, x).to(x.dtype)
        v = v + half * s  # B

        is_finite = finite_rows(x)
        info = UnadjustedInfo(state.is_finite & ~is_finite)
        return UnderdampedState(x, v, s, is_finite), info

    def oscillating_step_size(self, energy: Energy) -> float:
        """The h that the energy's curvature bounds; ``sample`` asks for it."""
        return self.step_size
