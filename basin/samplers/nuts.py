"""The no-U-turn sampler (NUTS): Hamiltonian Monte Carlo that chooses the length of its paths.

    q ~ N(0, I), and the path is the point (x, q), its proposal x
    for depth = 0, 1, ... below ``max_depth``:
        double the path by 2^depth leapfrog steps, to the future or the past by a fair coin
        stop, and forget the doubling, if it diverges, or if any of its 2^k-point blocks has turned
        move the proposal to a point of the new half, drawn with weights w = exp(-H), with
            probability min(1, weight of the new half / weight of the old half)
        stop if the whole path has turned

Source: Hoffman & Gelman 2014, algorithm 3, for the doubling; Betancourt 2017 (arXiv 1701.02434),
appendix A, for the multinomial draw and biased progression, which are algorithm 3's slice no
more. Turning is that of :mod:`basin.mcmc.u_turn`, with Stan's checks across subtrees and without
recursion.

All chains double in step, each in its own direction; a chain that has stopped is taken out of the
batch, and its energy is evaluated no more. Leaves exp(-E) / Z exactly invariant, whatever step and
metric. Cost: up to 2^``max_depth`` - 1 scores and energies a step, as many as
``num_gradient_evaluations`` says; memory for about 3 ``max_depth`` points a chain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from basin.core.references import Reference
from basin.core.streams import branch
from basin.core.tensors import normal_like
from basin.core.types import Energy, Kernel
from basin.core.validation import in_unit_interval, positive, positive_integer
from basin.mcmc.gradient_state import GradientState, gradient_state
from basin.mcmc.leapfrog import PhasePoint, hamiltonian, has_diverged, leapfrog
from basin.mcmc.metric import DiagonalMetric, Metric
from basin.mcmc.metropolis import select
from basin.mcmc.u_turn import Blocks, MomentumPath, is_joint_turning

__all__ = ["NUTS", "NUTSInfo"]

_UNTIL_LEARNED = DiagonalMetric()

# Chains that stop in the middle of a doubling leave the batch when they are an eighth of it: each
# departure copies what stays.
_WORTH_LEAVING = 8


class NUTSInfo(NamedTuple):
    """What a reader of the chain wants, ``[chains]`` each.

    ``acceptance_probability`` is the mean of min(1, exp(H_0 - H)) over all points visited;
    ``is_divergent`` marks a path that ended where the energy error was above 1000 nats or not
    finite; ``tree_depth`` counts the doublings that were kept; ``energy`` is H at the draw, whose
    steps against its spread give E-BFMI.
    """

    acceptance_probability: Tensor
    is_divergent: Tensor
    tree_depth: Tensor
    num_gradient_evaluations: Tensor
    energy: Tensor


@dataclass(frozen=True)
class NUTS(Kernel):
    """The no-U-turn sampler, for many chains at once.

    Args:
        step_size: h, positive, in standard deviations of x where the metric fits the target (with
            the identity metric in units of x).
        max_depth: doublings at most; a path has 2^max_depth points at most.
        target_acceptance: what warm-up adapts ``step_size`` to, in (0, 1); nearer one where
            transitions diverge.
        inverse_mass: the metric; warm-up learns a ``DiagonalMetric`` or a ``DenseMetric``.

    >>> import torch, basin
    >>> gaussian = lambda x: 0.5 * (x.square() / torch.tensor([1.0, 100.0])).sum(1)
    >>> chains = basin.sampling.sample(
    ...     gaussian, NUTS(), torch.zeros(10, 2), num_steps=40, num_warmup=40)
    >>> 8 < float(chains.positions[..., 1].std()) < 12
    True
    """

    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "The No-U-Turn Sampler: adaptively setting path lengths in Hamiltonian Monte Carlo",
            ("Matthew D. Hoffman", "Andrew Gelman"),
            2014,
            "https://jmlr.org/papers/v15/hoffman14a.html",
        ),
        Reference(
            "A conceptual introduction to Hamiltonian Monte Carlo",
            ("Michael Betancourt",),
            2017,
            "https://arxiv.org/abs/1701.02434",
        ),
    )
    is_exact: ClassVar[bool] = True
    is_reversible: ClassVar[bool] = True

    step_size: float = 0.1
    max_depth: int = 10
    target_acceptance: float = 0.8
    inverse_mass: Metric = _UNTIL_LEARNED

    def __post_init__(self) -> None:
        positive(step_size=self.step_size, target_acceptance=self.target_acceptance)
        positive_integer(max_depth=self.max_depth)
        in_unit_interval(target_acceptance=self.target_acceptance)

    def init(self, energy: Energy, x: Tensor, generator: torch.Generator) -> GradientState:
        del generator
        self.inverse_mass.check(x)
        return gradient_state(energy, x)

    def step(
        self, energy: Energy, state: GradientState, generator: torch.Generator
    ) -> tuple[GradientState, NUTSInfo]:
        start = PhasePoint(state, normal_like(state.position, generator))
        transition = _Transition(self, energy, start, generator)
        path = _Path.of(start)
        for depth in range(self.max_depth):
            path = transition.doubled(path, depth)
            if path is None:
                break
        return transition.result()

    def shortest(self) -> NUTS:
        """The kernel of one leapfrog step, by which warm-up finds a step to begin with."""
        return replace(self, max_depth=1)


class _Draw(NamedTuple):
    """A point that may become the next draw, and its H."""

    state: GradientState
    energy: Tensor


class _Path(NamedTuple):
    """Paths that may still grow, a row each."""

    chain: Tensor
    """Which chain's it is."""
    past: PhasePoint
    future: PhasePoint
    total_momentum: Tensor
    log_weight: Tensor
    """log of the sum of exp(H_0 - H) over its points."""

    @classmethod
    def of(cls, start: PhasePoint) -> _Path:
        """The path of one point for each chain."""
        energies = start.state.energy
        chain = torch.arange(len(energies), device=energies.device)
        return cls(chain, start, start, start.momentum, torch.zeros_like(energies))


class _Half(NamedTuple):
    """New halves of paths as far as they have grown, a row each."""

    row: Tensor
    """Which path's it is."""
    chain: Tensor
    step_size: Tensor
    """Positive to the future, negative to the past."""
    initial_energy: Tensor
    end: PhasePoint
    blocks: Blocks
    log_weight: Tensor
    proposal: _Draw
    """One of its points, drawn with weights exp(-H)."""
    is_growing: Tensor


class _Transition:
    """One step of all chains: how paths grow, where the chains have got to, what they have seen."""

    def __init__(
        self, kernel: NUTS, energy: Energy, start: PhasePoint, generator: torch.Generator
    ) -> None:
        self._kernel, self._energy = kernel, energy
        # Chains of one step draw unlike numbers of times; a stream of its own for each step keeps
        # what a chain draws in the next one apart from how long the others grow in this one.
        self._draws = branch(generator)
        self._initial_energy = hamiltonian(start)
        state = GradientState(*(field.clone() for field in start.state))
        self._proposal = _Draw(state, self._initial_energy.clone())
        self._num_points = torch.zeros_like(self._initial_energy, dtype=torch.long)
        self._depth = torch.zeros_like(self._num_points)
        self._acceptance = torch.zeros_like(self._initial_energy)
        self._is_divergent = torch.zeros_like(self._num_points, dtype=torch.bool)

    def doubled(self, path: _Path, depth: int) -> _Path | None:
        """The paths that go on after the doubling, or None when all have stopped."""
        is_future = self._uniform(path.chain) < 0.5
        joint = _where(is_future, path.future, path.past)
        half = self._grown(path, joint, is_future, depth)
        if half is None:
            return None
        path, joint, is_future = _take((path, joint, is_future), half.row)
        self._propose(path, half)
        self._depth[path.chain] += 1

        origin = _where(is_future, path.past.momentum, path.future.momentum)
        before = MomentumPath(origin, joint.momentum, path.total_momentum)
        goes_on = ~is_joint_turning(before, half.blocks.whole())
        whole = _Path(
            path.chain,
            _where(is_future, path.past, half.end),
            _where(is_future, half.end, path.future),
            path.total_momentum + half.blocks.total,
            torch.logaddexp(path.log_weight, half.log_weight),
        )
        return _take(whole, _places(goes_on)) if bool(goes_on.any()) else None

    def result(self) -> tuple[GradientState, NUTSInfo]:
        """Where the chains are, and what they saw on the way."""
        info = NUTSInfo(
            acceptance_probability=self._acceptance / self._num_points,
            is_divergent=self._is_divergent,
            tree_depth=self._depth,
            num_gradient_evaluations=self._num_points,
            energy=self._proposal.energy,
        )
        return self._proposal.state, info

    def _grown(self, path: _Path, joint: PhasePoint, is_future: Tensor, depth: int) -> _Half | None:
        """New halves of 2^depth points, or None.

        Those that diverge or turn within themselves are not among them: a path that could not
        have been grown from each of its points has no place in a reversible step.
        """
        initial_energy = self._initial_energy[path.chain]
        half = _Half(
            row=torch.arange(len(path.chain), device=path.chain.device),
            chain=path.chain,
            step_size=self._kernel.step_size * (2.0 * is_future.to(initial_energy.dtype) - 1.0),
            initial_energy=initial_energy,
            end=joint,
            blocks=Blocks.after(joint.momentum),
            log_weight=torch.full_like(initial_energy, -math.inf),
            proposal=_Draw(joint.state, initial_energy),
            is_growing=torch.ones_like(is_future),
        )
        for remaining in reversed(range(2**depth)):
            half = self._with_point(half)
            num_stopped = len(half.chain) - int(half.is_growing.sum())
            if num_stopped == len(half.chain):
                return None
            if num_stopped * _WORTH_LEAVING >= len(half.chain) or remaining == 0:
                half = _take(half, _places(half.is_growing))
        return half

    def _with_point(self, half: _Half) -> _Half:
        """One leapfrog step more; the new point is proposed with its share of the weights."""
        end = leapfrog(self._energy, half.end, half.step_size, self._kernel.inverse_mass)
        energies = hamiltonian(end)
        error = energies - half.initial_energy
        is_divergent = has_diverged(error)
        self._see(half, error, is_divergent)

        log_weight = _log_weight(error)
        total = torch.logaddexp(half.log_weight, log_weight)
        is_chosen = self._uniform(half.chain) < (log_weight - total).exp()
        blocks = half.blocks.with_point(end.momentum)
        return half._replace(
            end=end,
            blocks=blocks,
            log_weight=total,
            proposal=_where(is_chosen, _Draw(end.state, energies), half.proposal),
            is_growing=half.is_growing & ~is_divergent & ~blocks.has_turned(),
        )

    def _see(self, half: _Half, error: Tensor, is_divergent: Tensor) -> None:
        """Count a point for the chains that were still growing when they came to it."""
        chain, is_growing = half.chain, half.is_growing
        probability = (-error).clamp(max=0.0).exp().masked_fill(is_divergent, 0.0)
        self._num_points[chain] += is_growing
        self._acceptance[chain] += probability * is_growing
        self._is_divergent[chain] |= is_divergent & is_growing

    def _propose(self, path: _Path, half: _Half) -> None:
        """Biased progression: on to the new half if it weighs more, else by the ratio."""
        is_chosen = self._uniform(path.chain) < (half.log_weight - path.log_weight).exp()
        chain = path.chain[is_chosen]
        for kept, new in zip(self._proposal.state, half.proposal.state, strict=True):
            kept[chain] = new[is_chosen]
        self._proposal.energy[chain] = half.proposal.energy[is_chosen]

    def _uniform(self, chain: Tensor) -> Tensor:
        """A number in [0, 1) for each of ``chain``, drawn for all chains."""
        like = self._initial_energy
        size, dtype, device = like.shape, like.dtype, like.device
        return torch.rand(size, generator=self._draws, dtype=dtype, device=device)[chain]


def _log_weight(error: Tensor) -> Tensor:
    """log of exp(H_0 - H)."""
    return -error


def _places(mask: Tensor) -> Tensor:
    return torch.nonzero(mask).squeeze(1)


def _where(condition: Tensor, first: Any, second: Any) -> Any:
    """Rows of ``first`` where the condition holds, in tensors and named tuples of them."""
    if isinstance(first, Tensor):
        return select(condition, first, second)
    return type(first)(*(_where(condition, *pair) for pair in zip(first, second, strict=True)))


def _take(value: Any, rows: Tensor) -> Any:
    """These rows, in rising order, of all tensors in a nest of tuples and dictionaries."""
    if isinstance(value, Tensor):
        return value if len(rows) == len(value) else value.index_select(0, rows)
    if isinstance(value, dict):
        return {key: _take(item, rows) for key, item in value.items()}
    if isinstance(value, tuple):
        items = (_take(item, rows) for item in value)
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    return value
