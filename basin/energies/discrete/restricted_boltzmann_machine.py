"""The restricted Boltzmann machine: binary units that only hidden units join.

    E(x) = - b'x - sum_j softplus(c_j + W_j'x)        x in {0, 1}^d
         = - log sum_h exp(b'x + c'h + h'W x)         hidden units h in {0, 1}^m summed out

Source: Smolensky 1986; Hinton 2002; the free energy is Salakhutdinov & Murray 2008, eq. 4.
Cost: one product with an m x d matrix. log Z and exact draws by enumeration of the smaller side, up
to 20 units of it: the sum over x of one h is a product of d factors, as that over h of one x is of
m, so that 20 hidden units are summed over whatever the number of visible ones is.
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
        return float(torch.logsumexp(-self.energies_of_smaller_side(), 0))

    @property
    def smaller_side(self) -> int:
        """How many units the smaller side has: with up to 20 of them, sums over it are exact."""
        return min(self.num_hidden, len(self.visible_bias))

    def energies_of_smaller_side(self) -> Tensor:
        """E of every state of the side with fewer units, the other one summed out, ``[2^units]``.

        In float64 on the CPU, in the order of :func:`basin.core.states`; of the visible units
        where both sides have as many. Their exp(-E) sum to Z, whichever side it is.

        Raises:
            ValueError: both sides have over 20 units.
        """
        weight, outer, inner = self._sides()
        total = require_enumerable(type(self).__name__, len(outer), 2)
        parts = []
        for start in range(0, total, _STATES_AT_ONCE):
            block = states(start, min(start + _STATES_AT_ONCE, total), len(outer), 2)
            parts.append(_free_energy(block.to(weight), weight, outer, inner).cpu())
        return torch.cat(parts)

    def hidden_probability(self, x: Tensor) -> Tensor:
        """p(h_j = 1 | x), ``[batch, m]``."""
        flat = flatten_event(self, x, self.event_shape)
        return torch.sigmoid(functional.linear(flat, self.weight, self.hidden_bias))

    def visible_probability(self, hidden: Tensor) -> Tensor:
        """p(x_i = 1 | h) for hidden units ``[batch, m]``, ``[batch, *event]``."""
        activation = functional.linear(hidden, self.weight.mT, self.visible_bias)
        return torch.sigmoid(activation).reshape(len(hidden), *self.event_shape)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` exact draws, ``[n, *event]``, where either side has up to 20 units.

        The smaller side by enumeration; where that is the hidden one, the visible units given it.
        """
        energies = self.energies_of_smaller_side()
        drawn = draw_states(energies, n, (self.smaller_side,), 2, generator)
        if not self._sums_hidden():
            return drawn.reshape(n, *self.event_shape)
        probability = self.visible_probability(drawn.to(self.weight))
        uniform = torch.rand(probability.shape, generator=generator, device=generator.device)
        return (uniform.to(probability.device) < probability).to(drawn)

    def sample_base(self, n: int, generator: torch.Generator) -> Tensor:
        """Where chains may start: fair coins."""
        return uniform_states(n, self.event_shape, 2, generator)

    def _sums_hidden(self) -> bool:
        return self.num_hidden < len(self.visible_bias)

    def _sides(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weight, bias of the smaller side, bias of the other one, in float64."""
        sides = (self.weight, self.visible_bias, self.hidden_bias)
        if self._sums_hidden():
            sides = (self.weight.mT, self.hidden_bias, self.visible_bias)
        weight, outer, inner = (side.detach().double() for side in sides)
        return weight, outer, inner


def _free_energy(x: Tensor, weight: Tensor, outer: Tensor, inner: Tensor) -> Tensor:
    """Of one side, with the other summed out."""
    return -(x @ outer) - functional.softplus(functional.linear(x, weight, inner)).sum(1)
