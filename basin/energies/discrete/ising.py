"""Binary units in pairs: the Ising model, or Boltzmann machine without hidden units.

    E(x) = - sum_(i<j) J_ij s_i s_j - sum_i h_i s_i,      s = 2x - 1,  x in {0, 1}^d

J > 0 makes two units agree, h > 0 makes a unit 1. Source: Ising 1925; Ackley, Hinton & Sejnowski
1985, eq. 1, in spins (their weights for 0 and 1 are 4 J, their thresholds follow).
Cost: one product with a d x d matrix. log Z and exact draws by enumeration, up to 20 units.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from basin.core.references import Reference
from basin.core.room import take_room
from basin.energies.discrete.enumerated import Enumerated
from basin.energies.discrete.pairs import as_given, given_pairs, numbers_of_shape, pairs_of, upper
from basin.energies.networks.layers import as_event_shape, flatten_event

__all__ = ["Ising"]


class Ising(Enumerated):
    """Pairwise binary energy ``[batch, *event] -> [batch]`` in nats; log Z known up to 20 units.

    Args:
        dim: number of units, or the event's shape; events are flattened inside.
        couplings: J, to start from: one number for every pair, or ``[d, d]``, symmetric; its
            diagonal is not used (s_i s_i is 1).
        fields: h, to start from: one number for every unit, or ``[d]``.

    Attributes:
        pair_weights: J_ij for i < j, row by row, ``[d (d-1) / 2]``; learned.
        unit_weights: h, ``[d]``; learned.
        num_states: 2.

    Raises:
        ValueError: couplings or fields of another shape, not symmetric, or not finite.

    Example:
        >>> import torch
        >>> pair = Ising(2, couplings=1.0)
        >>> pair(torch.tensor([[1.0, 1.0], [1.0, 0.0]])).tolist()
        [-1.0, 1.0]
        >>> round(pair.log_z, 4)                  # log(2 e + 2 / e)
        1.8201
    """

    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "A learning algorithm for Boltzmann machines",
            ("David H. Ackley", "Geoffrey E. Hinton", "Terrence J. Sejnowski"),
            1985,
            "https://doi.org/10.1016/S0364-0213(85)80012-4",
        ),
    )
    num_states: int = 2

    def __init__(self, dim: int | Sequence[int], couplings: Any = 0.0, fields: Any = 0.0) -> None:
        super().__init__()
        self.event_shape = as_event_shape("dim", dim)
        self.dim = dim if isinstance(dim, int) else self.event_shape
        size = torch.Size(self.event_shape).numel()
        take_room("dim", size, size)
        pairs = given_pairs("couplings", couplings, size)
        self.couplings = as_given(couplings)
        self.fields = as_given(fields)
        kind = torch.get_default_dtype()
        self.pair_weights = nn.Parameter(pairs.to(kind))
        self.unit_weights = nn.Parameter(numbers_of_shape("fields", fields, (size,)).to(kind))

    def forward(self, x: Tensor) -> Tensor:
        """E(x), ``[batch]``; defined for all real x, of which 0 and 1 are meant."""
        spins = 2 * flatten_event(self, x, self.event_shape) - 1
        pairs = upper(self.pair_weights, len(self.unit_weights))
        return -((spins @ pairs) * spins).sum(1) - spins @ self.unit_weights

    def conditional_energies(self, x: Tensor, coordinate: int) -> Tensor:
        """E with unit i at 0 and at 1, up to a constant a row, ``[batch, 2]``; d products a row."""
        spins = 2 * flatten_event(self, x, self.event_shape) - 1
        couplings = pairs_of(self.pair_weights, len(self.unit_weights), coordinate)
        field = spins @ couplings + self.unit_weights[coordinate]
        return torch.stack([field, -field], dim=1)

    def coupling_matrix(self) -> Tensor:
        """J as it is now, symmetric with a diagonal of zeros, ``[d, d]``."""
        pairs = upper(self.pair_weights, len(self.unit_weights))
        return pairs + pairs.mT
