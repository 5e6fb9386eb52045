"""Ratio matching, for rows of whole numbers.

    J = E_p sum_(y in N(x)) g( pθ(x) / pθ(y) )^2,      g(u) = 1 / (1 + u)
      = E_p sum_(y in N(x)) sigmoid( E(x) - E(y) )^2

N(x) are the rows that differ from x in one coordinate; Z drops out of each ratio. Source:
Hyvärinen 2007, "Some extensions of score matching", section on binary variables: the squared
distance between g of the model's ratios and g of the data's, both ways, is J up to a constant,

    1/2 E_p sum_y [ g(p(x)/p(y)) - g(pθ(x)/pθ(y)) ]^2 + [ g(p(y)/p(x)) - g(pθ(y)/pθ(x)) ]^2 = J - C
    C = sum over pairs {x, y} of p(x) p(y) / (p(x) + p(y))

The paper treats binary rows, where y is x with one bit flipped; the proof is about one pair at a
time, so it holds for the K-1 other values of a categorical coordinate just as well. g is bounded:
a neighbour that the data never show costs nothing more once its ratio is small. It is the Brier
score of telling x from y, where pseudo-likelihood takes the logarithmic one. Targets p itself.

Cost: 1 + m (K-1) energies a row for m coordinates, in one batched call; no sampling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from basin.core.discrete import energy_drops, number_of_states, random_coordinates, whole_numbers
from basin.core.references import Reference
from basin.core.tensors import event_sum, num_event_dimensions
from basin.core.types import Loss, Objective
from basin.core.validation import positive_integer
from basin.objectives.meanings import NEIGHBOUR_TERMS, neighbours_are_blind

__all__ = ["RatioMatching", "ratio_matching"]


def ratio_matching(
    energy: Any, x: Tensor, *, num_states: int = 2, coordinates: Tensor | None = None
) -> Tensor:
    """``sum_y sigmoid(E(x) - E(y))^2`` over the neighbours y of each row, ``[batch]``.

    Args:
        energy: callable ``[batch, *event] -> [batch]``.
        x: whole numbers from 0 to ``num_states - 1``, ``[batch, *event]``.
        num_states: values of a coordinate.
        coordinates: of each row, the ones to change, ``[batch, m]``; None is all.

    Source: Hyvärinen 2007. Differentiable in the parameters.

    Example:
        >>> import torch, basin
        >>> flat = lambda x: 0 * x.sum(1)                        # every ratio is 1, g(1)^2 = 1/4
        >>> basin.objectives.ratio_matching(flat, torch.zeros(1, 3))
        tensor([0.7500])
    """
    number_of_states(num_states)
    return event_sum(torch.sigmoid(energy_drops(energy, x, num_states, coordinates)).square())


@dataclass(frozen=True)
class RatioMatching(Objective):
    """Ratio matching: tell each row of whole numbers from its neighbours, by a bounded loss.

    Args:
        num_states: K, values that each coordinate may take: 0, 1, ..., K - 1.
        num_coordinates: how many coordinates of each row a step changes, drawn anew for each row
            (their sum stands for that over all d, without bias); None takes all.

    Source: Hyvärinen 2007.
    """

    uses_score: ClassVar[bool] = False
    needs_noise_level: ClassVar[bool] = False
    normalises: ClassVar[bool] = False
    support: ClassVar[Literal["discrete"]] = "discrete"
    meanings: ClassVar[Mapping[str, str]] = NEIGHBOUR_TERMS
    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "Some extensions of score matching",
            ("Aapo Hyvärinen",),
            2007,
            "https://doi.org/10.1016/j.csda.2006.09.003",
        ),
    )

    num_states: int = 2
    num_coordinates: int | None = 16

    def __post_init__(self) -> None:
        number_of_states(self.num_states)
        if self.num_coordinates is not None:
            positive_integer(num_coordinates=self.num_coordinates)

    def init(self, x: Tensor, generator: torch.Generator) -> None:
        del generator
        whole_numbers("x", x, self.num_states)

    def __call__(self, energy: Any, x: Tensor, state: None, generator: torch.Generator) -> Loss:
        chosen = random_coordinates(x, self.num_coordinates, generator)
        loss = ratio_matching(energy, x, num_states=self.num_states, coordinates=chosen)
        dimension = num_event_dimensions(x)
        value = loss.mean() * (dimension / (dimension if chosen is None else chosen.shape[1]))
        trivial = torch.tensor(dimension * (self.num_states - 1) / 4, device=x.device)
        return Loss(value, {"brier": value.detach(), "trivial": trivial}, state)

    def noise_level(self, state: None) -> None:
        return None

    def blindness(self, state: None) -> str:
        return neighbours_are_blind("it compares each row with rows that differ in one coordinate")
