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
more. Turning is that of :mod:`basin.mcmc.u_turn`, with Stan's checks across subtrees. The recursion
is unrolled as in Phan, Pradhan & Jankowiak 2019 (arXiv 1912.11554), appendix A: of the points of
a doubling those are kept at which an unfinished block began, at most one for each level.

All chains double in step, each in its own direction; a chain that has stopped is taken out of the
batch, and its energy is evaluated no more. Leaves exp(-E) / Z exactly invariant, whatever step and
metric. Cost: up to 2^``max_depth`` - 1 scores and energies a step, as many as
``num_gradient_evaluations`` says; memory for about 3 ``max_depth`` points a chain.
"""

from __future__ import annotations

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
from basin.mcmc.u_turn import MomentumPath, has_turned, is_joint_turning

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


class _Path(NamedTuple):
    """A path that may still grow, one row for each chain that has one."""

    rows: Tensor
    """Which chain."""
    past: PhasePoint
    future: PhasePoint
    total_momentum: Tensor
    log_weight: Tensor
    """log of the sum of exp(H_0 - H) over its points."""

    @classmethod
    def of(cls, start: PhasePoint) -> _Path:
        """The path of one point for each chain."""
        energies = start.state.energy
        rows = torch.arange(len(energies), device=energies.device)
        return cls(rows, start, start, start.momentum, torch.zeros_like(energies))


class _Draw(NamedTuple):
    """A point that may become the next draw, and its H."""

    state: GradientState
    energy: Tensor


class _Half(NamedTuple):
    """The new half of a path, from the joint on."""

    first_momentum: Tensor
    end: PhasePoint
    total_momentum: Tensor
    log_weight: Tensor
    proposal: _Draw
    """One of its points, drawn with weights exp(-H)."""

    def momenta(self) -> MomentumPath:
        return MomentumPath(self.first_momentum, self.end.momentum, self.total_momentum)


class _Opening(NamedTuple):
    """Where a block of points begins: what :func:`is_joint_turning` will ask of it."""

    momentum: Tensor
    momentum_before: Tensor
    """That of the point before it, the last one of the block before."""
    total_before: Tensor
    """Sum of the momenta of all points before it."""

    def until(self, following: _Opening) -> MomentumPath:
        """The block from here to just before ``following``."""
        total = following.total_before - self.total_before
        return MomentumPath(self.momentum, following.momentum_before, total)


class _Transition:
    """One step of all chains: where they have got to, what they have seen, and how paths grow."""

    def __init__(
        self, kernel: NUTS, energy: Energy, start: PhasePoint, generator: torch.Generator
    ) -> None:
        self._kernel, self._energy = kernel, energy
        # Chains of one step draw unlike numbers of times; a stream of its own for each step keeps
        # what a chain draws in the next one apart from how long the others grow in this one.
        self._draws = branch(generator)
        self._initial_energy = hamiltonian(start)
        self._proposal = GradientState(*(field.clone() for field in start.state))
        self._proposed_energy = self._initial_energy.clone()
        self._num_points = torch.zeros_like(self._initial_energy, dtype=torch.long)
        self._depth = torch.zeros_like(self._num_points)
        self._acceptance = torch.zeros_like(self._initial_energy)
        self._is_divergent = torch.zeros_like(self._num_points, dtype=torch.bool)

    def doubled(self, path: _Path, depth: int) -> _Path | None:
        """The paths that go on after the doubling, or None when all have stopped."""
        is_future = self._uniform(path.rows) < 0.5
        direction = torch.where(is_future, 1.0, -1.0).to(path.log_weight.dtype)
        joint = _where(is_future, path.future, path.past)
        grown = self._grown(path.rows, joint, direction, depth)
        if grown is None:
            return None
        kept, half = grown
        path, is_future, joint = _take((path, is_future, joint), kept)
        self._propose(path, half)
        self._depth[path.rows] += 1

        origin = _where(is_future, path.past.momentum, path.future.momentum)
        before = MomentumPath(origin, joint.momentum, path.total_momentum)
        is_turning = is_joint_turning(before, half.momenta())
        whole = _Path(
            path.rows,
            _where(is_future, path.past, half.end),
            _where(is_future, half.end, path.future),
            path.total_momentum + half.total_momentum,
            torch.logaddexp(path.log_weight, half.log_weight),
        )
        goes_on = torch.nonzero(~is_turning).squeeze(1)
        return _take(whole, goes_on) if len(goes_on) else None

    def result(self) -> tuple[GradientState, NUTSInfo]:
        """Where the chains are, and what they saw on the way."""
        info = NUTSInfo(
            acceptance_probability=self._acceptance / self._num_points,
            is_divergent=self._is_divergent,
            tree_depth=self._depth,
            num_gradient_evaluations=self._num_points,
            energy=self._proposed_energy,
        )
        return self._proposal, info

    def _grown(
        self, rows: Tensor, joint: PhasePoint, direction: Tensor, depth: int
    ) -> tuple[Tensor, _Half] | None:
        """New halves of 2^depth points, and which of ``rows`` they belong to.

        Those that diverged or turned within themselves are not among them: a path that could not
        have been grown from each of its points has no place in a reversible step.
        """
        kept = torch.arange(len(rows), device=rows.device)
        step_size = self._kernel.step_size * direction
        initial_energy = self._initial_energy[rows]
        is_growing = torch.ones_like(rows, dtype=torch.bool)
        openings: dict[int, _Opening] = {}
        half: _Half | None = None
        point = joint
        for index in range(2**depth):
            before = joint.momentum if half is None else half.end.momentum
            total_before = torch.zeros_like(before) if half is None else half.total_momentum
            point = leapfrog(self._energy, point, step_size, self._kernel.inverse_mass)
            openings[index] = _Opening(point.momentum, before, total_before)
            energies = hamiltonian(point)
            error = energies - initial_energy
            is_divergent = has_diverged(error)
            self._see(rows, is_growing, error, is_divergent)
            half = self._with_point(half, point, _Draw(point.state, energies), -error, rows)
            is_growing = is_growing & ~is_divergent & ~_turns_back(openings, half, index)

            num_stopped = len(rows) - int(is_growing.sum())
            if num_stopped == len(rows):
                return None
            is_last = index == 2**depth - 1
            if num_stopped and (is_last or num_stopped * _WORTH_LEAVING >= len(rows)):
                stay = torch.nonzero(is_growing).squeeze(1)
                kept, rows, step_size, initial_energy, is_growing, openings, half, point = _take(
                    (kept, rows, step_size, initial_energy, is_growing, openings, half, point), stay
                )
            openings = {
                start: opening
                for start, opening in openings.items()
                if any(start == _block_start(index + 1, level) for level in range(depth + 1))
            }
        assert half is not None
        return kept, half

    def _see(self, rows: Tensor, is_growing: Tensor, error: Tensor, is_divergent: Tensor) -> None:
        """Count a point for the chains that were still growing when they came to it."""
        probability = (-error).clamp(max=0.0).exp().masked_fill(is_divergent, 0.0)
        self._num_points[rows] += is_growing
        self._acceptance[rows] += probability * is_growing
        self._is_divergent[rows] |= is_divergent & is_growing

    def _with_point(
        self,
        half: _Half | None,
        point: PhasePoint,
        draw: _Draw,
        log_weight: Tensor,
        rows: Tensor,
    ) -> _Half:
        """The half with one more point, which is proposed with its share of the weights."""
        if half is None:
            return _Half(point.momentum, point, point.momentum, log_weight, draw)
        total = torch.logaddexp(half.log_weight, log_weight)
        is_chosen = self._uniform(rows) < (log_weight - total).exp()
        return _Half(
            half.first_momentum,
            point,
            half.total_momentum + point.momentum,
            total,
            _where(is_chosen, draw, half.proposal),
        )

    def _propose(self, path: _Path, half: _Half) -> None:
        """Biased progression: on to the new half if it weighs more, else by the ratio."""
        is_chosen = self._uniform(path.rows) < (half.log_weight - path.log_weight).exp()
        chains = path.rows[is_chosen]
        for kept, new in zip(self._proposal, half.proposal.state, strict=True):
            kept[chains] = new[is_chosen]
        self._proposed_energy[chains] = half.proposal.energy[is_chosen]

    def _uniform(self, rows: Tensor) -> Tensor:
        """A number in [0, 1) for each of ``rows``, drawn for all chains."""
        like = self._initial_energy
        size, dtype, device = like.shape, like.dtype, like.device
        return torch.rand(size, generator=self._draws, dtype=dtype, device=device)[rows]


def _turns_back(openings: dict[int, _Opening], half: _Half, index: int) -> Tensor:
    """Whether a block of 2^k points that ends at point ``index`` has turned, ``[rows]``.

    Blocks are those of the recursion: the points from a multiple of 2^k to the next.
    """
    following = _Opening(half.end.momentum, half.end.momentum, half.total_momentum)
    is_back = torch.zeros_like(half.log_weight, dtype=torch.bool)
    level = 1
    while (index + 1) % 2**level == 0:
        start = openings[_block_start(index, level)]
        middle = openings[_block_start(index, level - 1)]
        if level == 1:  # two points: there is nothing to be asked across the joint
            is_turning = has_turned(start.until(following))
        else:
            is_turning = is_joint_turning(start.until(middle), middle.until(following))
        is_back = is_back | is_turning
        level += 1
    return is_back


def _block_start(index: int, level: int) -> int:
    """The first point of the block of 2^level points that ``index`` lies in."""
    return index - index % 2**level


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
    items = [_take(item, rows) for item in value]
    return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
