"""A product of densities: the sum of their energies.

    E(x) = sum_k E_k(x),      s(x) = sum_k s_k(x),      p(x) proportional to prod_k p_k(x)

Source: Hinton 2002 (products of experts). Its normaliser is not the product of theirs. Cost: that
of the members.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from basin.core.references import Reference
from basin.energies.composed.members import (
    event_shape_of,
    member_energy,
    member_score,
    members,
)

__all__ = ["Product"]


class Product(nn.Module):
    """All of the experts agree: ``[batch, *event] -> [batch]``.

    Args:
        energies: one or more energies on the same events, none sharing weights with another.

    Example:
        >>> import torch
        >>> product = Product([lambda x: x.square().sum(1), lambda x: x.sum(1)])
        >>> product(torch.tensor([[1.0, 2.0]]))
        tensor([8.])
    """

    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "Training products of experts by minimizing contrastive divergence",
            ("G. E. Hinton",),
            2002,
            "https://doi.org/10.1162/089976602760128018",
        ),
    )

    def __init__(self, energies: Sequence[Any]) -> None:
        super().__init__()
        self.energies = members("Product", energies)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """That of the members."""
        return event_shape_of(list(self.energies))

    def forward(self, x: Tensor) -> Tensor:
        """Sum of the energies, ``[batch]``."""
        first, *others = self.energies
        total = member_energy(first, x)
        for energy in others:
            total = total + member_energy(energy, x)
        return total

    def score(self, x: Tensor) -> Tensor:
        """Sum of the scores, shape of ``x``."""
        first, *others = self.energies
        total = member_score(first, x)
        for energy in others:
            total = total + member_score(energy, x)
        return total
