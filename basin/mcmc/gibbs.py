"""Gibbs sampling of rows of whole numbers: one coordinate after the other from its conditional.

    x_i ~ p(x_i | rest) = softmax over v of -E(x with x_i = v),      i = 1, ..., d in random order

Source: Geman & Geman 1984, section 10. Each draw leaves p as it is, so a sweep does, whatever the
order. It moves by single coordinates: chains do not cross between groups of rows that no chain of
likely single changes joins. Cost: d K energies a chain and sweep, K rows at a time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from basin.core.discrete import number_of_states, whole_numbers

__all__ = ["gibbs_sweep"]


@torch.no_grad()
def gibbs_sweep(energy: Any, x: Tensor, num_states: int, generator: torch.Generator) -> Tensor:
    """Every coordinate of every chain drawn anew, ``[chains, *event]``.

    Args:
        energy: callable ``[batch, *event] -> [batch]``.
        x: whole numbers from 0 to ``num_states - 1``, ``[chains, *event]``.
        num_states: values of a coordinate.
        generator: source of the order and of the draws.

    Example:
        >>> likes_ones = lambda x: -9.0 * x.sum(1)
        >>> gibbs_sweep(likes_ones, torch.zeros(1, 3), 2, torch.Generator().manual_seed(0))
        tensor([[1., 1., 1.]])
    """
    number_of_states(num_states)
    whole_numbers("x", x, num_states)
    flat = x.flatten(1)
    rows = flat.repeat(num_states, 1, 1)
    values = torch.arange(num_states, dtype=x.dtype, device=x.device)[:, None]
    order = torch.randperm(flat.shape[1], generator=generator, device=x.device)
    for coordinate in order.tolist():
        rows[:, :, coordinate] = values
        energies = energy(rows.view(-1, *x.shape[1:])).view(num_states, len(x))
        law = torch.softmax(-energies.t().double(), dim=1)
        drawn = torch.multinomial(law, 1, generator=generator)
        rows[:, :, coordinate] = drawn.t().to(x.dtype)
    return rows[0].reshape(x.shape)
