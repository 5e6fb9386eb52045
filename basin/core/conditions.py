"""Energies under a condition, E(x | c), given to objectives that know nothing of conditions.

    p(x | c) = exp(-E(x | c)) / Z(c)        c: one number, class or vector for each row

A conditional energy is a callable ``energy(x, condition)``, ``energy(x, sigma, condition)`` with
noise levels. The training step binds the batch's conditions to it, so that an objective sees an
energy of x alone. One that evaluates other rows than the batch itself says which: ``repeated``
for a batch laid out n times over, ``first_rows`` for its beginning. Both give an energy without
conditions back as it is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from basin.core.gradients import dual_score, score

__all__ = ["Given", "first_rows", "has_a_row_for_each", "repeated"]


class Given:
    """The energy of x alone, for rows whose conditions are these, in this order.

    Args:
        energy: callable ``(x [batch, *event], condition [batch, ...]) -> [batch]``.
        condition: one for each row.

    Raises:
        ValueError: called with another number of rows, which would pair them wrongly.

    Example:
        >>> shifted = lambda x, c: 0.5 * (x - c).square().sum(1)
        >>> Given(shifted, torch.tensor([[0.0], [3.0]]))(torch.zeros(2, 1))
        tensor([0.0000, 4.5000])
    """

    has_a_row_for_each = True

    def __init__(self, energy: Any, condition: Tensor) -> None:
        self.energy = energy
        self.condition = condition

    def __call__(self, x: Tensor, *sigma: Tensor | float) -> Tensor:
        if len(x) != len(self.condition):
            raise ValueError(
                f"x must have one row for each of the {len(self.condition)} conditions, got "
                f"{len(x)}; an objective that evaluates other rows than its batch says which "
                "with basin.core.repeated or basin.core.first_rows"
            )
        return self.energy(x, *sigma, self.condition)

    def score(self, x: Tensor, *sigma: Tensor | float) -> Tensor:
        """-dE/dx, from the energy's closed form where it has one."""
        if hasattr(self.energy, "score"):
            return self.energy.score(x, *sigma, self.condition)
        return score(lambda y: self(y, *sigma), x, create_graph=torch.is_grad_enabled())

    def dual_score(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """``(-dE/dx, -dE/d log sigma)``, likewise."""
        if hasattr(self.energy, "dual_score"):
            return self.energy.dual_score(x, sigma, self.condition)
        bound = lambda y, level: self(y, level)  # noqa: E731 - not this method again
        return dual_score(bound, x, sigma, create_graph=torch.is_grad_enabled())


def has_a_row_for_each(energy: Any) -> bool:
    """Whether an energy, or one inside it, is another function for each row of its batch.

    Such a one says so by an attribute of this name. A kernel keeps all its rows together.

    Example:
        >>> has_a_row_for_each(Given(lambda x, c: x[:, 0] * c, torch.ones(3)))
        True
    """
    while energy is not None:
        if getattr(energy, "has_a_row_for_each", False):
            return True
        energy = getattr(energy, "energy", None)
    return False


def repeated(energy: Any, n: int) -> Any:
    """The energy of rows laid out ``n`` times over, ``cat([batch] * n)``."""
    if not isinstance(energy, Given):
        return energy
    condition = energy.condition
    return Given(energy.energy, condition.repeat(n, *[1] * (condition.ndim - 1)))


def first_rows(energy: Any, n: int | None) -> Any:
    """The energy of the batch's first ``n`` rows; None is all of them."""
    return Given(energy.energy, energy.condition[:n]) if isinstance(energy, Given) else energy
