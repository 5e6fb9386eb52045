"""log Z by annealed importance sampling, forward, backward, or both.

    forward    x_0 ~ exp(-E_0) / Z_0;   for k = 1..K:  log w += E_{t_{k-1}}(x) - E_{t_k}(x),
               then kernel steps at t_k (none at the end);            E[w] = Z / Z_0
    reverse    x ~ exp(-E_1) / Z;       for k = K..1:  log w += E_{t_k}(x) - E_{t_{k-1}}(x),
               then kernel steps at t_{k-1} (none at the start);      E[w] = Z_0 / Z

Both means are exact for any schedule and any kernels that leave exp(-E_t) alone, so the logarithm
of the forward mean is low in expectation and that of the reverse one high (a bracket). With
reversible kernels the two walks are each other's reversal, and Bennett's acceptance ratio on both
sets of weights is the best that can be made of them.

The stages come from a small run of sequential Monte Carlo on particles of its own, which settles
temperatures, step sizes and coordinates; the walks that count keep them fixed.

Source: Neal 2001, equations 2 to 11; Burda, Grosse & Salakhutdinov 2015 for the reverse bound;
Crooks 2000 and Bennett 1976 for both together.
Cost: a chain and stage: one energy and ``num_moves`` + 1 kernel steps' worth (one energy for each
stage on ``Noised`` instead of the one at both ends); no gradient is kept. The pilot's come on top.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from basin.core.types import Energy, Kernel, Path
from basin.core.validation import all_finite, positive_integer
from basin.partition.annealing import (
    AnnealingSchedule,
    annealed_path,
    log_ratio,
    move,
    require_invariant,
    require_reversible,
    start,
)
from basin.partition.bridge_sampling import bennett_acceptance_ratio
from basin.partition.log_z import LogZ, LogZNotEstimated
from basin.partition.sequential_monte_carlo import choose_schedule
from basin.partition.weights import effective_number, log_z_of_weights

__all__ = [
    "AnnealedWeights",
    "annealed_importance_sampling",
    "forward_annealing",
    "reverse_annealing",
]

_PILOT_ESS = 0.9
_STEPS_A_STAGE = 20  # of the pilot: its log weights then spread by about 0.4 to 1.5, d = 2 to 100


@dataclass(frozen=True, eq=False)
class AnnealedWeights:
    """What walks in one direction bring home.

    Attributes:
        log_weights: ``[chains]`` of float64; exp of them has the mean Z (forward) or 1/Z (reverse).
        positions: where the chains ended, ``[chains, *event]``.
        is_reverse: the walk went from the target to the base.
        num_divergent: transitions that were not finite, and rejected.
        num_stages: K.
        log_weights_at: ``[stages, chains]``, the same at each t on the way, first that of the
            start; exp of a row has the mean Z at its t. Empty for reverse walks.
    """

    log_weights: Tensor
    positions: Tensor
    is_reverse: bool
    num_divergent: int
    num_stages: int
    log_weights_at: Tensor

    @property
    def effective_sample_size(self) -> float:
        """(Σ w)² / Σ w²."""
        return effective_number(self.log_weights)

    def log_z(self, *, level: float = 0.95, minimum_effective_sample_size: float = 10.0) -> LogZ:
        """log Z from this direction alone; see :func:`basin.partition.log_z_of_weights`.

        Raises:
            LogZNotEstimated: the effective sample size collapsed.
        """
        direction = "reverse" if self.is_reverse else "forward"
        return log_z_of_weights(
            self.log_weights,
            method=f"annealed importance sampling ({direction}), {len(self.log_weights):,} chains, "
            f"{self.num_stages:,} temperatures",
            raise_what="num_times (temperatures) first, then num_moves or num_chains",
            minimum_effective_sample_size=minimum_effective_sample_size,
            is_reverse=self.is_reverse,
            level=level,
        )


def annealed_importance_sampling(
    energy_or_path: Energy | Path,
    kernel: Kernel,
    *,
    base: Any = None,
    num_chains: int = 256,
    num_times: int | None = None,
    num_moves: int = 1,
    schedule: AnnealingSchedule | None = None,
    target_draws: Tensor | None = None,
    generator: torch.Generator,
    level: float = 0.95,
    minimum_effective_sample_size: float = 10.0,
) -> LogZ:
    """log Z of an energy, or of the end of a path.

    Args:
        energy_or_path: target, or a path to it.
        kernel: leaves exp(-E) alone (``Kernel.is_exact``); a reversible one (MALA, HMC, NUTS, Gibbs
            but for its systematic scan) where ``target_draws`` are given.
        base: energy with exact draws ``sample(n, generator)`` and ``log_z``; None when path(0) is
            one.
        num_chains: independent walks, forward.
        num_times: K, steps of t; None: twenty times those that the pilot took.
        num_moves: kernel steps at each stage.
        schedule: a fixed one, instead of the pilot's.
        target_draws: ``[n, *event]`` exact or long-run draws of the target. With them there are n
            reverse walks too, and the answer combines both directions. They must be independent of
            each other, and of the target: from wrong draws comes a wrong log Z, and the only guard
            is that the two directions must then agree.
        generator: source of all draws.
        level: probability of the interval.
        minimum_effective_sample_size: of forward weights alone; fewer are refused.

    Returns:
        A :class:`LogZ` of kind ``"interval"``.

    Raises:
        LogZNotEstimated: the weights collapsed, or the directions contradict each other; the
            message says what to raise.

    Example:
        >>> import torch
        >>> from basin.energies import Gaussian
        >>> from basin.samplers import MALA
        >>> found = annealed_importance_sampling(
        ...     lambda x: 2 * x.square().sum(1), MALA(), base=Gaussian([0.0] * 2, torch.eye(2)),
        ...     generator=torch.Generator().manual_seed(0))
        >>> found.lower < torch.log(torch.tensor(torch.pi / 2)) < found.upper
        tensor(True)
    """
    require_invariant(kernel)
    positive_integer(num_chains=num_chains, num_moves=num_moves)
    path = annealed_path(energy_or_path, base)
    if schedule is None:
        pilot = choose_schedule(
            path, kernel, num_moves=2, conditional_ess=_PILOT_ESS, generator=generator
        )
        count = _STEPS_A_STAGE * (len(pilot.stages) - 1) if num_times is None else num_times
        schedule = pilot.with_num_times(count, num_moves)
    if target_draws is not None:
        for stage in schedule.stages:
            require_reversible(stage.kernel)
    forward = forward_annealing(path, schedule, num_chains, generator)
    if target_draws is None:
        return forward.log_z(
            level=level, minimum_effective_sample_size=minimum_effective_sample_size
        )
    reverse = reverse_annealing(path, schedule, target_draws, generator)
    return both_directions(path, forward, reverse, level=level)


@torch.no_grad()
def forward_annealing(
    path: Path, schedule: AnnealingSchedule, num_chains: int, generator: torch.Generator
) -> AnnealedWeights:
    """Walks from exact draws of path(0); their weights have the mean Z."""
    positive_integer(num_chains=num_chains)
    x, log_z_base = start(path, num_chains, generator)
    log_weights = torch.full((num_chains,), log_z_base, dtype=torch.float64, device=x.device)
    num_divergent, history = 0, [log_weights]
    for here, there in schedule.pairs():
        energies = path.along(x)
        log_weights = log_weights + log_ratio(energies(here.time), energies(there.time))
        history.append(log_weights)
        if there.time < 1:
            x, _, divergent = move(path, there, x, schedule.num_moves, generator)
            num_divergent += divergent
    count = len(schedule.stages) - 1
    return AnnealedWeights(log_weights, x, False, num_divergent, count, torch.stack(history).cpu())


@torch.no_grad()
def reverse_annealing(
    path: Path, schedule: AnnealingSchedule, target_draws: Tensor, generator: torch.Generator
) -> AnnealedWeights:
    """Walks from draws of the target, ``[chains, *event]``; their weights have the mean 1/Z.

    Exactly so for exact draws. Draws that miss a part of the target give a mean above 1/Z.
    """
    all_finite("target_draws", target_draws)
    base: Any = path(0.0)
    x = target_draws.detach().clone()
    log_weights = torch.full((len(x),), -float(base.log_z), dtype=torch.float64, device=x.device)
    num_divergent = 0
    for here, there in reversed(list(schedule.pairs())):
        energies = path.along(x)
        log_weights += log_ratio(energies(there.time), energies(here.time))
        if here.time > 0:
            x, _, divergent = move(path, here, x, schedule.num_moves, generator)
            num_divergent += divergent
    count = len(schedule.stages) - 1
    return AnnealedWeights(log_weights, x, True, num_divergent, count, torch.empty(0, len(x)))


def both_directions(
    path: Path, forward: AnnealedWeights, reverse: AnnealedWeights, *, level: float = 0.95
) -> LogZ:
    """Bennett's acceptance ratio on both, after a look whether they agree at all.

    Raises:
        LogZNotEstimated: log Z of the reverse walks lies below that of the forward ones by more
            than chance allows, or they do not overlap. Without an error of the draws the reverse
            value is the higher one.
    """
    alone = {"level": 0.9999, "minimum_effective_sample_size": 1.0}
    up, down = forward.log_z(**alone), reverse.log_z(**alone)
    if up.lower > down.upper or up.upper < down.lower:
        raise LogZNotEstimated(
            f"forward and reverse walks must agree, got log Z = {up.log_z:.3f} "
            f"({up.lower:.3f} to {up.upper:.3f}) forward and {down.log_z:.3f} "
            f"({down.lower:.3f} to {down.upper:.3f}) reverse; raise num_times, or the draws of the "
            "target are not of it: run their chains for longer"
        )
    base: Any = path(0.0)
    log_z_base = float(base.log_z)
    return bennett_acceptance_ratio(
        forward.log_weights - log_z_base,
        reverse.log_weights + log_z_base,
        log_z_base=log_z_base,
        method=f"annealed importance sampling (both directions), {len(forward.log_weights):,} + "
        f"{len(reverse.log_weights):,} chains, {forward.num_stages:,} temperatures",
        raise_what="num_times (temperatures) first, then num_chains",
        level=level,
    )
