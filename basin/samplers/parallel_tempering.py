"""Parallel tempering: replicas at rising temperatures, neighbours of which trade places.

    p_k  proportional to  exp(-E / T_k),   1 = T_0 < T_1 < ... < T_K         ``temperatures``
    1.   every replica takes a step of ``kernel`` at its own temperature
    2.   replicas k and k + 1 trade places with probability
         min(1, exp((1/T_k - 1/T_{k+1}) (E(x_k) - E(x_{k+1}))))
         for even k in one step, for odd k in the next

Source: Geyer 1991, "Markov chain Monte Carlo maximum likelihood"; the alternation of even and odd
pairs, which carries replicas along the ladder instead of diffusing them, is that of Syed,
Bouchard-Cote, Deligiannidis & Doucet 2022. The kernel moves u = x / sqrt(T_k) under
E(sqrt(T_k) u) / T_k, whose scale is the same at all temperatures where E is quadratic: one step
size serves them all, whatever it means to the kernel, and a hot replica goes sqrt(T_k) times as
far.

Leaves the product of the p_k exactly invariant if the kernel does; the draws are x_0, from
exp(-E) / Z. Cost: a step of the kernel on K + 1 times as many rows, all in one call of the energy,
and its ``init`` there after the trade (MALA: two scores a step in all).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from basin.core.gradients import score
from basin.core.references import Reference
from basin.core.tensors import expand_like
from basin.core.types import Energy, Kernel
from basin.core.validation import batch_of_energies, kernel_object, positive
from basin.mcmc.metropolis import metropolis

__all__ = ["ParallelTempering", "ParallelTemperingInfo", "ParallelTemperingState"]


class ParallelTemperingState(NamedTuple):
    """``position``: the replicas at temperature one, ``[chains, *event]``.

    ``replicas``: all of them, ``[temperatures, chains, *event]``; ``inner``: the kernel's state at
    them, in its coordinates u, ``temperatures x chains`` rows; ``parity``: 0 where pairs with even
    k trade next, 1 where those with odd k do.
    """

    position: Tensor
    replicas: Tensor
    inner: Any
    parity: Tensor


class ParallelTemperingInfo(NamedTuple):
    """What happened to each chain.

    Attributes:
        is_accepted: whether the kernel accepted its move at temperature one, ``[chains]``; always
            where it has no accept step.
        acceptance_probability: of that move, ``[chains]``.
        is_divergent: whether a move or an energy of a trade was not finite at any temperature
            (it is rejected), ``[chains]``.
        is_swapped: whether the replica at temperature one is a new one, ``[chains]``.
        swap_probability: of each pair of neighbours, asked to trade in this step or not,
            ``[chains, temperatures - 1]``. Its mean is how well the ladder conducts: a pair near
            zero cuts it in two.
    """

    is_accepted: Tensor
    acceptance_probability: Tensor
    is_divergent: Tensor
    is_swapped: Tensor
    swap_probability: Tensor


@dataclass(frozen=True)
class ParallelTempering(Kernel):
    """Another kernel at several temperatures at once, so that chains cross between far modes.

    All replicas of a chain start where it does; those at high temperatures need steps thrown away
    first (``num_warmup``). Meanwhile the kernel is adapted by its acceptance and positions at
    temperature one; a metric that is learned there is that of the modes which the chains have seen
    by then. Its state is made anew after each trade, so that a velocity is drawn afresh.

    Args:
        kernel: what moves the replicas; any but one that asks the energy for its noise level.
        temperatures: T, without units; the first is 1, each larger than the one before. The
            hottest must flatten the barriers (a few nats over T_K), and neighbours must overlap:
            in d dimensions a ratio of about 1 + sqrt(2 / d) trades often enough.

    Example:
        >>> import torch, basin
        >>> far = lambda x: -torch.logaddexp(-(x + 4).square(), -(x - 4).square()).sum(1)
        >>> left = torch.full((200, 1), -4.0)
        >>> kernel = ParallelTempering(basin.samplers.MALA(), temperatures=(1, 2, 4, 8, 16))
        >>> chains = basin.sample(far, kernel, left, num_steps=50, num_warmup=150)
        >>> 0.35 < float((chains.last > 0).float().mean()) < 0.65
        True
        >>> bool((chains.info["swap_probability"].mean((0, 1)) > 0.3).all())
        True
    """

    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "Non-reversible parallel tempering: a scalable highly parallel MCMC scheme",
            ("Saifuddin Syed", "Alexandre Bouchard-Côté", "George Deligiannidis", "Arnaud Doucet"),
            2022,
            "https://arxiv.org/abs/1905.02939",
        ),
    )
    is_exact: ClassVar[bool] = True  # and not reversible: the pairs that trade take turns

    kernel: Kernel
    temperatures: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)

    def __post_init__(self) -> None:
        kernel_object(kernel=self.kernel)
        ladder = self.temperatures
        if not isinstance(ladder, tuple) or len(ladder) < 2:
            raise ValueError(f"temperatures must be a tuple of at least two, got {ladder!r}")
        for temperature in ladder:
            positive(temperature=temperature)
        if ladder[0] != 1 or any(b <= a for a, b in pairwise(ladder)):
            raise ValueError(f"temperatures must start at 1 and rise, got {ladder!r}")

    def init(self, energy: Energy, x: Tensor, generator: torch.Generator) -> ParallelTemperingState:
        replicas = x.expand(len(self.temperatures), *x.shape).clone()
        parity = torch.zeros((), dtype=torch.int64, device=x.device)
        return self.init_at(energy, replicas, parity, generator)

    def init_at(
        self, energy: Energy, replicas: Tensor, parity: Tensor, generator: torch.Generator
    ) -> ParallelTemperingState:
        """State at given replicas, ``[temperatures, chains, *event]``."""
        tempered = self._tempered(energy, replicas)
        inner = self.kernel.init(tempered, tempered.scaled(replicas.flatten(0, 1)), generator)
        return ParallelTemperingState(replicas[0], replicas, inner, parity)

    def step(
        self, energy: Energy, state: ParallelTemperingState, generator: torch.Generator
    ) -> tuple[ParallelTemperingState, ParallelTemperingInfo]:
        tempered = self._tempered(energy, state.replicas)
        inner, move = self.kernel.step(tempered, state.inner, generator)
        replicas = tempered.restored(inner.position).view_as(state.replicas)

        energies = _energies(tempered, inner).view(replicas.shape[:2])
        inverse = 1 / tempered.temperatures.view(replicas.shape[:2])
        log_ratio = (inverse[:-1] - inverse[1:]) * (energies[:-1] - energies[1:])
        decision = metropolis(log_ratio, generator)
        is_asked = (torch.arange(len(log_ratio), device=inverse.device) + state.parity) % 2 == 0
        is_swapped = decision.is_accepted & is_asked[:, None]
        replicas = _traded(replicas, is_swapped)

        num_chains = replicas.shape[1]
        all_accepted = torch.ones_like(decision.is_accepted[0])
        is_accepted = getattr(move, "is_accepted", all_accepted)[:num_chains]
        probability = getattr(move, "acceptance_probability", all_accepted.to(replicas.dtype))
        is_lost = move.is_divergent.view(-1, num_chains).any(dim=0)
        info = ParallelTemperingInfo(
            is_accepted=is_accepted,
            acceptance_probability=probability[:num_chains],
            is_divergent=is_lost | (decision.is_divergent & is_asked[:, None]).any(dim=0),
            is_swapped=is_swapped[0],
            swap_probability=decision.acceptance_probability.T,
        )
        return self.init_at(energy, replicas, 1 - state.parity, generator), info

    def _tempered(self, energy: Energy, replicas: Tensor) -> _Tempered:
        ladder = torch.tensor(self.temperatures, dtype=replicas.dtype, device=replicas.device)
        return _Tempered(energy, ladder.repeat_interleave(replicas.shape[1]))


@dataclass(frozen=True, eq=False)
class _Tempered:
    """E(sqrt(T) u) / T with a temperature for each row: x = sqrt(T) u."""

    has_a_row_for_each: ClassVar[bool] = True

    energy: Energy
    temperatures: Tensor

    def __call__(self, u: Tensor) -> Tensor:
        x = self.restored(u)
        return batch_of_energies(self.energy, x, self.energy(x)) / self.temperatures

    def score(self, u: Tensor) -> Tensor:
        x_score = score(self.energy, self.restored(u), create_graph=torch.is_grad_enabled())
        return x_score / expand_like(self.temperatures.sqrt(), u)

    def restored(self, u: Tensor) -> Tensor:
        return expand_like(self.temperatures.sqrt(), u) * u

    def scaled(self, x: Tensor) -> Tensor:
        return x / expand_like(self.temperatures.sqrt(), x)


def _energies(tempered: _Tempered, inner: Any) -> Tensor:
    """E of every replica: as the kernel has it, or evaluated."""
    if hasattr(inner, "energy"):
        return inner.energy * tempered.temperatures
    with torch.no_grad():
        return (tempered(inner.position) * tempered.temperatures).to(inner.position.dtype)


def _traded(replicas: Tensor, is_swapped: Tensor) -> Tensor:
    """Replicas k and k + 1 exchanged where ``is_swapped[k]``; no replica is in two pairs."""
    nobody = torch.zeros_like(is_swapped[:1])
    takes_hotter = torch.cat([is_swapped, nobody])
    takes_colder = torch.cat([nobody, is_swapped])
    own = torch.arange(len(replicas), device=replicas.device)[:, None]
    place = own + takes_hotter.long() - takes_colder.long()
    flat = replicas.flatten(2) if replicas.ndim > 2 else replicas.unsqueeze(2)
    return flat.gather(0, place.unsqueeze(2).expand_as(flat)).view_as(replicas)
