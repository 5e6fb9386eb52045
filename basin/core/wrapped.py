"""An objective around another one: adds a term, and is otherwise what the other is.

    value = J + weight * mean of the penalty over the batch

State, noise level, learned parts, blindness and every other fact are those of the objective inside.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from inspect import isabstract
from typing import Any, ClassVar

import torch
from torch import Tensor

from basin.core.noise import log_uniform_stratified
from basin.core.references import Reference
from basin.core.tensors import expand_like, normal_like
from basin.core.types import Loss, Objective, Watched
from basin.core.validation import positive

__all__ = ["Penalised", "penalised_rows"]


class _Fact:
    """A fact of the objective inside; asked of the class, that of the one inside by default."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None and isabstract(owner):
            return self
        outside = owner() if instance is None else instance
        inside = getattr(outside.objective, self.name)
        if self.name == "meanings":
            return {**inside, **owner.own_meanings}  # type: ignore[attr-defined]
        if self.name == "references":
            return (*owner.own_references, *inside)  # type: ignore[attr-defined]
        return inside


@dataclass(frozen=True)
class Penalised(Objective, Watched):
    """What penalties share; a penalty says what it adds for each row.

    Args:
        objective: the one inside.
        weight: factor on the penalty, positive.

    Attributes that this class does not know (``log_z`` of noise-contrastive estimation) are those
    of the objective inside.
    """

    own_meanings: ClassVar[Mapping[str, str]] = {}
    own_references: ClassVar[tuple[Reference, ...]] = ()

    uses_score: ClassVar[Any] = _Fact()
    needs_noise_level: ClassVar[Any] = _Fact()
    normalises: ClassVar[Any] = _Fact()
    is_a_score_of_fit: ClassVar[Any] = _Fact()
    mixes_rows: ClassVar[Any] = _Fact()
    support: ClassVar[Any] = _Fact()
    learned: ClassVar[Any] = _Fact()
    learned_steps: ClassVar[Any] = _Fact()
    meanings: ClassVar[Any] = _Fact()
    references: ClassVar[Any] = _Fact()

    objective: Objective
    weight: float

    @abstractmethod
    def penalty(self, energy: Any, x: Tensor, state: Any, generator: torch.Generator) -> Tensor:
        """What is added for each row, before the weight, ``[batch]``; differentiable."""

    def __post_init__(self) -> None:
        if isinstance(self.objective, type) or not isinstance(self.objective, Objective):
            raise TypeError(
                f"objective must be one, as ContrastiveDivergence(), got {self.objective!r}"
            )
        positive(weight=self.weight)

    def init(self, x: Tensor, generator: torch.Generator) -> Any:
        return self.objective.init(x, generator)

    def __call__(self, energy: Any, x: Tensor, state: Any, generator: torch.Generator) -> Loss:
        inside = self.objective(energy, x, state, generator)
        penalty = self.penalty(energy, x, state, generator).mean()
        (name,) = self.own_meanings
        terms = {**inside.terms, name: penalty.detach()}
        return Loss(inside.value + self.weight * penalty, terms, inside.state)

    def noise_level(self, state: Any) -> float | None:
        return self.objective.noise_level(state)

    def explain(self, state: Any) -> str:
        return self.objective.explain(state)

    def blindness(self, state: Any) -> str:
        return self.objective.blindness(state)

    def alarm(self, terms: Mapping[str, float]) -> str:
        return self.objective.alarm(terms) if isinstance(self.objective, Watched) else ""

    def calmer(self) -> Objective:
        if not isinstance(self.objective, Watched):
            return self
        return replace(self, objective=self.objective.calmer())

    def __getattr__(self, name: str) -> Any:
        if name == "objective" or name.startswith("__"):
            raise AttributeError(name)  # not there yet: copied or unpickled
        return getattr(self.objective, name)


def penalised_rows(
    objective: Objective, x: Tensor, state: Any, generator: torch.Generator
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The rows that a penalty looks at, and the further arguments of the energy there.

    The batch as it is; for a noise-conditional energy the batch noised, at levels log-uniform over
    the ladder of the objective's state.
    """
    if not objective.needs_noise_level:
        return x, ()
    sigma = log_uniform_stratified(state.sigma_min, state.sigma_max, len(x), generator).to(x)
    return x + expand_like(sigma, x) * normal_like(x, generator), (sigma,)
