"""log Z of an energy of whole numbers, by summing over every row there is.

    Z = sum over x in {0, ..., K-1}^d of exp(-E(x))
      = sum over h in {0, 1}^m of exp(-E(h)),      E(h) = - log sum over x of exp(-E(x, h))

The second line is for energies with m hidden units that know E(h) in closed form, as a restricted
Boltzmann machine does: it offers ``energies_of_smaller_side()``, and then the smaller of d and m
counts, however many units the other side has.

Exact to rounding. Cost: K^d or 2^m energies, at most about a million (20 binary coordinates).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from basin.core.discrete import energies_of_all_states, is_enumerable
from basin.partition.log_z import LogZ

__all__ = ["can_enumerate", "enumeration"]

_ROUNDING = {torch.float32: 1e-6, torch.float64: 1e-12}
"""Relative to the size of the energies: what each precision leaves of them."""


def enumeration(
    energy: Any,
    *,
    event_shape: Sequence[int] | None = None,
    num_states: int | None = None,
) -> LogZ:
    """log Z of ``energy`` over all rows of whole numbers from 0 to ``num_states - 1``.

    Args:
        energy: ``[batch, *event] -> [batch]`` in nats.
        event_shape: shape of one row; None takes ``energy.event_shape``.
        num_states: values of a coordinate; None takes ``energy.num_states``.

    Raises:
        ValueError: no shape or number of states to be found, or more than 2^20 states.

    Example:
        >>> print(enumeration(lambda x: -x.sum(1), event_shape=(2,), num_states=2))
        log Z = 2.6265 (sum over 4 states, exact to 2e-06)
    """
    name = type(energy).__name__
    for what, value in (("event_shape", event_shape), ("num_states", num_states)):
        if value is None and not hasattr(energy, what):
            raise ValueError(f"{what} must be given, as {name} does not say it")
    shape = tuple(energy.event_shape if event_shape is None else event_shape)
    count = energy.num_states if num_states is None else num_states
    has_sides = hasattr(energy, "energies_of_smaller_side")
    if has_sides:
        energies, rounding = energy.energies_of_smaller_side(), _ROUNDING[torch.float64]
    else:
        energies = energies_of_all_states(energy, shape, count)
        rounding = _ROUNDING[torch.float32]
    log_z = float(torch.logsumexp(-energies, 0))
    error = rounding * max(1.0, float(energies.abs().max()))
    is_of_hidden = has_sides and energy.smaller_side < math.prod(shape)
    method = f"sum over {len(energies):,} {'hidden ' if is_of_hidden else ''}states"
    return LogZ(log_z, 0.0, log_z - error, log_z + error, None, method, "exact")


def can_enumerate(energy: Any, event_shape: Sequence[int], num_states: int) -> bool:
    """Whether :func:`enumeration` has at most 2^20 states to sum over.

    >>> import basin
    >>> can_enumerate(basin.energies.RestrictedBoltzmannMachine(784, 20), (784,), 2)
    True
    """
    if hasattr(energy, "energies_of_smaller_side"):
        return is_enumerable(energy.smaller_side, 2)
    return is_enumerable(math.prod(event_shape), num_states)
