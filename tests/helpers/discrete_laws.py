"""Laws of whole numbers small enough to write down in full, by loops that share no code with Basin.

A row is a tuple of values; ``law`` gives each its probability, and expectations are plain sums.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


def rows(num_coordinates: int, num_states: int) -> list[tuple[int, ...]]:
    """Every row there is, the last coordinate running fastest."""
    return list(itertools.product(range(num_states), repeat=num_coordinates))


def neighbours(row: tuple[int, ...], num_states: int) -> list[tuple[int, ...]]:
    """The rows that differ from this one in one coordinate."""
    return [
        (*row[:i], value, *row[i + 1 :])
        for i in range(len(row))
        for value in range(num_states)
        if value != row[i]
    ]


class Table(nn.Module):
    """One energy for every row, each a parameter: any law at all. Float64."""

    def __init__(self, num_coordinates: int, num_states: int, seed: int = 0) -> None:
        super().__init__()
        self.event_shape = (num_coordinates,)
        self.num_states = num_states
        self.rows = rows(num_coordinates, num_states)
        self.number = {row: number for number, row in enumerate(self.rows)}
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(len(self.rows), generator=generator, dtype=torch.float64)
        self.values = nn.Parameter(0.7 * drawn)

    def forward(self, x: Tensor) -> Tensor:
        return self.with_values(self.values)(x)

    def with_values(self, values: Tensor) -> Callable[[Tensor], Tensor]:
        """The energy with other values."""

        def energy(x: Tensor) -> Tensor:
            return values[[self.number[tuple(row)] for row in x.long().tolist()]]

        return energy

    def law(self) -> Tensor:
        """p of every row, in the order of ``rows``."""
        return torch.softmax(-self.values, 0)

    def tensor(self) -> Tensor:
        """Every row, as an objective takes them."""
        return torch.tensor(self.rows, dtype=torch.float64)

    def ratio(self, row: tuple[int, ...], other: tuple[int, ...]) -> Tensor:
        """p(row) / p(other)."""
        law = self.law()
        return law[self.number[row]] / law[self.number[other]]

    def set_law(self, law: Tensor) -> Table:
        """Become the energy of a law."""
        with torch.no_grad():
            self.values.copy_(-law.log())
        return self

    def draw(self, n: int, seed: int = 0) -> Tensor:
        """``n`` independent rows."""
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.multinomial(self.law().detach(), n, replacement=True, generator=generator)
        return self.tensor()[drawn]


def corrupted_law(table: Table, rate: float) -> Tensor:
    """p after each coordinate is replaced, with probability ``rate``, by another value."""
    law = table.law().detach()
    stays, moves = 1 - rate, rate / (table.num_states - 1)
    return torch.stack(
        [
            sum(
                law[number]
                * math.prod(stays if a == b else moves for a, b in zip(row, source, strict=True))
                for number, source in enumerate(table.rows)
            )
            for row in table.rows
        ]
    )
