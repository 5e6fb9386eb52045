"""What energies of few whole numbers share: log Z and exact draws by a sum over every state.

    log Z = logsumexp over all K^d states of -E(x)

Cost: K^d energies, at most 2^20 of them (:mod:`basin.core.discrete` refuses more).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from basin.core.discrete import draw_states, energies_of_all_states, uniform_states

__all__ = []  # for the energies of this folder, which import by path


class Enumerated(nn.Module):
    """An energy with ``event_shape`` and ``num_states`` whose states can be listed."""

    event_shape: tuple[int, ...]
    num_states: int

    @property
    def log_z(self) -> float:
        """log Z of the weights as they are, summed over all states; at most 2^20 of them."""
        return float(torch.logsumexp(-self._energies(), 0))

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` independent exact draws, ``[n, *event]``, by enumeration of at most 2^20 states."""
        return draw_states(self._energies(), n, self.event_shape, self.num_states, generator)

    def sample_base(self, n: int, generator: torch.Generator) -> Tensor:
        """Where chains may start: every coordinate uniform, on its own."""
        return uniform_states(n, self.event_shape, self.num_states, generator)

    def _energies(self) -> Tensor:
        return energies_of_all_states(self, self.event_shape, self.num_states)
