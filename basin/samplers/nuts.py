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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from basin.core.conditions import has_a_row_for_each
from basin.core.graph import FlatGraph, flat_graph
from basin.core.references import Reference
from basin.core.streams import branch
from basin.core.tensors import normal_like
from basin.core.trees import mapped
from basin.core.types import Energy, Kernel, Step
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

# Enough to hide what a call costs; each graph takes about four seconds to compile.
_POINTS_IN_A_GRAPH = 4
_DOUBLINGS_TO_BEGIN = 2  # in one graph, of three points: hardly a path is shorter


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
        parts = _Parts(
            _begun,
            partial(_doubled, energy, self.inverse_mass, self.step_size),
            partial(_grown, energy, self.inverse_mass),
            doublings_to_begin=0,
            points_at_once=1,
            may_leave=not has_a_row_for_each(energy),
        )
        return self._step(parts, state, generator)

    def compiled_step(
        self, energy: Energy, state: GradientState, generator: torch.Generator
    ) -> Step:
        """The same step, its points grown by graphs of three and four of them.

        All chains stay in the batch, as shapes are fixed: one that has stopped is carried on, and
        what it does there is forgotten. A graph is made when a path first gets so long.
        """
        doubled = partial(_doubled, energy, self.inverse_mass, self.step_size)
        depths = range(min(_DOUBLINGS_TO_BEGIN, self.max_depth))

        def begun(start: PhasePoint, *uniforms: Tensor) -> _Path:
            return reduce(doubled, uniforms, _begun(start))

        parts = _Parts(
            _graphs(begun, generator),
            _graphs(doubled, generator),
            _graphs(partial(_grown, energy, self.inverse_mass), generator),
            doublings_to_begin=len(depths),
            points_at_once=_POINTS_IN_A_GRAPH,
            may_leave=False,
        )
        nothing = [state.energy.new_zeros(2**d + 2, *state.energy.shape) for d in depths]
        parts.begun(PhasePoint(state, torch.zeros_like(state.position)), *nothing)  # can it be one?
        return partial(self._step, parts)

    def _step(
        self, parts: _Parts, state: GradientState, generator: torch.Generator
    ) -> tuple[GradientState, NUTSInfo]:
        start = PhasePoint(state, normal_like(state.position, generator))
        transition = _Transition(self.step_size, parts, start, generator)
        path = transition.begun()
        for depth in range(parts.doublings_to_begin, self.max_depth):
            if not bool(path.may_grow.any()):
                break
            path = transition.doubled(path, depth)
        return transition.result(path)

    def shortest(self) -> NUTS:
        """The kernel of one leapfrog step, by which warm-up finds a step to begin with."""
        return replace(self, max_depth=1)


class _Draw(NamedTuple):
    """A point that may become the next draw, and its H."""

    state: GradientState
    energy: Tensor


class _Tally(NamedTuple):
    """What a path has seen, the points of doublings that were forgotten too."""

    num_points: Tensor
    acceptance: Tensor
    """Sum over these of min(1, exp(H_0 - H))."""
    is_divergent: Tensor


class _Path(NamedTuple):
    """Paths in phase space, a row each."""

    chain: Tensor
    """Which chain's it is."""
    initial_energy: Tensor
    """H_0, where it began."""
    past: PhasePoint
    future: PhasePoint
    total_momentum: Tensor
    log_weight: Tensor
    """log of the sum of exp(H_0 - H) over its points."""
    proposal: _Draw
    depth: Tensor
    tally: _Tally
    may_grow: Tensor


class _Half(NamedTuple):
    """New halves of paths, as far as they have grown, a row each."""

    step_size: Tensor
    """Positive to the future, negative to the past."""
    end: PhasePoint
    log_weight: Tensor
    proposal: _Draw
    """One of its points, drawn with weights exp(-H)."""
    is_growing: Tensor


def _begun(start: PhasePoint) -> _Path:
    """The path of one point for each chain."""
    energies = hamiltonian(start)
    chain = torch.arange(len(energies), device=energies.device)
    nothing, never = torch.zeros_like(energies), torch.zeros_like(chain, dtype=torch.bool)
    return _Path(
        chain=chain,
        initial_energy=energies,
        past=start,
        future=start,
        total_momentum=start.momentum,
        log_weight=nothing,
        proposal=_Draw(start.state, energies),
        depth=torch.zeros_like(chain),
        tally=_Tally(torch.zeros_like(chain), nothing, never),
        may_grow=~never,
    )


def _opened(path: _Path, is_future: Tensor, step_size: float) -> _Half:
    """Halves without points yet, at the ends that were chosen."""
    return _Half(
        step_size=step_size * (2.0 * is_future.to(path.log_weight.dtype) - 1.0),
        end=_where(is_future, path.future, path.past),
        log_weight=torch.full_like(path.log_weight, -math.inf),
        proposal=path.proposal,
        is_growing=path.may_grow,
    )


def _grown(
    energy: Energy,
    inverse_mass: Metric,
    half: _Half,
    tally: _Tally,
    initial_energy: Tensor,
    uniforms: Tensor,
) -> tuple[_Half, _Tally, MomentumPath]:
    """A leapfrog step for each row of ``uniforms``; each is proposed with its share of the weights.

    Also returns these points. A row that has diverged or turned grows no more: where it is carried
    to does not count, as its half will be forgotten.
    """
    step_size, end, log_weight, proposal, is_growing = half
    blocks = Blocks.after(end.momentum)
    for uniform in uniforms.unbind():
        end = leapfrog(energy, end, step_size, inverse_mass)
        energies = hamiltonian(end)
        error = energies - initial_energy
        is_divergent = has_diverged(error)
        probability = (-error).clamp(max=0.0).exp().masked_fill(is_divergent, 0.0)
        tally = _Tally(
            tally.num_points + is_growing,
            tally.acceptance + probability * is_growing,
            tally.is_divergent | (is_divergent & is_growing),
        )
        share = _log_weight(error)
        log_weight = torch.logaddexp(log_weight, share)
        is_chosen = uniform < (share - log_weight).exp()
        proposal = _where(is_chosen, _Draw(end.state, energies), proposal)
        blocks = blocks.with_point(end.momentum)
        is_growing = is_growing & ~is_divergent & ~blocks.has_turned()
    return _Half(step_size, end, log_weight, proposal, is_growing), tally, blocks.whole()


def _joined(
    path: _Path, is_future: Tensor, half: _Half, points: MomentumPath, uniform: Tensor
) -> _Path:
    """The path with its new half, unless that has stopped growing: then it ends as it was.

    A path that could not have been grown from each of its points has no place in a reversible
    step.
    """
    is_kept = half.is_growing
    is_chosen = is_kept & (uniform < _progression(half.log_weight, path.log_weight))
    origin = _where(is_future, path.past.momentum, path.future.momentum)
    joint = _where(is_future, path.future.momentum, path.past.momentum)
    is_turning = is_joint_turning(MomentumPath(origin, joint, path.total_momentum), points)
    return path._replace(
        past=_where(is_future, path.past, half.end),
        future=_where(is_future, half.end, path.future),
        total_momentum=path.total_momentum + points.total,
        log_weight=torch.logaddexp(path.log_weight, half.log_weight),
        proposal=_where(is_chosen, half.proposal, path.proposal),
        depth=path.depth + is_kept,
        may_grow=is_kept & ~is_turning,
    )


def _doubled(
    energy: Energy, inverse_mass: Metric, step_size: float, path: _Path, uniforms: Tensor
) -> _Path:
    """The path with a new half of as many points as there are rows of uniform numbers, less two."""
    is_future = uniforms[0] < 0.5
    half = _opened(path, is_future, step_size)
    half, tally, points = _grown(
        energy, inverse_mass, half, path.tally, path.initial_energy, uniforms[1:-1]
    )
    return _joined(path._replace(tally=tally), is_future, half, points, uniforms[-1])


def _progression(new: Tensor, old: Tensor) -> Tensor:
    """Biased: on to the new half if it weighs more, else by the ratio of the weights."""
    return (new - old).exp()


class _Parts(NamedTuple):
    """How paths grow."""

    begun: Callable[..., _Path]
    """As :func:`_begun`, and doubled ``doublings_to_begin`` times, each by uniform numbers."""
    doubled: Callable[[_Path, Tensor], _Path]
    """As :func:`_doubled`, by ``points_at_once`` at most."""
    grown: Callable[[_Half, _Tally, Tensor, Tensor], tuple[_Half, _Tally, MomentumPath]]
    """As :func:`_grown`, by ``points_at_once``."""
    doublings_to_begin: int
    points_at_once: int
    """A power of two."""
    may_leave: bool
    """Whether they take any number of rows."""


class _Transition:
    """One step of all chains: draws its numbers, and lets paths that have ended leave the batch."""

    def __init__(
        self, step_size: float, parts: _Parts, start: PhasePoint, generator: torch.Generator
    ) -> None:
        self._step_size, self._parts, self._start = step_size, parts, start
        # Chains of one step draw unlike numbers of times; a stream of its own for each step keeps
        # what a chain draws in the next one apart from how long the others grow in this one.
        self._draws = branch(generator)
        self._like = start.state.energy
        self._ended: list[_Path] = []

    def begun(self) -> _Path:
        """The paths of all chains."""
        depths = range(self._parts.doublings_to_begin)
        return self._parts.begun(self._start, *(self._uniforms(2**d + 2) for d in depths))

    def doubled(self, path: _Path, depth: int) -> _Path:
        """The paths with new halves of 2^``depth`` points."""
        num_pieces = 2**depth // self._parts.points_at_once
        if num_pieces > 1:
            path = self._doubled_by_pieces(path, num_pieces)
        else:
            path = self._parts.doubled(path, self._uniforms(2**depth + 2, path.chain))
        return self._staying(path.may_grow, path, ())[0]

    def _doubled_by_pieces(self, path: _Path, num_pieces: int) -> _Path:
        """The same with a look after each piece, whether anything is left to grow."""
        num_points = self._parts.points_at_once
        is_future = self._uniforms(1, path.chain)[0] < 0.5
        half = _opened(path, is_future, self._step_size)
        blocks = Blocks.after(half.end.momentum, num_points)
        for _ in range(num_pieces):
            uniforms = self._uniforms(num_points, path.chain)
            half, tally, piece = self._parts.grown(half, path.tally, path.initial_energy, uniforms)
            path, blocks = path._replace(tally=tally), blocks.with_piece(piece)
            half = half._replace(is_growing=half.is_growing & ~blocks.has_turned())
            path, (is_future, half, blocks) = self._staying(
                half.is_growing, path, (is_future, half, blocks)
            )
            if not bool(half.is_growing.any()):
                break
        return _joined(path, is_future, half, blocks.whole(), self._uniforms(1, path.chain)[0])

    def result(self, path: _Path) -> tuple[GradientState, NUTSInfo]:
        """Where the chains are, and what they saw on the way."""
        if self._ended:
            path = _concatenated([*self._ended, path])
            path = _take(path, path.chain.argsort())
        info = NUTSInfo(
            acceptance_probability=path.tally.acceptance / path.tally.num_points,
            is_divergent=path.tally.is_divergent,
            tree_depth=path.depth,
            num_gradient_evaluations=path.tally.num_points,
            energy=path.proposal.energy,
        )
        return path.proposal.state, info

    def _staying(self, stays: Tensor, path: _Path, others: Any) -> tuple[_Path, Any]:
        """The rows that stay in the batch; the others are remembered as they are."""
        if not self._parts.may_leave:
            return path, others
        num_ended = len(stays) - int(stays.sum())
        if num_ended * _WORTH_LEAVING < len(stays):
            return path, others
        self._ended.append(_take(path, _places(~stays)))
        return _take((path, others), _places(stays))

    def _uniforms(self, count: int, chain: Tensor | None = None) -> Tensor:
        """So many numbers in [0, 1) for each of ``chain``, ``[count, rows]``: drawn for all."""
        size, dtype, device = (count, *self._like.shape), self._like.dtype, self._like.device
        drawn = torch.rand(size, generator=self._draws, dtype=dtype, device=device)
        return drawn if chain is None or len(chain) == len(self._like) else drawn[:, chain]


def _graphs(function: Callable[..., Any], generator: torch.Generator) -> Callable[..., Any]:
    """A function as graphs: one for each number of rows of its last argument, when first asked."""
    graphs: dict[int, FlatGraph] = {}

    def graphed(*inputs: Any) -> Any:
        count = len(inputs[-1])
        if count not in graphs:
            graphs[count] = flat_graph(lambda inputs: function(*inputs), inputs, generator)
        return graphs[count](inputs)

    return graphed


def _log_weight(error: Tensor) -> Tensor:
    """log of exp(H_0 - H)."""
    return -error


def _places(mask: Tensor) -> Tensor:
    return torch.nonzero(mask).squeeze(1)


def _where(condition: Tensor, first: Any, second: Any) -> Any:
    """Rows of ``first`` where the condition holds, of ``second`` elsewhere."""
    return mapped(partial(select, condition), first, second)


def _take(tree: Any, rows: Tensor) -> Any:
    return mapped(lambda tensor: tensor.index_select(0, rows), tree)


def _concatenated(trees: Sequence[Any]) -> Any:
    return mapped(lambda *tensors: torch.cat(tensors), *trees)
