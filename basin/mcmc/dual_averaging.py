"""Nesterov's dual averaging of a log step size towards a target acceptance.

    H_t     = (1 - 1/(t + t0)) H_{t-1} + (target - acceptance_t) / (t + t0)
    log e_t = mu - sqrt(t) / gamma * H_t              mu = log(10 e_0)
    log ebar_t = t^-kappa log e_t + (1 - t^-kappa) log ebar_{t-1}

Source: Hoffman & Gelman 2014, section 3.2, with their gamma = 0.05, t0 = 10, kappa = 0.75. The
averaged step ebar is the one to freeze. Plain numbers and no tensors: it costs nothing beside a
step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from basin.core.validation import in_unit_interval, positive

__all__ = ["DualAveraging", "DualAveragingState"]

_LARGEST_LOG = math.log(1e30)  # float32 ends at 3e38: a flat energy must not overflow the step


class DualAveragingState(NamedTuple):
    """All that the next update needs."""

    log_step_size: float
    log_average: float
    mean_error: float
    count: int
    shrinkage_point: float


@dataclass(frozen=True)
class DualAveraging:
    """Step-size adaptation towards ``target_acceptance`` in (0, 1).

    >>> rule = DualAveraging(0.574)
    >>> state = rule.init(0.1)
    >>> rule.step_size(rule.update(state, 0.9)) > 0.1
    True
    """

    target_acceptance: float
    regularisation: float = 0.05
    stabilisation: float = 10.0
    forgetting: float = 0.75

    def __post_init__(self) -> None:
        in_unit_interval(target_acceptance=self.target_acceptance, forgetting=self.forgetting)
        positive(
            target_acceptance=self.target_acceptance,
            regularisation=self.regularisation,
            stabilisation=self.stabilisation,
        )

    def init(self, step_size: float) -> DualAveragingState:
        """State before the first update, at ``step_size``."""
        positive(step_size=step_size)
        start = math.log(step_size)
        return DualAveragingState(start, start, 0.0, 0, math.log(10 * step_size))

    def update(self, state: DualAveragingState, acceptance: float) -> DualAveragingState:
        """Next state, from the acceptance probability of one step (the mean over chains)."""
        count = state.count + 1
        weight = 1 / (count + self.stabilisation)
        error = (1 - weight) * state.mean_error + weight * (self.target_acceptance - acceptance)
        log_step = state.shrinkage_point - math.sqrt(count) / self.regularisation * error
        log_step = min(max(log_step, -_LARGEST_LOG), _LARGEST_LOG)
        memory = count**-self.forgetting
        average = memory * log_step + (1 - memory) * state.log_average
        return DualAveragingState(log_step, average, error, count, state.shrinkage_point)

    def step_size(self, state: DualAveragingState) -> float:
        """The step to try next."""
        return math.exp(state.log_step_size)

    def averaged_step_size(self, state: DualAveragingState) -> float:
        """The step to freeze when adaptation ends."""
        return math.exp(state.log_average)
