"""The restricted Boltzmann machine: binary units that only hidden units join.

    E(x) = - b'x - sum_j softplus(c_j + W_j'x)        x in {0, 1}^d
         = - log sum_h exp(b'x + c'h + h'W x)         hidden units h in {0, 1}^m summed out

Source: Smolensky 1986; Hinton 2002; the free energy is Salakhutdinov & Murray 2008, eq. 4.
Cost: one product with an m x d matrix. log Z by enumeration of the smaller side, up to 20 units
of it: the sum over x of one h is a product of d factors, as that over h of one x is of m.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from basin.core.discrete import (
    draw_states,
    energies_of_all_states,
    require_enumerable,
    states,
    uniform_states,
)
from basin.core.references import Reference
from basin.core.room import take_room
from basin.core.validation import positive_integer, seed_number
from basin.energies.networks.layers import as_event_shape, flatten_event

__all__ = ["RestrictedBoltzmannMachine"]

_STATES_AT_ONCE = 2**14


class RestrictedBoltzmannMachine(nn.Module):
    """Binary visible and hidden units, the hidden ones summed out: ``[batch, *event] -> [batch]``.

    Args:
        dim: number of visible units, or the event's shape; events are flattened inside.
        num_hidden: m, number of hidden units.
        seed: of the first weights, N(0, 1/d); both biases start at zero. (Weights near zero make
            all hidden units alike, a saddle that Adam leaves slowly.)

    Attributes:
        weight: W, ``[m, d]``; learned.
        visible_bias: b, ``[d]``; learned.
        hidden_bias: c, ``[m]``; learned.
        num_states: 2.

    Raises:
        ValueError: a parameter out of its range, or rows of another dimension.

    Example:
        >>> import torch
        >>> energy = RestrictedBoltzmannMachine(3, num_hidden=2)
        >>> energy(torch.zeros(1, 3)).item()      # -2 log 2
        -1.3862943649291992
    """

    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "On the quantitative analysis of deep belief networks",
            ("Ruslan Salakhutdinov", "Iain Murray"),
            2008,
            "https://doi.org/10.1145/1390156.1390266",
        ),
    )
    num_states: int = 2

    def __init__(self, dim: int | Sequence[int], num_hidden: int = 64, *, seed: int = 0) -> None:
        super().__init__()
        self.event_shape = as_event_shape("dim", dim)
        self.dim = dim if isinstance(dim, int) else self.event_shape
        positive_integer(num_hidden=num_hidden)
        seed_number(seed=seed)
        self.num_hidden = num_hidden
        self.seed = seed
        size = torch.Size(self.event_shape).numel()
        take_room("dim and num_hidden", num_hidden, size)
        generator = torch.Generator().manual_seed(seed)
        weight = torch.randn(num_hidden, size, generator=generator) / math.sqrt(size)
        self.weight = nn.Parameter(weight)
        self.visible_bias = nn.Parameter(torch.zeros(size))
        self.hidden_bias = nn.Parameter(torch.zeros(num_hidden))

    def forward(self, x: Tensor) -> Tensor:
        """E(x), the free energy, ``[batch]``; defined for real x, of which 0 and 1 are meant."""
        flat = flatten_event(self, x, self.event_shape)
        return _free_energy(flat, self.weight, self.visible_bias, self.hidden_bias)

    @property
    def log_z(self) -> float:
        """log Z, summed over the smaller side; a ``ValueError`` where both have over 20 units."""
        sides = (self.weight, self.visible_bias, self.hidden_bias)
        if self.num_hidden < len(self.visible_bias):
            sides = (self.weight.mT, self.hidden_bias, self.visible_bias)
        weight, outer, inner = (side.detach().double() for side in sides)
        total = require_enumerable(type(self).__name__, len(outer), 2)
        parts = []
        for start in range(0, total, _STATES_AT_ONCE):
            block = states(start, min(start + _STATES_AT_ONCE, total), len(outer), 2)
            energies = _free_energy(block.to(weight), weight, outer, inner)
            parts.append(torch.logsumexp(-energies, 0))
        return float(torch.logsumexp(torch.stack(parts), 0))

    def hidden_probability(self, x: Tensor) -> Tensor:
        """p(h_j = 1 | x), ``[batch, m]``."""
        flat = flatten_event(self, x, self.event_shape)
        return torch.sigmoid(functional.linear(flat, self.weight, self.hidden_bias))

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` exact draws, ``[n, *event]``, by enumeration; up to 20 visible units."""
        energies = energies_of_all_states(self, self.event_shape, 2)
        return draw_states(energies, n, self.event_shape, 2, generator)

    def sample_base(self, n: int, generator: torch.Generator) -> Tensor:
        """Where chains may start: fair coins."""
        return uniform_states(n, self.event_shape, 2, generator)


def _free_energy(x: Tensor, weight: Tensor, outer: Tensor, inner: Tensor) -> Tensor:
    """Of one side, with the other summed out."""
    return -(x @ outer) - functional.softplus(functional.linear(x, weight, inner)).sum(1)
