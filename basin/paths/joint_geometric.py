"""The geometric path between two Boltzmann machines on visible and hidden units together.

    E_t(x) = - ((1 - t) a + t b)'x - sum_j softplus(t (c_j + W_j'x))

From independent coins of log odds ``a`` to a restricted Boltzmann machine (b, c, W). It is the
geometric path of the joint laws of (x, h), the first with hidden units that nothing moves, with h
summed out; so every energy on it is a restricted Boltzmann machine and block Gibbs works on it.

Source: Salakhutdinov & Murray 2008, equations 15 to 18 ("base rates" are a, from the frequencies of
ones in the data). Cost: one product with W at a point, for all t together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from basin.core.types import Path
from basin.core.validation import in_unit_interval

__all__ = ["JointGeometric", "Machine"]


@dataclass(frozen=True, eq=False)
class Machine:
    """A restricted Boltzmann machine as plain tensors: an energy, and what block Gibbs needs.

    Args:
        weight: W, ``[hidden, visible]``.
        visible_bias: b, ``[visible]``.
        hidden_bias: c, ``[hidden]``.
        scale: multiplies W and c (t on a path).
        event_shape: of a row; None is ``[visible]``.
    """

    weight: Tensor
    visible_bias: Tensor
    hidden_bias: Tensor
    scale: float = 1.0
    event_shape: tuple[int, ...] | None = None

    def __call__(self, x: Tensor, /) -> Tensor:
        field = functional.linear(x.flatten(1), self.weight, self.hidden_bias)
        return -(x.flatten(1) @ self.visible_bias) - functional.softplus(self.scale * field).sum(1)

    def hidden_probability(self, x: Tensor) -> Tensor:
        """p(h_j = 1 | x), ``[batch, hidden]``."""
        field = functional.linear(x.flatten(1), self.weight, self.hidden_bias)
        return torch.sigmoid(self.scale * field)

    def visible_probability(self, hidden: Tensor) -> Tensor:
        """p(x_i = 1 | h), ``[batch, *event]``."""
        odds = torch.addmm(self.visible_bias, hidden, self.weight, alpha=self.scale)
        shape = self.visible_bias.shape if self.event_shape is None else self.event_shape
        return torch.sigmoid(odds).reshape(len(hidden), *shape)


@dataclass(frozen=True, eq=False)
class Coins(Machine):
    """Independent coins, the start of the path: exact draws and an exact log Z.

    The hidden units are fair coins that are summed out too: log Z = sum softplus(a) + m log 2.
    """

    @property
    def log_z(self) -> float:
        """log Z, hidden units included."""
        visible = functional.softplus(self.visible_bias.double()).sum()
        return float(visible) + len(self.hidden_bias) * math.log(2)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` independent rows, ``[n, *event]``."""
        odds = torch.sigmoid(self.visible_bias).expand(n, -1)
        shape = self.visible_bias.shape if self.event_shape is None else self.event_shape
        return torch.bernoulli(odds, generator=generator).reshape(n, *shape)


@dataclass(frozen=True, eq=False)
class JointGeometric(Path):
    """From coins with the data's base rates to a restricted Boltzmann machine.

    Args:
        machine: has ``weight`` ``[hidden, visible]``, ``visible_bias``, ``hidden_bias``, such as
            ``basin.energies.RestrictedBoltzmannMachine``.
        base_bias: a, ``[visible]``, log odds of the coins; None is zero, fair coins. Those of the
            data are far better: :meth:`log_odds`.

    >>> import torch
    >>> machine = Machine(torch.ones(2, 3), torch.zeros(3), torch.zeros(2))
    >>> path = JointGeometric(machine)
    >>> round(path(0.0).log_z, 4)                                # 5 log 2
    3.4657
    """

    machine: Any
    base_bias: Tensor | None = None

    @staticmethod
    def log_odds(x: Tensor) -> Tensor:
        """Log odds of a one in each column of the rows ``x`` ``[n, *event]``, ``[visible]``.

        One row of fair coins is added, so that a column that never changes has odds too.
        """
        rate = (x.flatten(1).sum(0) + 0.5) / (len(x) + 1)
        return rate.log() - (1 - rate).log()

    def __call__(self, t: float, /) -> Machine:
        in_unit_interval(t=t)
        weight, visible, hidden = self._parts()
        shape = tuple(getattr(self.machine, "event_shape", None) or visible.shape)
        if t == 0:
            return Coins(weight, self._base(visible), hidden, 0.0, shape)
        return Machine(weight, self._base(visible).lerp(visible, t), hidden, t, shape)

    def along(self, x: Tensor) -> Callable[[float], Tensor]:
        """One product with W, and a softplus of the hidden units for each t."""
        weight, visible, hidden = self._parts()
        flat = x.flatten(1)
        base, own = flat @ self._base(visible), flat @ visible
        field = functional.linear(flat, weight, hidden)

        def energies(t: float) -> Tensor:
            in_unit_interval(t=t)
            return -base.lerp(own, t) - functional.softplus(t * field).sum(1)

        return energies

    def _parts(self) -> tuple[Tensor, Tensor, Tensor]:
        machine = self.machine
        return tuple(
            part.detach() for part in (machine.weight, machine.visible_bias, machine.hidden_bias)
        )

    def _base(self, visible: Tensor) -> Tensor:
        return torch.zeros_like(visible) if self.base_bias is None else self.base_bias.to(visible)
