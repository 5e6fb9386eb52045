"""Pseudo-likelihood, for rows of whole numbers.

    J = - E_p sum_i log p(x_i | rest of x)
      = E_p sum_i log sum_v exp( E(x) - E(x with x_i = v) )        v = 0, ..., K-1;  Z drops out

Source: Besag 1975, "Statistical analysis of non-lattice data", section 2 (the product of the
conditionals, whose logarithm is J with the other sign). Targets p itself: J is the sum of d
expected log losses, each least at the true conditional, and all conditionals together fix a
positive p. Consistent, with a larger variance than maximum likelihood (Hyvärinen 2006 for Boltzmann
machines).

Cost: 1 + m (K-1) energies a row for m coordinates, in one batched call; no sampling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from basin.core.discrete import energy_drops, number_of_states, random_coordinates, whole_numbers
from basin.core.references import Reference
from basin.core.tensors import num_event_dimensions
from basin.core.types import Loss, Objective
from basin.core.validation import positive_integer
from basin.objectives.meanings import NEIGHBOUR_TERMS, neighbours_are_blind

__all__ = ["PseudoLikelihood", "pseudo_likelihood"]


def pseudo_likelihood(
    energy: Any, x: Tensor, *, num_states: int = 2, coordinates: Tensor | None = None
) -> Tensor:
    """``- sum_i log p(x_i | rest)`` for each row, ``[batch]``, in nats.

    Args:
        energy: callable ``[batch, *event] -> [batch]``.
        x: whole numbers from 0 to ``num_states - 1``, ``[batch, *event]``.
        num_states: values of a coordinate.
        coordinates: of each row, the ones to sum over, ``[batch, m]``; None is all.

    Source: Besag 1975. Differentiable in the parameters.

    Example:
        >>> import torch, basin
        >>> coin = lambda x: -2.0 * x.sum(1)                     # p(1) = 1 / (1 + exp(-2))
        >>> basin.objectives.pseudo_likelihood(coin, torch.tensor([[1.0, 0.0]]))  # 0.1269 + 2.1269
        tensor([2.2539])
    """
    number_of_states(num_states)
    drops = energy_drops(energy, x, num_states, coordinates)
    if num_states == 2:
        return functional.softplus(drops.squeeze(-1)).sum(1)
    own = torch.zeros_like(drops[..., :1])
    return torch.logsumexp(torch.cat([own, drops], dim=-1), dim=-1).sum(1)


@dataclass(frozen=True)
class PseudoLikelihood(Objective):
    """Pseudo-likelihood: predict each coordinate of a row of whole numbers from the others.

    Args:
        num_states: K, values that each coordinate may take: 0, 1, ..., K - 1.
        num_coordinates: how many coordinates of each row a step looks at, drawn anew for each row
            (their sum stands for that over all d, without bias); None takes all.

    Source: Besag 1975.
    """

    uses_score: ClassVar[bool] = False
    needs_noise_level: ClassVar[bool] = False
    normalises: ClassVar[bool] = False
    support: ClassVar[Literal["discrete"]] = "discrete"
    meanings: ClassVar[Mapping[str, str]] = NEIGHBOUR_TERMS
    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "Statistical analysis of non-lattice data",
            ("Julian Besag",),
            1975,
            "https://doi.org/10.2307/2987782",
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
        loss = pseudo_likelihood(energy, x, num_states=self.num_states, coordinates=chosen)
        dimension = num_event_dimensions(x)
        value = loss.mean() * (dimension / (dimension if chosen is None else chosen.shape[1]))
        guess = torch.tensor(float(self.num_states), dtype=x.dtype, device=x.device).log()
        return Loss(value, {"log_loss": value.detach(), "trivial": dimension * guess}, state)

    def noise_level(self, state: None) -> None:
        return None

    def blindness(self, state: None) -> str:
        return neighbours_are_blind("it learns each coordinate's law given the others")
