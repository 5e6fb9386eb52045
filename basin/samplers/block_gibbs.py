"""Block Gibbs: all hidden units given the visible ones, then all visible units given the hidden.

    h ~ p(h | x) = prod_j p(h_j | x),      x ~ p(x | h) = prod_i p(x_i | h)

Source: Smolensky 1986; Hinton 2002, section 5: the units of one side of a restricted Boltzmann
machine are independent given the other side. Leaves the joint law invariant, and with it
exp(-E) / Z of the visible units; h is drawn anew at every step and is not in the state. k steps
from the data are what CD-k is.

Cost: one product with W and one with its transpose; no energy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from basin.core.discrete import whole_numbers
from basin.core.references import Reference
from basin.core.types import Energy, Kernel
from basin.mcmc.finiteness import finite_rows
from basin.mcmc.metropolis import select

__all__ = ["BlockGibbs", "BlockGibbsInfo", "BlockGibbsState"]


class BlockGibbsState(NamedTuple):
    """``position``: the visible units, zeros and ones, ``[chains, *event]``."""

    position: Tensor


class BlockGibbsInfo(NamedTuple):
    """``is_divergent``: a probability was not a number, and the row stayed, ``[chains]``."""

    is_divergent: Tensor


@dataclass(frozen=True)
class BlockGibbs(Kernel):
    """Block Gibbs for energies with binary hidden units, as restricted Boltzmann machines.

    The energy offers both conditionals: ``hidden_probability(x) -> [batch, m]`` and
    ``visible_probability(h) -> [batch, *event]``.

    Attributes:
        num_states: 2.

    Example:
        >>> import torch, basin
        >>> machine = basin.energies.RestrictedBoltzmannMachine(6, num_hidden=3)
        >>> chains = basin.sample(machine, BlockGibbs(), 100, num_steps=5)
        >>> chains.positions.unique().tolist()
        [0.0, 1.0]
    """

    support: ClassVar[Literal["discrete"]] = "discrete"
    is_exact: ClassVar[bool] = True
    is_reversible: ClassVar[bool] = True
    num_states: ClassVar[int] = 2
    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "Training products of experts by minimizing contrastive divergence",
            ("Geoffrey E. Hinton",),
            2002,
            "https://doi.org/10.1162/089976602760128018",
        ),
    )

    def init(self, energy: Energy, x: Tensor, generator: torch.Generator) -> BlockGibbsState:
        if not self.fits(energy):
            raise ValueError(
                "BlockGibbs needs an energy with hidden units, as RestrictedBoltzmannMachine, got "
                f"{type(energy).__name__} without hidden_probability and visible_probability; "
                "take Gibbs"
            )
        whole_numbers("x", x, self.num_states)
        return BlockGibbsState(x)

    def step(
        self, energy: Any, state: BlockGibbsState, generator: torch.Generator
    ) -> tuple[BlockGibbsState, BlockGibbsInfo]:
        with torch.no_grad():
            of_hidden = energy.hidden_probability(state.position)
            of_visible = energy.visible_probability(_coins(of_hidden, generator))
            x = _coins(of_visible, generator).to(state.position.dtype)
            is_finite = finite_rows(of_hidden) & finite_rows(of_visible)
        position = select(is_finite, x, state.position)
        return BlockGibbsState(position), BlockGibbsInfo(~is_finite)

    @staticmethod
    def fits(energy: object) -> bool:
        """Whether the energy offers the conditionals of its two blocks."""
        return hasattr(energy, "hidden_probability") and hasattr(energy, "visible_probability")


def _coins(probability: Tensor, generator: torch.Generator) -> Tensor:
    """One with this probability, else zero."""
    uniform = torch.rand(
        probability.shape, generator=generator, dtype=probability.dtype, device=probability.device
    )
    return (uniform < probability).to(probability.dtype)
