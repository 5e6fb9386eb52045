"""A mixture of densities as an energy.

    E(x) = -log sum_k w_k exp(-E_k(x))
    s(x) = sum_k r_k(x) s_k(x),      r_k(x) proportional to w_k exp(-E_k(x))

With normalised members w_k is the probability of member k. With members known up to their Z_k,
member k has probability w_k Z_k / sum_j w_j Z_j: the weights then mean that, and nothing else.
Cost: that of the members.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from basin.core.validation import all_finite
from basin.energies.composed.members import (
    event_shape_of,
    member_energy,
    member_energy_and_score,
    members,
)

__all__ = ["Mixture"]


class Mixture(nn.Module):
    """One of the members speaks: ``[batch, *event] -> [batch]``.

    Args:
        energies: one or more energies on the same events, none sharing weights with another.
        weights: positive, one a member, scaled to add to 1; equal when left out. Probabilities of
            the members only if these are normalised (or share one Z).

    Raises:
        ValueError: weights that are not positive, or not one a member.

    Example:
        >>> import basin, torch
        >>> mixture = Mixture([lambda x: x.sum(1), lambda x: -x.sum(1)], weights=[1.0, 3.0])
        >>> basin.score(mixture, torch.zeros(1, 2))
        tensor([[0.5000, 0.5000]])
    """

    weights: Tensor

    def __init__(self, energies: Sequence[Any], weights: Any = None) -> None:
        super().__init__()
        self.energies = members("Mixture", energies)
        number = len(self.energies)
        if weights is None:
            weights = torch.ones(number)
        weights = torch.as_tensor(weights, dtype=torch.float64).clone()
        if weights.shape != (number,):
            raise ValueError(
                f"weights must have shape ({number},), one a member, got {tuple(weights.shape)}"
            )
        all_finite("weights", weights)
        if not bool((weights > 0).all()):
            raise ValueError(f"weights must be positive, got {weights.tolist()}")
        self.register_buffer("weights", weights / weights.sum())

    @property
    def event_shape(self) -> tuple[int, ...]:
        """That of the members."""
        return event_shape_of(list(self.energies))

    def forward(self, x: Tensor) -> Tensor:
        """-log sum_k w_k exp(-E_k(x)), ``[batch]``, by log-sum-exp."""
        energies = torch.stack([member_energy(energy, x) for energy in self.energies])
        return -torch.logsumexp(self._log_weights(energies) - energies, dim=0)

    def score(self, x: Tensor) -> Tensor:
        """The members' scores, weighted by their responsibilities; shape of ``x``."""
        pairs = [member_energy_and_score(energy, x) for energy in self.energies]
        energies = torch.stack([energy for energy, _ in pairs])
        scores = torch.stack([score for _, score in pairs])
        shares = torch.softmax(self._log_weights(energies) - energies, dim=0)
        return (shares.reshape(*shares.shape, *[1] * (x.ndim - 1)) * scores).sum(dim=0)

    def _log_weights(self, energies: Tensor) -> Tensor:
        return self.weights.to(energies).log().unsqueeze(1)
