"""Spins on a square lattice: discrete data whose law is known exactly.

    p(x) = exp( J sum_(neighbours i, j) s_i s_j + h sum_i s_i ) / Z,      s = 2x - 1,  x in {0, 1}^d

d = side^2 units, each joined to those beside, above and below it (edges are open). All 2^d
probabilities are summed up once, so draws, log probabilities and shares are exact; corrupting a
table of probabilities is d products with a 2 x 2 matrix, exact as well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NoReturn

import torch
from torch import Tensor

from basin.core.discrete import draw_states, energies_of_all_states, state_numbers, states
from basin.core.types import Density
from basin.core.validation import in_unit_interval, positive_integer, real_number, same_event_shape
from basin.energies.discrete.ising import Ising

__all__ = ["IsingLattice"]

LARGEST_SIDE = 4
"""2^16 states; the next one has 2^25."""


@dataclass(frozen=True)
class IsingLattice(Density):
    """Ising spins on a side x side lattice, rows of 0 and 1; every probability known.

    Args:
        side: units a side, 1 to 4.
        coupling: J; above zero neighbours agree (an infinite lattice freezes at 0.44).
        field: h; above zero units are 1 rather than 0.
        corruption: probability with which each unit is flipped after it was drawn, 0 to 1.

    Attributes:
        num_states: 2.

    ``mode_of`` is 1 where at least half of the units are 1, else 0.

    Example:
        >>> import torch
        >>> lattice = IsingLattice(side=2, coupling=0.0, field=0.0)
        >>> lattice.log_prob(torch.zeros(1, 4))          # 16 equal states
        tensor([-2.7726])
    """

    side: int = 3
    coupling: float = 0.4
    field: float = 0.1
    corruption: float = 0.0

    is_smooth = False
    num_states = 2

    def __post_init__(self) -> None:
        positive_integer(side=self.side)
        if self.side > LARGEST_SIDE:
            raise ValueError(
                f"side must be at most {LARGEST_SIDE} (its 2^(side^2) states are summed up), got "
                f"{self.side}"
            )
        real_number(coupling=self.coupling, field=self.field)
        in_unit_interval(corruption=self.corruption)
        _ = self.log_probabilities

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.side**2,)

    @cached_property
    def couplings(self) -> Tensor:
        """J between each two units, symmetric, ``[d, d]``."""
        place = torch.cartesian_prod(torch.arange(self.side), torch.arange(self.side))
        distance = (place[:, None] - place[None]).abs().sum(-1)
        return self.coupling * (distance == 1).double()

    @cached_property
    def log_probabilities(self) -> Tensor:
        """log p of all states, ``[2^d]`` of float64, in the order of ``basin.core.states``."""
        energy = Ising(self.side**2, self.couplings, self.field).double()
        energies = energies_of_all_states(energy, self.event_shape, 2, dtype=torch.float64)
        return self._corrupted(torch.log_softmax(-energies, 0))

    @cached_property
    def bounds(self) -> Tensor:
        return torch.tensor([[0.0, 1.0]], dtype=torch.float64).repeat(self.side**2, 1)

    @cached_property
    def mode_weights(self) -> Tensor:
        every = states(0, len(self.log_probabilities), self.side**2, 2)
        up = self.log_probabilities.exp()[self.mode_of(every) == 1].sum()
        return torch.stack([1 - up, up])

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` independent exact draws, float32 ``[n, d]`` on the generator's device."""
        return draw_states(-self.log_probabilities, n, self.event_shape, 2, generator).float()

    def log_prob(self, x: Tensor) -> Tensor:
        """Logarithm of the probability, ``[batch]``; ``-inf`` for rows of anything but 0 and 1."""
        same_event_shape("x", x, self.event_shape)
        is_state = ((x == 0) | (x == 1)).all(dim=1)
        numbers = state_numbers(torch.where(is_state[:, None], x, 0), 2)
        values = self.log_probabilities.to(x.device)[numbers]
        kind = x.dtype if x.is_floating_point() else torch.get_default_dtype()
        return torch.where(is_state, values, -torch.inf).to(kind)

    def corrupted(self, rate: float) -> IsingLattice:
        """The law after each unit is flipped, on its own, with probability ``rate``."""
        in_unit_interval(rate=rate)
        together = self.corruption * (1 - rate) + rate * (1 - self.corruption)
        return replace(self, corruption=together)

    def blurred(self, sigma: float) -> NoReturn:
        """Never: there is no Gaussian noise among whole numbers; see :meth:`corrupted`."""
        raise ValueError(
            f"{self!r} is a law of whole numbers and has no Gaussian blur, got sigma={sigma:g}; "
            "train with an objective for discrete rows (PseudoLikelihood, RatioMatching, "
            "ConcreteScoreMatching), and take .corrupted(rate) for its noise"
        )

    def score(self, x: Tensor) -> NoReturn:
        """Never: a law of whole numbers has no gradient."""
        raise ValueError(f"{self!r} is a law of whole numbers and has no score")

    def mode_of(self, x: Tensor) -> Tensor:
        return (2 * x.sum(dim=1) >= x.shape[1]).long()

    def _corrupted(self, log_probabilities: Tensor) -> Tensor:
        if self.corruption == 0:
            return log_probabilities
        table = log_probabilities.exp().reshape((2,) * self.side**2)
        for unit in range(self.side**2):
            table = (1 - self.corruption) * table + self.corruption * table.flip(unit)
        return table.flatten().log()
