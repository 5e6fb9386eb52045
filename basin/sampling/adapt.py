"""Warm-up: the step size of a kernel is adapted to a target acceptance, then frozen.

Dual averaging (:mod:`basin.mcmc.dual_averaging`) on the acceptance probability averaged over all
chains, so that many chains adapt in few steps. The kernel is never changed: each step uses a copy
made with ``dataclasses.replace``, and the run after warm-up uses the last one, frozen, because
adapting for ever would spoil the target. Cost: one number read from the device a step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from basin.core.types import Kernel
from basin.mcmc.dual_averaging import DualAveraging, DualAveragingState

__all__ = ["StepSizeAdaptation", "is_adaptable"]


def is_adaptable(kernel: Kernel) -> bool:
    """Whether ``kernel`` has a ``step_size`` and the ``target_acceptance`` to adapt it to."""
    return hasattr(kernel, "step_size") and hasattr(kernel, "target_acceptance")


@dataclass(frozen=True)
class StepSizeAdaptation:
    """Adapts ``step_size`` of a kernel; a pure rule, its state is explicit.

    >>> from basin.samplers.mala import MALA
    >>> adaptation = StepSizeAdaptation(0.574)
    >>> state = adaptation.init(MALA(step_size=1.0))
    >>> adaptation.frozen(MALA(step_size=1.0), state)
    MALA(step_size=1.0, target_acceptance=0.574)
    """

    target_acceptance: float

    def init(self, kernel: Any) -> DualAveragingState:
        """State before warm-up, at the kernel's own step size."""
        return self._rule().init(kernel.step_size)

    def update(
        self, kernel: Any, state: DualAveragingState, info: Any
    ) -> tuple[Any, DualAveragingState]:
        """The kernel of the next warm-up step, from the ``info`` of this one."""
        acceptance = float(info.acceptance_probability.mean())
        state = self._rule().update(state, acceptance)
        return replace(kernel, step_size=self._rule().step_size(state)), state

    def frozen(self, kernel: Any, state: DualAveragingState) -> Any:
        """The kernel to use after warm-up, at the averaged step size."""
        return replace(kernel, step_size=self._rule().averaged_step_size(state))

    def _rule(self) -> DualAveraging:
        return DualAveraging(self.target_acceptance)
