"""Gibbs sampling of rows of whole numbers: one coordinate after the other from its conditional.

    x_i ~ p(x_i | rest) = softmax over v of -E(x with x_i = v)

Source: Geman & Geman 1984, section 10. Each draw leaves p as it is, so a sweep does, whatever the
order. It moves by single coordinates: chains do not cross between groups of rows that no chain of
likely single changes joins.

Cost: d K energies a chain and sweep, K rows at a time. An energy that knows its conditionals in
closed form has a method ``conditional_energies(x, coordinate) -> [batch, K]``, E up to one constant
a row, and is asked for them instead.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from basin.core.conditions import repeated
from basin.core.discrete import number_of_states, whole_numbers
from basin.core.precision import evaluated
from basin.core.validation import batch_of_energies
from basin.mcmc.categorical import categorical_draw

__all__ = ["Sweep", "conditional_log_law", "gibbs_sweep"]


class Sweep(NamedTuple):
    """``position`` ``[chains, *event]`` after a sweep, and whether a conditional was no law.

    ``is_divergent`` ``[chains]``: the energy was not a number on the way; that coordinate stayed.
    """

    position: Tensor
    is_divergent: Tensor


@torch.no_grad()
def gibbs_sweep(
    energy: Any,
    x: Tensor,
    num_states: int,
    generator: torch.Generator,
    order: Tensor | None = None,
) -> Sweep:
    """The coordinates of every chain drawn anew, one after the other.

    Args:
        energy: callable ``[batch, *event] -> [batch]``.
        x: whole numbers from 0 to ``num_states - 1``, ``[chains, *event]``.
        num_states: values of a coordinate.
        generator: source of the draws.
        order: numbers of the coordinates of the flattened event, in the order of their draws,
            the same for all chains; None takes each once, in an order drawn anew.

    Example:
        >>> likes_ones = lambda x: -9.0 * x.sum(1)
        >>> gibbs_sweep(likes_ones, torch.zeros(1, 3), 2, torch.Generator().manual_seed(0)).position
        tensor([[1., 1., 1.]])
    """
    number_of_states(num_states)
    whole_numbers("x", x, num_states)
    x = x.clone(memory_format=torch.contiguous_format)
    flat = x.view(len(x), -1)  # the same numbers
    is_divergent = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    if order is None:
        order = torch.randperm(flat.shape[1], generator=generator, device=x.device)
    for coordinate in order.tolist():
        log_law = conditional_log_law(energy, x, coordinate, num_states)
        drawn = categorical_draw(log_law, generator).to(x.dtype)
        is_no_law = log_law.isnan().any(dim=1)
        flat[:, coordinate] = torch.where(is_no_law, flat[:, coordinate], drawn)
        is_divergent |= is_no_law
    return Sweep(x, is_divergent)


def conditional_log_law(energy: Any, x: Tensor, coordinate: int, num_states: int) -> Tensor:
    """log p(x_i = v | rest of x) for every v, ``[chains, K]`` of float64.

    Args:
        energy: callable ``[batch, *event] -> [batch]``, or one bound to the chains' conditions.
        x: whole numbers, ``[chains, *event]``; the value of the coordinate itself plays no part.
        coordinate: its number i in the flattened event.
        num_states: K.

    Example:
        >>> import torch
        >>> coin = lambda x: -x.sum(1)
        >>> conditional_log_law(coin, torch.zeros(1, 2), 0, 2).exp()       # 1 / (1 + e)
        tensor([[0.2689, 0.7311]], dtype=torch.float64)
    """
    if hasattr(energy, "conditional_energies"):
        energies = energy.conditional_energies(x, coordinate)
    else:
        rows = x.repeat(num_states, *[1] * (x.ndim - 1))
        values = torch.arange(num_states, dtype=x.dtype, device=x.device)
        rows.view(num_states, len(x), -1)[:, :, coordinate] = values[:, None]
        energies = evaluated(repeated(energy, num_states), energy, rows)
        energies = batch_of_energies(energy, rows, energies).view(num_states, len(x)).t()
    return torch.log_softmax(-energies.double(), dim=1)
