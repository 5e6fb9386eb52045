"""Block Gibbs for a restricted Boltzmann machine: all hidden units, then all visible ones.

    h_j ~ Bernoulli(sigmoid(s (c_j + W_j'x))),      x_i ~ Bernoulli(sigmoid(b_i + s sum_j W_ji h_j))

with s = ``scale`` (1 for a machine itself; t along ``paths.JointGeometric``). Each half draws from
a conditional law of exp(-E(x, h)), so the pair leaves the machine's law as it is; and x -> h -> x'
is reversible. Source: Hinton 2002, Smolensky 1986. Cost: two products with W.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from basin.core.types import Kernel

__all__ = ["BlockGibbs", "BlockGibbsInfo", "BlockGibbsState"]


class BlockGibbsState(NamedTuple):
    """``position`` ``[chains, *event]`` of zeros and ones."""

    position: Tensor


class BlockGibbsInfo(NamedTuple):
    """``is_divergent``: never, ``[chains]``."""

    is_divergent: Tensor


@dataclass(frozen=True)
class BlockGibbs(Kernel):
    """Block Gibbs on energies that have ``weight``, ``visible_bias`` and ``hidden_bias``.

    >>> import torch
    >>> from basin.energies import RestrictedBoltzmannMachine
    >>> machine, g = RestrictedBoltzmannMachine(3, 2), torch.Generator().manual_seed(0)
    >>> kernel = BlockGibbs()
    >>> state, _ = kernel.step(machine, kernel.init(machine, torch.zeros(5, 3), g), g)
    >>> state.position.shape
    torch.Size([5, 3])
    """

    is_exact: ClassVar[bool] = True
    is_reversible: ClassVar[bool] = True

    def init(self, energy: Any, x: Tensor, generator: torch.Generator) -> BlockGibbsState:
        if not all(hasattr(energy, name) for name in ("weight", "visible_bias", "hidden_bias")):
            raise ValueError(
                "BlockGibbs needs a restricted Boltzmann machine (weight, visible_bias, "
                f"hidden_bias), got {type(energy).__name__}; on a path take paths.JointGeometric"
            )
        return BlockGibbsState(x)

    @torch.no_grad()
    def step(
        self, energy: Any, state: BlockGibbsState, generator: torch.Generator
    ) -> tuple[BlockGibbsState, BlockGibbsInfo]:
        x = state.position
        scale = getattr(energy, "scale", 1.0)
        field = functional.linear(x.flatten(1), energy.weight, energy.hidden_bias)
        hidden = torch.bernoulli(torch.sigmoid(scale * field), generator=generator)
        odds = torch.addmm(energy.visible_bias, hidden, energy.weight, alpha=scale)
        visible = torch.bernoulli(torch.sigmoid(odds), generator=generator).reshape(x.shape)
        return BlockGibbsState(visible), BlockGibbsInfo(torch.zeros(len(x), dtype=torch.bool))
