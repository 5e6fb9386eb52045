"""Leapfrog steps of Hamiltonian dynamics.

    H(x, q) = E(x) + |q|^2 / 2,       dx/dt = L q,   dq/dt = L' s(x),   s = -dE/dx

    q <- q + (h / 2) L' s(x)
    x <- x + h L q
    q <- q + (h / 2) L' s(x)                                h = ``step_size``

Source: Neal 2011, "MCMC using Hamiltonian dynamics", equations 2.28 to 2.30, in the whitened
momentum q of :mod:`basin.mcmc.metric`. Reversible (n steps, q turned round, n steps lead back),
keeps volume, and the error of H is of order h^2 whatever the number of steps, up to h = 2 over the
largest frequency, where it blows up. Cost: one score a step; the energy is asked for at the end.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from basin.core.gradients import score
from basin.core.tensors import event_sum, expand_like
from basin.core.types import Energy
from basin.mcmc.gradient_state import GradientState, gradient_state
from basin.mcmc.metric import Metric

__all__ = ["LARGEST_ENERGY_ERROR", "PhasePoint", "has_diverged", "hamiltonian", "leapfrog"]

# Stan's bound: the stable integrator errs by a few nats, and exp(-1000) is never accepted.
LARGEST_ENERGY_ERROR = 1000.0


class PhasePoint(NamedTuple):
    """``state`` of the position and whitened ``momentum`` q, ``[chains, *event]``."""

    state: GradientState
    momentum: Tensor


def hamiltonian(point: PhasePoint) -> Tensor:
    """H = E(x) + |q|^2 / 2, ``[chains]``."""
    return point.state.energy + 0.5 * event_sum(point.momentum.square())


def has_diverged(energy_error: Tensor) -> Tensor:
    """Whether the growth of H shows that the integrator has lost the path, ``[chains]``.

    Also where it is not finite: the proposal fell off the support, or the energy overflowed.
    """
    return ~(energy_error.isfinite() & (energy_error <= LARGEST_ENERGY_ERROR))


def leapfrog(
    energy: Energy,
    point: PhasePoint,
    step_size: float | Tensor,
    inverse_mass: Metric,
    num_steps: int = 1,
) -> PhasePoint:
    """The point ``num_steps`` leapfrog steps on; the half steps that meet are taken as one.

    Args:
        energy: callable ``[chains, *event] -> [chains]``.
        point: where to start.
        step_size: h, a number or one for each chain ``[chains]``; negative goes back in time.
        inverse_mass: L of the equations above.
        num_steps: at least one.
    """
    x, s = point.state.position, point.state.score
    h = expand_like(step_size, x) if isinstance(step_size, Tensor) else step_size
    q = point.momentum + 0.5 * h * inverse_mass.pull(s)
    for _ in range(num_steps - 1):
        x = x + h * inverse_mass.spread(q)
        q = q + h * inverse_mass.pull(score(energy, x).to(x.dtype))
    end = gradient_state(energy, x + h * inverse_mass.spread(q))
    return PhasePoint(end, q + 0.5 * h * inverse_mass.pull(end.score))
