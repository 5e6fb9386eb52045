"""Concrete score matching, for rows of whole numbers: plain, and denoising.

    c(x)_y = p(y) / p(x) - 1                       for the neighbours y of x, one coordinate changed
    r(x)_y = pθ(y) / pθ(x) = exp( E(x) - E(y) )    so that cθ = r - 1; Z drops out

    plain       J = E_p sum_y [ r(x)_y^2 - 2 / r(x)_y + 1 ] = E_p || cθ - c ||^2 - E_p || c ||^2
    denoising   J = E sum_y [ r(x')_y - t_y ]^2,      x' ~ q(. | x),  t_y = q(y | x) / q(x' | x)

Source: Meng, Choi, Song & Ermon 2022, "Concrete score matching", the theorem of its section on
training (there cθ is a free network and the last term needs rows whose neighbour x is; the
neighbours here are mutual and r(y)_x = 1 / r(x)_y), and its denoising form, after Vincent 2011.
Here q replaces each coordinate, with probability ``corruption``, by one of its K-1 other values.

The plain loss targets p itself, but it has no lower bound on a finite table: a neighbour y that
never occurs is driven out for ever, as -2 / r falls without end. The denoising loss is a sum of
squares; it targets p_q, the data so corrupted, whose ratios all lie between those of q, so that
nothing runs away. Its targets may be averaged over the batch as possible sources (as for Gaussian
noise, Xu, Tong & Jaakkola 2023), which keeps the mean of the gradient.

Both weigh a pair by the square of its larger ratio: rare rows beside frequent ones count most and
are seen least. Ratio matching is the same comparison on a bounded scale.

Cost: 1 + m (K-1) energies a row for m coordinates, in one batched call; no sampling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from basin.core.discrete import (
    corrupted,
    energy_drops,
    number_of_states,
    one_hot,
    random_coordinates,
    whole_numbers,
)
from basin.core.posterior_mean import STABLE_TARGETS
from basin.core.references import Reference
from basin.core.tensors import event_sum, num_event_dimensions
from basin.core.types import Loss, Objective
from basin.core.validation import positive_integer
from basin.objectives.meanings import NEIGHBOUR_TERMS, neighbours_are_blind

__all__ = [
    "ConcreteScoreMatching",
    "concrete_score_matching",
    "denoising_concrete_score_matching",
]


def concrete_score_matching(
    energy: Any, x: Tensor, *, num_states: int = 2, coordinates: Tensor | None = None
) -> Tensor:
    """``sum_y r^2 - 2/r + 1``, r = exp(E(x) - E(y)), over the neighbours of each row, ``[batch]``.

    Args:
        energy: callable ``[batch, *event] -> [batch]``.
        x: whole numbers from 0 to ``num_states - 1``, ``[batch, *event]``.
        num_states: values of a coordinate.
        coordinates: of each row, the ones to change, ``[batch, m]``; None is all.

    Source: Meng et al. 2022. Differentiable in the parameters. Not bounded below: see the module.

    Example:
        >>> import torch, basin
        >>> coin = lambda x: -x.sum(1)                    # r = 1/e seen from 1, and e seen from 0
        >>> basin.objectives.concrete_score_matching(coin, torch.tensor([[1.0], [0.0]]))
        tensor([-4.3012,  7.6533])
    """
    number_of_states(num_states)
    drops = energy_drops(energy, x, num_states, coordinates)
    return event_sum(torch.exp(2 * drops) - 2 * torch.exp(-drops) + 1)


def denoising_concrete_score_matching(
    energy: Any,
    x: Tensor,
    *,
    corruption: float = 0.05,
    num_states: int = 2,
    posterior_mean: bool = False,
    num_coordinates: int | None = None,
    generator: torch.Generator,
) -> Tensor:
    """``sum_y (r - t)^2`` at a corrupted copy of each row, ``[batch]``.

    Args:
        energy: callable ``[batch, *event] -> [batch]``.
        x: whole numbers from 0 to ``num_states - 1``, ``[batch, *event]``.
        corruption: probability that a coordinate is replaced, above 0 and below (K-1)/K, where
            nothing of it would be left.
        num_states: values of a coordinate.
        posterior_mean: average the targets over the whole batch as possible sources.
        num_coordinates: how many coordinates of each row are changed to neighbours; None is all.
        generator: source of the corruption.

    Source: Meng et al. 2022, denoising form. Differentiable in the parameters.

    Example:
        >>> import torch, basin
        >>> g = torch.Generator().manual_seed(0)
        >>> flat = lambda x: 0 * x.sum(1)
        >>> x = torch.ones(1_000_000, 1)         # t is 1/9 for 9 rows in 10, and 9 for the others
        >>> loss = basin.objectives.denoising_concrete_score_matching(
        ...     flat, x, corruption=0.1, generator=g)
        >>> round(loss.mean().item(), 1)         # 0.9 (8/9)^2 + 0.1 8^2
        7.1
    """
    return _squares(energy, x, corruption, num_states, posterior_mean, num_coordinates, generator)[
        0
    ]


@dataclass(frozen=True)
class ConcreteScoreMatching(Objective):
    """Concrete score matching: learn the probability ratios of rows of whole numbers.

    Args:
        num_states: K, values that each coordinate may take: 0, 1, ..., K - 1.
        corruption: probability that a coordinate is replaced by another value; the model is of the
            data so corrupted. 0 is the plain loss, of the data themselves, which has no lower bound
            on a finite table.
        posterior_mean: with corruption, average targets over the whole batch as possible sources.
        num_coordinates: how many coordinates of each row a step changes, drawn anew for each row
            (their sum stands for that over all d, without bias); None takes all.

    Source: Meng et al. 2022; Xu, Tong & Jaakkola 2023 for the averaged targets.
    """

    uses_score: ClassVar[bool] = False
    needs_noise_level: ClassVar[bool] = False
    normalises: ClassVar[bool] = False
    support: ClassVar[Literal["discrete"]] = "discrete"
    meanings: ClassVar[Mapping[str, str]] = NEIGHBOUR_TERMS
    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "Concrete score matching: generalized score matching for discrete data",
            ("Chenlin Meng", "Kristy Choi", "Jiaming Song", "Stefano Ermon"),
            2022,
            "https://arxiv.org/abs/2211.00802",
        ),
        STABLE_TARGETS,
    )

    num_states: int = 2
    corruption: float = 0.05
    posterior_mean: bool = True
    num_coordinates: int | None = 16

    def __post_init__(self) -> None:
        number_of_states(self.num_states)
        if self.corruption != 0:
            _check_corruption(self.corruption, self.num_states)
        if self.num_coordinates is not None:
            positive_integer(num_coordinates=self.num_coordinates)

    def init(self, x: Tensor, generator: torch.Generator) -> None:
        del generator
        whole_numbers("x", x, self.num_states)

    def __call__(self, energy: Any, x: Tensor, state: None, generator: torch.Generator) -> Loss:
        terms: dict[str, Tensor] = {}
        if self.corruption == 0:
            chosen = random_coordinates(x, self.num_coordinates, generator)
            loss = concrete_score_matching(
                energy, x, num_states=self.num_states, coordinates=chosen
            )
        else:
            loss, of_flat = _squares(
                energy,
                x,
                self.corruption,
                self.num_states,
                self.posterior_mean,
                self.num_coordinates,
                generator,
            )
            terms["trivial"] = of_flat.mean() * self._share(x)
        value = loss.mean() * self._share(x)
        return Loss(value, {"ratio_error": value.detach(), **terms}, state)

    def noise_level(self, state: None) -> None:
        return None

    def explain(self, state: None) -> str:
        if self.corruption == 0:
            return (
                "without corruption the loss has no lower bound on a finite table: neighbours that "
                "never occur are driven out for ever"
            )
        return (
            f"it learns the data with each coordinate replaced, with probability "
            f"{self.corruption:g}, by another value"
        )

    def blindness(self, state: None) -> str:
        return neighbours_are_blind("it compares each row with rows that differ in one coordinate")

    @property
    def mixes_rows(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.posterior_mean and self.corruption > 0

    def _share(self, x: Tensor) -> float:
        """What the sum over some coordinates is multiplied by to stand for that over all."""
        dimension = num_event_dimensions(x)
        return dimension / min(self.num_coordinates or dimension, dimension)


def _squares(
    energy: Any,
    x: Tensor,
    corruption: float,
    num_states: int,
    posterior_mean: bool,
    num_coordinates: int | None,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Loss of each row, and that of a flat energy (all ratios 1) on the same corruption."""
    number_of_states(num_states)
    _check_corruption(corruption, num_states)
    whole_numbers("x", x, num_states)
    y = corrupted(x, corruption, num_states, generator)
    coordinates = random_coordinates(x, num_coordinates, generator)
    target = _targets(y, x, corruption, num_states, posterior_mean)
    if coordinates is not None:
        index = coordinates.unsqueeze(-1).expand(-1, -1, num_states - 1)
        target = target.gather(1, index)
    ratio = torch.exp(energy_drops(energy, y, num_states, coordinates))
    return event_sum((ratio - target).square()), event_sum((1 - target).square())


def _targets(
    y: Tensor, x: Tensor, corruption: float, num_states: int, posterior_mean: bool
) -> Tensor:
    """q(neighbour of y | source) / q(y | source), ``[batch, d, K-1]``, in the order of drops.

    In one coordinate that is B/A where the source has y's value, A/B where it has the neighbour's,
    else 1; A = 1 - corruption is the probability to stay and B that of one other value. Its mean
    over a law of the source needs that law one coordinate at a time.
    """
    stays, moves = 1 - corruption, corruption / (num_states - 1)
    sources, values = one_hot(x.flatten(1), num_states), one_hot(y.flatten(1), num_states)
    belief = sources
    if posterior_mean:
        num_equal = values.flatten(1) @ sources.flatten(1).T
        weights = torch.softmax(num_equal * torch.tensor(stays / moves).log().to(x), dim=1)
        belief = (weights @ sources.flatten(1)).view_as(values)
    own = y.flatten(1).long().unsqueeze(-1)
    others = (own + torch.arange(1, num_states, device=x.device)) % num_states
    of_own, of_other = belief.gather(2, own), belief.gather(2, others)
    return 1 + (moves / stays - 1) * of_own + (stays / moves - 1) * of_other


def _check_corruption(corruption: float, num_states: int) -> None:
    most = (num_states - 1) / num_states
    if isinstance(corruption, bool) or not isinstance(corruption, int | float):
        raise TypeError(f"corruption must be a number, got {corruption!r}")
    if not 0 < corruption < most:
        raise ValueError(
            f"corruption must be above 0 and below {most:.4g} for {num_states} states, where "
            f"nothing of a coordinate is left, got {corruption!r}"
        )
