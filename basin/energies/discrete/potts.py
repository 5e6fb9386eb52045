"""The Potts model: categorical units in pairs, which gain by agreeing.

    E(x) = - sum_(i<j) J_ij [x_i = x_j] - sum_i h_i(x_i),      x in {0, ..., K-1}^d,  h_i(0) = 0

J > 0 makes two units agree. h_i(v) makes unit i take the value v rather than 0: only differences of
fields matter, so that of the value 0 is fixed. Two values are an Ising model of half the coupling.
Source: Potts 1952; Wu 1982, eq. 1.1 and 1.5.
Cost: one product with a d x d matrix for each value. log Z and exact draws by enumeration, up to
2^20 states.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from basin.core.discrete import (
    number_of_states,
    one_hot,
    whole_numbers,
)
from basin.core.references import Reference
from basin.core.room import take_room
from basin.energies.discrete.enumerated import Enumerated
from basin.energies.discrete.pairs import as_given, given_pairs, numbers_of_shape, pairs_of, upper
from basin.energies.networks.layers import as_event_shape, flatten_event

__all__ = ["Potts"]


class Potts(Enumerated):
    """Pairwise categorical energy ``[batch, *event] -> [batch]`` in nats.

    Args:
        dim: number of units, or the event's shape; events are flattened inside.
        num_states: K, values that each unit may take: 0, 1, ..., K - 1.
        couplings: J, to start from: one number for every pair, or ``[d, d]``, symmetric; its
            diagonal is not used.
        fields: h of the values 1 to K - 1, to start from: one number, or ``[d, K - 1]``.

    Attributes:
        pair_weights: J_ij for i < j, row by row, ``[d (d-1) / 2]``; learned.
        unit_weights: h_i(v) for v = 1 to K - 1, ``[d, K - 1]``; learned.

    Raises:
        ValueError: a parameter of another shape, not symmetric, or not finite; rows that hold
            anything but whole numbers in their range.

    Example:
        >>> import torch
        >>> pair = Potts(2, num_states=3, couplings=1.0)
        >>> pair(torch.tensor([[2.0, 2.0], [2.0, 0.0]])).tolist()
        [-1.0, -0.0]
        >>> round(pair.log_z, 4)                  # log(3 e + 6)
        2.6501
    """

    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "The Potts model",
            ("F. Y. Wu",),
            1982,
            "https://doi.org/10.1103/RevModPhys.54.235",
        ),
    )

    def __init__(
        self,
        dim: int | Sequence[int],
        num_states: int = 3,
        couplings: Any = 0.0,
        fields: Any = 0.0,
    ) -> None:
        super().__init__()
        self.event_shape = as_event_shape("dim", dim)
        self.dim = dim if isinstance(dim, int) else self.event_shape
        number_of_states(num_states)
        self.num_states = num_states
        size = torch.Size(self.event_shape).numel()
        take_room("dim", size, size)
        take_room("dim and num_states", size, num_states)
        pairs = given_pairs("couplings", couplings, size)
        self.couplings = as_given(couplings)
        self.fields = as_given(fields)
        kind = torch.get_default_dtype()
        self.pair_weights = nn.Parameter(pairs.to(kind))
        units = numbers_of_shape("fields", fields, (size, num_states - 1))
        self.unit_weights = nn.Parameter(units.to(kind))

    def forward(self, x: Tensor) -> Tensor:
        """E(x), ``[batch]``, of whole numbers."""
        return self.of_one_hot(self._one_hot(x))

    def of_one_hot(self, rows: Tensor) -> Tensor:
        """E of rows as one-hot vectors ``[batch, *event, K]``, ``[batch]``; defined between them.

        Its gradient is what samplers look at to choose a change.
        """
        hot = rows.reshape(len(rows), -1, self.num_states)
        pairs = upper(self.pair_weights, len(self.unit_weights))
        together = torch.einsum("biv,ij,bjv->b", hot, pairs, hot)
        return -together - (hot[..., 1:] * self.unit_weights).sum((1, 2))

    def conditional_energies(self, x: Tensor, coordinate: int) -> Tensor:
        """E for each value of unit i, up to a constant a row, ``[batch, K]``; d K products."""
        couplings = pairs_of(self.pair_weights, len(self.unit_weights), coordinate)
        agreeing = torch.einsum("j,bjv->bv", couplings, self._one_hot(x))
        return -agreeing - nn.functional.pad(self.unit_weights[coordinate], (1, 0))

    def coupling_matrix(self) -> Tensor:
        """J as it is now, symmetric with a diagonal of zeros, ``[d, d]``."""
        pairs = upper(self.pair_weights, len(self.unit_weights))
        return pairs + pairs.mT

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        return f"num_states={self.num_states}"

    def _one_hot(self, x: Tensor) -> Tensor:
        flat = flatten_event(self, x, self.event_shape)
        whole_numbers("x", flat, self.num_states)
        return one_hot(flat, self.num_states)
