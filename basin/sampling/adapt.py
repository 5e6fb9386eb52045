"""Warm-up: the step size and the metric of a kernel are adapted, then frozen.

    step size   to a target acceptance, by dual averaging (:mod:`basin.mcmc.dual_averaging`) on the
                acceptance probability averaged over all chains, so that many chains adapt in few
                steps; begun anew, from a step found by doubling, with each new metric
                Before the first window, chains that no step of this size can move (far out, where
                the energy is steep) speak for all: a mean would leave a few of them behind.
    metric      to the covariance of the target, from the draws of all chains in windows of
                doubling length (:mod:`basin.sampling.windows`), for a kernel whose
                ``inverse_mass`` is one that is learned

A kernel around another one (``ParallelTempering``, ``Reflected``) has the one inside it adapted, by
the acceptance and the positions that it hands on.

Source: Stan reference manual, "HMC algorithm parameters"; Hoffman & Gelman 2014, algorithm 4 for
the first step. The kernel is never changed: each step uses a copy made with
``dataclasses.replace``, and the run after warm-up uses the last one, frozen, because adapting for
ever would spoil the target. Cost: one number read from the device a step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from basin.core.types import Energy, Kernel
from basin.mcmc.dual_averaging import DualAveraging, DualAveragingState
from basin.mcmc.running_moments import RunningMoments
from basin.sampling.windows import slow_windows

__all__ = [
    "Adaptation",
    "AdaptationState",
    "StepSizeAdaptation",
    "adaptable_part",
    "first_step_size",
    "is_adaptable",
]

# A chain is stuck after five steps in a row with less than one chance in a hundred each. At rest,
# with a tenth of the proposals lost at a wall, that happens once in 100,000 steps.
_HOPELESS_PROBABILITY, _HOPELESS_STEPS = 0.01, 5
_MOST_DOUBLINGS = 50  # a factor of 1e15: a flat energy accepts any step


def is_adaptable(kernel: Kernel) -> bool:
    """Whether ``kernel`` has a ``step_size`` and the ``target_acceptance`` to adapt it to."""
    return hasattr(kernel, "step_size") and hasattr(kernel, "target_acceptance")


def adaptable_part(kernel: Any) -> Any:
    """What warm-up adapts: ``kernel`` itself, or the one inside it; None where there is nothing.

    >>> from basin.samplers import HMC, MALA, Langevin, Reflected
    >>> adaptable_part(Reflected(MALA(0.5))).step_size
    0.5
    >>> adaptable_part(Reflected(Langevin())) is None
    True
    """
    if is_adaptable(kernel):
        return kernel
    inner = getattr(kernel, "kernel", None)
    return None if inner is None else adaptable_part(inner)


class AdaptationState(NamedTuple):
    """All that the next warm-up step needs."""

    step: int
    step_size: DualAveragingState
    num_hopeless: Tensor
    """Steps in a row in which a chain had no chance to move, ``[chains]``."""
    moments: RunningMoments | None


@dataclass(frozen=True)
class Adaptation:
    """Adapts the step size of a kernel, and its metric; a pure rule, its state is explicit.

    Args:
        num_warmup: how many steps there are; the windows follow from it.
        target_acceptance: in (0, 1).
    """

    num_warmup: int
    target_acceptance: float

    def init(
        self, energy: Energy, kernel: Any, state: Any, generator: Generator
    ) -> tuple[Any, AdaptationState]:
        """The kernel of the first warm-up step, and the state before it."""
        part = adaptable_part(kernel)
        if _learns_metric(part) or hasattr(part, "shortest"):
            kernel = _with_first_step_size(energy, kernel, state, generator)
        num_hopeless = torch.zeros(
            len(state.position), dtype=torch.long, device=state.position.device
        )
        return kernel, AdaptationState(0, self._step_size().init(kernel), num_hopeless, None)

    def update(
        self,
        energy: Energy,
        kernel: Any,
        adaptation: AdaptationState,
        state: Any,
        info: Any,
        generator: Generator,
    ) -> tuple[Any, AdaptationState]:
        """The kernel of the next warm-up step, from the ``state`` and ``info`` after this one."""
        step = adaptation.step + 1
        probability = info.acceptance_probability
        is_hopeless = probability < _HOPELESS_PROBABILITY
        num_hopeless = torch.where(is_hopeless, adaptation.num_hopeless + 1, 0)
        if step < self._first_slow_step():
            is_stuck = num_hopeless >= _HOPELESS_STEPS
            probability = probability[is_stuck] if bool(is_stuck.any()) else probability
        rule, acceptance = self._step_size(), float(probability.mean())
        kernel, step_size = rule.with_acceptance(kernel, adaptation.step_size, acceptance)
        part: Any = adaptable_part(kernel)
        moments, window = None, self._window_of(part, step)
        if window is not None:
            moments = adaptation.moments or part.inverse_mass.moments(state.position)
            moments = moments.with_rows(state.position)
        if window is not None and moments is not None and step == window[-1]:
            learned = part.inverse_mass.learned(moments, state.position)
            kernel = rule.frozen(_with_part(kernel, inverse_mass=learned), step_size)
            kernel = _with_first_step_size(energy, kernel, state, generator)
            step_size, moments = rule.init(kernel), None
        return kernel, AdaptationState(step, step_size, num_hopeless, moments)

    def frozen(self, kernel: Any, adaptation: AdaptationState) -> Any:
        """The kernel to use after warm-up: the last metric, the averaged step size."""
        return self._step_size().frozen(kernel, adaptation.step_size)

    def _first_slow_step(self) -> int:
        windows = slow_windows(self.num_warmup)
        return windows[0][0] if windows else self.num_warmup + 1

    def _window_of(self, kernel: Any, step: int) -> range | None:
        if not _learns_metric(kernel):
            return None
        return next((w for w in slow_windows(self.num_warmup) if step in w), None)

    def _step_size(self) -> StepSizeAdaptation:
        return StepSizeAdaptation(self.target_acceptance)


@dataclass(frozen=True)
class StepSizeAdaptation:
    """Adapts ``step_size`` of a kernel; a pure rule, its state is explicit.

    >>> from basin.samplers.mala import MALA
    >>> adaptation = StepSizeAdaptation(0.574)
    >>> state = adaptation.init(MALA(step_size=1.0))
    >>> adaptation.frozen(MALA(step_size=1.0), state).step_size
    1.0
    """

    target_acceptance: float

    def init(self, kernel: Any) -> DualAveragingState:
        """State before warm-up, at the kernel's own step size."""
        return self._rule().init(adaptable_part(kernel).step_size)

    def update(
        self, kernel: Any, state: DualAveragingState, info: Any
    ) -> tuple[Any, DualAveragingState]:
        """The kernel of the next warm-up step, from the ``info`` of this one."""
        return self.with_acceptance(kernel, state, float(info.acceptance_probability.mean()))

    def with_acceptance(
        self, kernel: Any, state: DualAveragingState, acceptance: float
    ) -> tuple[Any, DualAveragingState]:
        """The same from an acceptance in [0, 1] that was settled on otherwise."""
        state = self._rule().update(state, acceptance)
        return _with_part(kernel, step_size=self._rule().step_size(state)), state

    def frozen(self, kernel: Any, state: DualAveragingState) -> Any:
        """The kernel to use after warm-up, at the averaged step size."""
        return _with_part(kernel, step_size=self._rule().averaged_step_size(state))

    def _rule(self) -> DualAveraging:
        return DualAveraging(self.target_acceptance)


def first_step_size(energy: Energy, kernel: Any, state: Any, generator: Generator) -> float:
    """A step at which the acceptance of one move crosses the target, found by doubling or halving.

    Args:
        energy: callable ``[chains, *event] -> [chains]``.
        kernel: where to start from; one whose transitions are long makes the moves with its
            ``shortest()``, of one leapfrog step.
        state: of the chains; it is left where it is.
        generator: source of the moves' noise.

    Source: Hoffman & Gelman 2014, algorithm 4, with the mean over the chains for the acceptance and
    the kernel's target for their 1/2, as in Stan. Cost: one move for each factor of two.
    """
    part = adaptable_part(kernel)
    probe = part.shortest() if hasattr(part, "shortest") else part
    step_size = part.step_size

    def is_accepted() -> bool:
        probing = _around(kernel, replace(probe, step_size=step_size))
        _, info = probing.step(energy, state, generator)
        return float(info.acceptance_probability.mean()) > part.target_acceptance

    was_accepted = is_accepted()
    for _ in range(_MOST_DOUBLINGS):
        step_size *= 2.0 if was_accepted else 0.5
        if is_accepted() != was_accepted:
            break
    return step_size


def _with_first_step_size(energy: Energy, kernel: Any, state: Any, generator: Generator) -> Any:
    return _with_part(kernel, step_size=first_step_size(energy, kernel, state, generator))


def _with_part(kernel: Any, **changes: Any) -> Any:
    """The kernel with its adaptable part changed."""
    return _around(kernel, replace(adaptable_part(kernel), **changes))


def _around(kernel: Any, part: Any) -> Any:
    """The kernel with ``part`` in the place of its adaptable part."""
    if is_adaptable(kernel):
        return part
    return replace(kernel, kernel=_around(kernel.kernel, part))


def _learns_metric(kernel: Any) -> bool:
    return hasattr(kernel, "inverse_mass") and kernel.inverse_mass.is_learned
