"""The fully visible Boltzmann machine: binary units in pairs, in zeros and ones.

    E(x) = - sum_(i<j) W_ij x_i x_j - sum_i b_i x_i,      x in {0, 1}^d

Source: Ackley, Hinton & Sejnowski 1985, eq. 1 (their thresholds are -b). The laws are those of
:class:`Ising`, which counts in spins: W = 4 J, b_i = 2 h_i - 2 sum_j J_ij.
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

__all__ = ["BoltzmannMachine"]


class BoltzmannMachine(Enumerated):
    """Pairwise binary energy ``[batch, *event] -> [batch]`` in nats; log Z known up to 20 units.

    Args:
        dim: number of units, or the event's shape; events are flattened inside.
        weights: W, to start from: one number for every pair, or ``[d, d]``, symmetric; its
            diagonal is not used (x_i x_i is x_i, which b weighs).
        biases: b, to start from: one number for every unit, or ``[d]``.

    Attributes:
        pair_weights: W_ij for i < j, row by row, ``[d (d-1) / 2]``; learned.
        unit_weights: b, ``[d]``; learned.
        num_states: 2.

    Raises:
        ValueError: weights or biases of another shape, not symmetric, or not finite.

    Example:
        >>> import torch
        >>> pair = BoltzmannMachine(2, weights=1.0)
        >>> pair(torch.tensor([[1.0, 1.0], [1.0, 0.0]])).tolist()
        [-1.0, -0.0]
        >>> round(pair.log_z, 4)                  # log(e + 3)
        1.7437
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

    def __init__(self, dim: int | Sequence[int], weights: Any = 0.0, biases: Any = 0.0) -> None:
        super().__init__()
        self.event_shape = as_event_shape("dim", dim)
        self.dim = dim if isinstance(dim, int) else self.event_shape
        size = torch.Size(self.event_shape).numel()
        take_room("dim", size, size)
        pairs = given_pairs("weights", weights, size)
        self.weights = as_given(weights)
        self.biases = as_given(biases)
        kind = torch.get_default_dtype()
        self.pair_weights = nn.Parameter(pairs.to(kind))
        self.unit_weights = nn.Parameter(numbers_of_shape("biases", biases, (size,)).to(kind))

    def forward(self, x: Tensor) -> Tensor:
        """E(x), ``[batch]``; defined for all real x, of which 0 and 1 are meant."""
        flat = flatten_event(self, x, self.event_shape)
        pairs = upper(self.pair_weights, len(self.unit_weights))
        return -((flat @ pairs) * flat).sum(1) - flat @ self.unit_weights

    def conditional_energies(self, x: Tensor, coordinate: int) -> Tensor:
        """E with unit i at 0 and at 1, up to a constant a row, ``[batch, 2]``; d products a row."""
        flat = flatten_event(self, x, self.event_shape)
        weights = pairs_of(self.pair_weights, len(self.unit_weights), coordinate)
        field = flat @ weights + self.unit_weights[coordinate]
        return torch.stack([torch.zeros_like(field), -field], dim=1)

    def weight_matrix(self) -> Tensor:
        """W as it is now, symmetric with a diagonal of zeros, ``[d, d]``."""
        pairs = upper(self.pair_weights, len(self.unit_weights))
        return pairs + pairs.mT
