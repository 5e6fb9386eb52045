"""Stein variational gradient descent (SVGD): particles that climb the score and repel each other.

    x_i <- x_i + epsilon / n sum_j [ k(x_j, x_i) s(x_j) + d k(x_j, x_i) / d x_j ]
    k(x, y) = exp(-||x - y||^2 / (2 h^2)),    h = ``bandwidth``, or median distance / sqrt(2 log n)

Source: Liu & Wang 2016, algorithm 1, and their median heuristic, with their h twice the square of
this one and a plain step in place of AdaGrad. The chains of a run are the particles: each sees
all the others, and no random number is drawn.

Targets exp(-E) / Z as n grows, in the sense of the kernel Stein discrepancy. Not for a fixed n: the
particles come to rest, narrower than the target in high dimensions, and one alone stops at a mode.
Weights of far modes stay those of the start. Cost: one score a particle and n^2 kernels a step,
memory n^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from basin.core.gradients import score
from basin.core.kernels import gaussian_kernel, squared_distances
from basin.core.references import Reference
from basin.core.types import Energy, Kernel
from basin.core.validation import positive
from basin.mcmc.finiteness import finite_rows
from basin.mcmc.unadjusted_langevin import UnadjustedInfo, UnadjustedState, unadjusted_init

__all__ = ["SteinVariational", "stein_direction"]


@dataclass(frozen=True)
class SteinVariational(Kernel):
    """SVGD on all chains together: particles that settle on the target, with no noise.

    Draws of one step depend on each other, and so do those of one chain: R-hat, effective sample
    sizes and tests for independent draws do not apply.

    Args:
        step_size: epsilon, positive, in squared units of x.
        bandwidth: h, positive, in the units of x; None for the median heuristic at every step.

    Raises:
        ValueError: in a step by the median heuristic, where half of all pairs are equal.

    Example:
        >>> import torch, basin
        >>> gaussian = lambda x: 0.5 * x.square().sum(1)
        >>> start = torch.linspace(2.0, 3.0, 50).unsqueeze(1)
        >>> kernel = SteinVariational(0.5)
        >>> chains = basin.sample(gaussian, kernel, start, num_steps=300, keep="last")
        >>> abs(float(chains.last.mean())) < 0.1, 0.85 < float(chains.last.std()) < 1.05
        (True, True)
    """

    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "Stein variational gradient descent: a general purpose Bayesian inference algorithm",
            ("Qiang Liu", "Dilin Wang"),
            2016,
            "https://arxiv.org/abs/1608.04471",
        ),
    )
    is_random: ClassVar[bool] = False
    mixes_chains: ClassVar[bool] = True

    step_size: float = 0.1
    bandwidth: float | None = None

    def __post_init__(self) -> None:
        positive(step_size=self.step_size)
        if self.bandwidth is not None:
            positive(bandwidth=self.bandwidth)

    def init(self, energy: Energy, x: Tensor, generator: torch.Generator) -> UnadjustedState:
        return unadjusted_init(x)

    def step(
        self, energy: Energy, state: UnadjustedState, generator: torch.Generator
    ) -> tuple[UnadjustedState, UnadjustedInfo]:
        x = state.position.flatten(1)
        scores = score(energy, state.position).flatten(1)
        bandwidth = _median_bandwidth(x) if self.bandwidth is None else self.bandwidth
        moved = x + self.step_size * stein_direction(x, scores, bandwidth)
        is_finite = finite_rows(moved)
        info = UnadjustedInfo(state.is_finite & ~is_finite)
        return UnadjustedState(moved.view_as(state.position), is_finite), info


def stein_direction(x: Tensor, scores: Tensor, bandwidth: float) -> Tensor:
    """``1/n sum_j [k(x_j, x_i) s(x_j) + d k(x_j, x_i) / d x_j]``, ``[n, d]``; rows are particles.

    With k = phi(r2) the second term is 2 phi' (x_j - x_i).

    Args:
        x: particles, ``[n, d]``.
        scores: s at them, ``[n, d]``.
        bandwidth: h; infinity takes k = 1.
    """
    centred = x - x.mean(dim=0)
    phi = gaussian_kernel(squared_distances(centred, centred), bandwidth)
    apart = phi.slope @ centred - phi.slope.sum(dim=1, keepdim=True) * centred
    return (phi.value @ scores + 2 * apart) / len(x)


def _median_bandwidth(x: Tensor) -> float:
    """h with h^2 = median distance^2 / (2 log n), so that sum_j k(x_j, x_i) is about 1."""
    if len(x) == 1:
        return math.inf
    median = float(torch.pdist(x).median())
    if median == 0:
        raise ValueError(
            "x0 must have particles that differ, got half of all pairs equal: equal particles "
            "move alike for ever; spread them, or give a bandwidth"
        )
    return median / math.sqrt(2 * math.log(len(x)))
