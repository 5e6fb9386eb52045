"""Gibbs sampling: every coordinate in turn from its law given the others.

    x_i ~ p(x_i | rest) = softmax over v of -E(x with x_i = v),      x in {0, ..., K-1}^d

Source: Geman & Geman 1984, section 10. Leaves exp(-E) / Z exactly invariant, in any order of the
coordinates; nothing is rejected and nothing is to be tuned.

Cost: one step is a sweep of d draws: d K energies a chain (:mod:`basin.mcmc.gibbs` says which
energies do it for less). :class:`BlockGibbs` and :class:`GibbsWithGradients` are the alternatives
where that is too much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from basin.core.discrete import number_of_states, require_same_states, whole_numbers
from basin.core.references import Reference
from basin.core.tensors import num_event_dimensions
from basin.core.types import Energy, Kernel
from basin.mcmc.gibbs import gibbs_sweep

__all__ = ["Gibbs", "GibbsInfo", "GibbsState"]


class GibbsState(NamedTuple):
    """``position``: whole numbers, ``[chains, *event]``."""

    position: Tensor


class GibbsInfo(NamedTuple):
    """``is_divergent``: an energy was not a number, and its coordinate stayed, ``[chains]``."""

    is_divergent: Tensor


@dataclass(frozen=True)
class Gibbs(Kernel):
    """Gibbs sweeps over rows of whole numbers, for many chains at once.

    Args:
        num_states: K, values that each coordinate may take: 0, 1, ..., K - 1.
        scan: which coordinates a step draws, and in which order, the same for all chains:
            "shuffled" is each once in an order drawn anew, "systematic" each once from the first
            to the last, "random" d of them drawn with replacement. A sweep backward is one forward
            in the reverse order: "systematic" alone is not reversible.

    Example:
        >>> import torch, basin
        >>> pair = basin.energies.Ising(2, couplings=0.5)
        >>> chains = basin.sample(pair, Gibbs(), torch.zeros(500, 2), num_steps=20)
        >>> agree = (chains.positions[..., 0] == chains.positions[..., 1]).double().mean()
        >>> round(float(agree), 2)                       # e^0.5 / (e^0.5 + e^-0.5) = 0.73
        0.73
    """

    support: ClassVar[Literal["discrete"]] = "discrete"
    is_exact: ClassVar[bool] = True
    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "Stochastic relaxation, Gibbs distributions, and the Bayesian restoration of images",
            ("Stuart Geman", "Donald Geman"),
            1984,
            "https://doi.org/10.1109/TPAMI.1984.4767596",
        ),
    )

    num_states: int = 2
    scan: Literal["shuffled", "systematic", "random"] = "shuffled"

    def __post_init__(self) -> None:
        number_of_states(self.num_states)
        if self.scan not in ("shuffled", "systematic", "random"):
            raise ValueError(
                f'scan must be "shuffled", "systematic" or "random", got {self.scan!r}'
            )

    def init(self, energy: Energy, x: Tensor, generator: torch.Generator) -> GibbsState:
        require_same_states(energy, self.num_states)
        whole_numbers("x", x, self.num_states)
        return GibbsState(x)

    def step(
        self, energy: Energy, state: GibbsState, generator: torch.Generator
    ) -> tuple[GibbsState, GibbsInfo]:
        x = state.position
        order = self._order(num_event_dimensions(x), generator)
        x, is_divergent = gibbs_sweep(energy, x, self.num_states, generator, order)
        return GibbsState(x), GibbsInfo(is_divergent)

    @property
    def is_reversible(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether every order of the coordinates is as likely as its reverse."""
        return self.scan != "systematic"

    def _order(self, d: int, generator: torch.Generator) -> Tensor:
        if self.scan == "systematic":
            return torch.arange(d)
        if self.scan == "random":
            return torch.randint(d, (d,), generator=generator, device=generator.device)
        return torch.randperm(d, generator=generator, device=generator.device)
