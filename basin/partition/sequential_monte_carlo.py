"""log Z by sequential Monte Carlo along a path, and particles of its end.

    x_i ~ exp(-E_0) / Z_0;   for t_0 = 0 < ... < t_K = 1:
        w_i ← w_i exp(E_{t_{k-1}}(x_i) - E_{t_k}(x_i)),     choose t_k so that CESS = c n
        resample an island whose ESS fell below half,       systematically
        x_i ← ``num_moves`` kernel steps at t_k             step size and coordinates adapted
    Ẑ / Z_0 = Π (mean weight between resamplings)

    CESS = n (Σ W w)² / Σ W w²        the conditional effective sample size of one step

The particles live on islands that do not meet, so that their estimates Ẑ_r are independent: log Z
is that of their mean, and its interval Student's t on them. All islands share one schedule.

Source: Del Moral, Doucet & Jasra 2006, algorithm 3.1.1 with the weights of their equation 31; Zhou,
Johansen & Aston 2016, section 3.3 (CESS); Whiteley, Lee & Heine 2016 on islands. With a schedule
that is given Ẑ is unbiased. One chosen on the way by the particles themselves ties the kernel to
the very points that it moves: in 100 dimensions, with a dense metric from 1,024 particles, log Ẑ
was 3.2 nats too high. So ``sequential_monte_carlo`` runs twice: a pilot that chooses, and other
particles that count.
Cost: a particle and stage: one energy for the weight, one to begin and ``num_moves`` for the kernel
(of one gradient a step); the same and a score for each particle of the pilot. On a path whose ends
are not fixed (``Noised``) two for a weight, and in the pilot one for each t that is tried.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from basin.core.gradients import score
from basin.core.types import Energy, Kernel, Path
from basin.core.validation import in_unit_interval, positive, positive_integer
from basin.mcmc.coordinates import Coordinates
from basin.partition.annealing import (
    AnnealingSchedule,
    Stage,
    annealed_path,
    log_ratio,
    move,
    require_invariant,
    start,
)
from basin.partition.log_z import LogZ, LogZNotEstimated
from basin.partition.weights import effective_number, log_z_of_weights
from basin.sampling.adapt import is_adaptable

__all__ = [
    "Particles",
    "anneal_particles",
    "choose_schedule",
    "sequential_monte_carlo",
    "systematic_resampling",
]

_WARM_UP = 20  # moves at t = 0, on exact draws, that tune the step: they leave the law alone
_GAIN = 2.0  # log step a unit of acceptance: near the slope of MALA's acceptance, averaged over all
_MOST_STAGES = 10_000
_RESAMPLE_BELOW = 0.5  # of an island's particles
_TRIES = 12  # for each t; the first or second is good enough as a rule
_PILOT_ISLANDS = 8
_FEWEST_PILOTS, _MOST_PILOTS, _PILOTS_A_DIMENSION = 256, 2048, 8  # 8 d particles: a dense metric


@dataclass(frozen=True, eq=False)
class Particles:
    """A weighted cloud at the end of a path, and the mass found on the way.

    Attributes:
        positions: ``[n, *event]``, island by island.
        log_weights: ``[n]`` of float64; exp of them has the mean Z over everything.
        log_z_at: ``[stages, islands]`` of float64, log Ẑ at each stage's t.
        schedule: the stages as they were chosen.
        acceptance: mean acceptance of the moves at each stage; NaN where none is defined.
        num_divergent: transitions that were not finite, and rejected.
        num_energies: evaluations of the path's energy for each particle, gradients included.
    """

    positions: Tensor
    log_weights: Tensor
    log_z_at: Tensor
    schedule: AnnealingSchedule
    acceptance: tuple[float, ...]
    num_divergent: int
    num_energies: int

    @property
    def effective_sample_size(self) -> float:
        """Of the weights at the end."""
        return effective_number(self.log_weights)

    def log_z(self, stage: int = -1, *, level: float = 0.95) -> LogZ:
        """log Z at a stage (the last one by default), its interval from the islands.

        Raises:
            LogZNotEstimated: the islands do not agree.
        """
        islands = self.log_z_at[stage]
        num_particles = len(self.log_weights)
        method = (
            f"sequential Monte Carlo, {num_particles:,} particles on {len(islands)} islands, "
            f"{len(self.schedule.stages) - 1} temperatures"
        )
        found = log_z_of_weights(
            islands,
            method=method,
            raise_what="num_particles or num_moves",
            minimum_effective_sample_size=len(islands) / 2,
            level=level,
        )
        return replace(found, effective_sample_size=self._number(islands))

    def draws(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` unweighted positions ``[n, *event]``, resampled by their weights."""
        return self.positions[systematic_resampling(self.log_weights, generator, n)]

    def _number(self, islands: Tensor) -> float:
        """Independent weights with the same relative error as the estimate: n at the very best."""
        count = len(islands)
        variance = (1 / effective_number(islands) - 1 / count) * count / (count - 1)
        most = len(self.log_weights)
        return most if variance <= 1 / most else 1 / variance


def systematic_resampling(
    log_weights: Tensor, generator: torch.Generator, n: int | None = None
) -> Tensor:
    """Indices ``[..., n]`` drawn in proportion to the weights: each at least floor(n W) times.

        i-th index: the first whose cumulated weight exceeds (i + u) / n,  u uniform

    Source: Kitagawa 1996; Douc & Cappé 2005. Each expected count is n W exactly.

    Args:
        log_weights: ``[..., m]``, not all minus infinity; each row is drawn by itself.
        generator: source of u, one for each row.
        n: indices of a row; None: m.

    >>> import torch
    >>> weights = torch.tensor([0.5, 0.0, 0.25, 0.25]).log()
    >>> systematic_resampling(weights, torch.Generator().manual_seed(0)).tolist()
    [0, 0, 2, 3]
    """
    n = log_weights.shape[-1] if n is None else n
    rows, device = log_weights.shape[:-1], log_weights.device
    edges = torch.softmax(log_weights.double(), -1).cumsum(-1)
    u = torch.rand((*rows, 1), generator=generator, dtype=torch.float64, device=generator.device)
    points = (torch.arange(n, dtype=torch.float64, device=device) + u.to(device)) / n
    found = torch.searchsorted(edges, points * edges[..., -1:], right=True)
    # rounding must not go beyond the last one that has a weight
    places = torch.arange(log_weights.shape[-1], device=device)
    last = places.where(torch.isfinite(log_weights), 0).amax(-1, keepdim=True)
    return torch.minimum(found, last)


def sequential_monte_carlo(
    energy_or_path: Energy | Path,
    kernel: Kernel,
    *,
    base: Any = None,
    num_particles: int = 1024,
    num_islands: int = 16,
    num_moves: int = 3,
    conditional_ess: float = 0.95,
    schedule: AnnealingSchedule | None = None,
    generator: torch.Generator,
    level: float = 0.95,
) -> LogZ:
    """log Z of an energy, or of the end of a path.

    Args:
        energy_or_path, kernel, base, generator: as for :func:`anneal_particles`.
        num_particles, num_islands, num_moves: of the run that counts.
        conditional_ess: c of the pilot, which chooses the stages (:func:`choose_schedule`).
        schedule: a fixed one, instead of a pilot.
        level: probability of the interval.

    Returns:
        A :class:`LogZ` of kind ``"interval"``.

    Raises:
        LogZNotEstimated: the islands do not agree; the message says what to raise.

    Example:
        >>> import torch
        >>> from basin.energies import Gaussian
        >>> from basin.samplers import MALA
        >>> found = sequential_monte_carlo(
        ...     lambda x: 2 * x.square().sum(1), MALA(), base=Gaussian([0.0] * 2, torch.eye(2)),
        ...     num_particles=512, generator=torch.Generator().manual_seed(0))
        >>> found.lower < torch.log(torch.tensor(torch.pi / 2)) < found.upper
        tensor(True)
    """
    path = annealed_path(energy_or_path, base)
    if schedule is None:
        schedule = choose_schedule(
            path,
            kernel,
            num_moves=num_moves,
            conditional_ess=conditional_ess,
            generator=generator,
        )
    particles = anneal_particles(
        path,
        kernel,
        num_particles=num_particles,
        num_islands=num_islands,
        schedule=schedule,
        generator=generator,
    )
    return particles.log_z(level=level)


def choose_schedule(
    energy_or_path: Energy | Path,
    kernel: Kernel,
    *,
    base: Any = None,
    num_particles: int | None = None,
    num_moves: int = 3,
    conditional_ess: float = 0.95,
    generator: torch.Generator,
) -> AnnealingSchedule:
    """Temperatures, step sizes and coordinates for a walk, from a run that is not used for more.

    Args:
        energy_or_path, kernel, base, num_moves, conditional_ess, generator: as for
            :func:`anneal_particles`.
        num_particles: of the pilot; None takes 8 for each dimension, from 256 to 2,048 (256 for
            a kernel that has nothing to adapt).
    """
    path = annealed_path(energy_or_path, base)
    if num_particles is None and not is_adaptable(kernel):
        num_particles = _FEWEST_PILOTS  # no metric to learn
    elif num_particles is None:
        wanted = _PILOTS_A_DIMENSION * math.prod(start(path, 1, _copy(generator))[0].shape[1:])
        num_particles = min(_MOST_PILOTS, max(_FEWEST_PILOTS, wanted))
    pilot = anneal_particles(
        path,
        kernel,
        num_particles=num_particles - num_particles % _PILOT_ISLANDS,
        num_islands=_PILOT_ISLANDS,
        num_moves=num_moves,
        conditional_ess=conditional_ess,
        generator=generator,
    )
    return pilot.schedule


def _copy(generator: torch.Generator) -> torch.Generator:
    """One that draws the same numbers, so that a look at the shape draws none of the caller's."""
    twin = torch.Generator(generator.device)
    twin.set_state(generator.get_state())
    return twin


@torch.no_grad()
def anneal_particles(
    energy_or_path: Energy | Path,
    kernel: Kernel,
    *,
    base: Any = None,
    num_particles: int = 1024,
    num_islands: int = 16,
    num_moves: int = 3,
    conditional_ess: float = 0.95,
    schedule: AnnealingSchedule | None = None,
    generator: torch.Generator,
) -> Particles:
    """Sequential Monte Carlo along a path: particles of its end, and log Z all the way.

    Args:
        energy_or_path: target, or a path to it.
        kernel: leaves exp(-E) alone (``Kernel.is_exact``: has an accept step, or is Gibbs); one
            with ``step_size`` and ``target_acceptance`` is adapted on the way and moves in
            coordinates in which the energy is round on average.
        base: energy with exact draws ``sample(n, generator)`` and ``log_z`` that the path starts
            from; None when path(0) is one.
        num_particles: n, a multiple of ``num_islands``.
        num_islands: independent populations, four at least.
        num_moves: kernel steps at each stage.
        conditional_ess: c in (0, 1), share of the particles that one step of t may leave: nearer 1
            takes more and smaller steps.
        schedule: a fixed one, instead of choosing; ``num_moves`` and the kernel are then its own.
        generator: source of all draws.

    Raises:
        LogZNotEstimated: no weight is left, or the path takes more than 10,000 stages.
    """
    require_invariant(kernel)
    positive_integer(num_particles=num_particles, num_islands=num_islands, num_moves=num_moves)
    positive(conditional_ess=conditional_ess)
    in_unit_interval(conditional_ess=conditional_ess)
    if num_islands < 4 or num_particles % num_islands or num_particles < 2 * num_islands:
        raise ValueError(
            "num_particles must be a multiple of num_islands, two at least on each of four or "
            f"more, got {num_particles} on {num_islands}"
        )
    path = annealed_path(energy_or_path, base)
    x, log_z_base = start(path, num_particles, generator)
    log_z = torch.full((num_islands,), log_z_base, dtype=torch.float64, device=x.device)
    log_weights = torch.zeros(num_islands, num_particles // num_islands, dtype=torch.float64)
    log_weights = log_weights.to(x.device)
    if schedule is None:
        stage, num_divergent = _tuned_at_start(path, kernel, x, generator)
        moves = num_moves
    else:
        stage, moves, num_divergent = schedule.stages[0], schedule.num_moves, 0
    stages, history, acceptance = [stage], [log_z.clone()], [math.nan]
    num_energies, step = 0, 1.0
    while stage.time < 1:
        if len(stages) > _MOST_STAGES:
            raise LogZNotEstimated(
                f"the path must end within {_MOST_STAGES:,} stages, got to t = {stage.time:.4g}; "
                "lower conditional_ess, or give a base nearer to the target"
            )
        energies, before = path.along(x), None
        if schedule is None:
            before = energies(stage.time)
            t, tries = _next_time(energies, before, stage.time, step, log_weights, conditional_ess)
            step = t - stage.time
        else:
            t, tries = schedule.stages[len(stages)].time, 1
        before = energies(stage.time) if before is None else before
        log_weights = log_weights + log_ratio(before, energies(t)).view_as(log_weights)
        history.append(log_z + torch.logsumexp(log_weights, 1) - math.log(log_weights.shape[1]))
        if not bool(torch.isfinite(history[-1]).any()):
            raise LogZNotEstimated(
                f"no particle has density at t = {t:.4g}; raise num_particles, or give a base that "
                "overlaps the target"
            )
        if schedule is None:
            stage = _adapted(path, stage, t, x, log_weights)
        else:
            stage = schedule.stages[len(stages)]
        x, log_weights, log_z = _resampled(x, log_weights, log_z, generator)
        moved = move(path, stage, x, moves, generator)
        x = moved.position
        if schedule is None and moved.acceptance is not None:
            # the stage is recorded as it moved; the next one starts from the corrected step
            stages.append(stage)
            stage = _corrected(stage, moved.acceptance)
        else:
            stages.append(stage)
        acceptance.append(math.nan if moved.acceptance is None else moved.acceptance)
        num_divergent += moved.num_divergent
        ends = 1 if _has_fixed_ends(path) else 1 + tries
        num_energies += ends + moves + 1 + (schedule is None and stage.coordinates is not None)
    return Particles(
        positions=x,
        log_weights=(log_weights + log_z[:, None]).flatten(),
        log_z_at=torch.stack(history).cpu(),
        schedule=AnnealingSchedule(tuple(stages), moves),
        acceptance=tuple(acceptance),
        num_divergent=num_divergent,
        num_energies=num_energies,
    )


def _has_fixed_ends(path: Path) -> bool:
    """Whether its energies at many t cost one evaluation: it has its own way along."""
    return type(path).along is not Path.along and not hasattr(path, "second")


def _tuned_at_start(
    path: Path, kernel: Any, x: Tensor, generator: torch.Generator
) -> tuple[Stage, int]:
    """The first stage, its step tuned by moves of exact draws, which are thrown away."""
    if not is_adaptable(kernel):
        return Stage(0.0, kernel), 0
    stage = Stage(0.0, kernel, Coordinates.of(x, score(path(0.0), x)))
    num_divergent = 0
    for _ in range(_WARM_UP):
        moved = move(path, stage, x, 1, generator)
        stage = _corrected(stage, moved.acceptance or 0.0)
        num_divergent += moved.num_divergent
    return stage, num_divergent


def _adapted(path: Path, stage: Stage, t: float, x: Tensor, log_weights: Tensor) -> Stage:
    """The stage at ``t``, in coordinates of the weighted cloud and the scores there."""
    if stage.coordinates is None:
        return replace(stage, time=t)
    weights = _log_shares(log_weights).exp()
    return replace(stage, time=t, coordinates=Coordinates.of(x, score(path(t), x), weights))


def _log_shares(log_weights: Tensor) -> Tensor:
    """log W of each particle, ``[n]``, all islands counted alike: some have been resampled."""
    return (torch.log_softmax(log_weights, 1) - math.log(len(log_weights))).flatten()


def _corrected(stage: Stage, acceptance: float) -> Stage:
    """A longer step after too much acceptance, a shorter one after too little."""
    kernel: Any = stage.kernel
    if not is_adaptable(kernel):
        return stage
    factor = math.exp(_GAIN * (acceptance - kernel.target_acceptance))
    return replace(stage, kernel=replace(kernel, step_size=kernel.step_size * factor))


def _next_time(
    energies: Any, before: Tensor, t: float, step: float, log_weights: Tensor, target: float
) -> tuple[float, int]:
    """The next t, whose step leaves ``target`` of the particles, and how many were tried.

    What a small step loses, 1 - CESS/n, grows with its square: that gives the next guess, and the
    bracket of what was too short and too long keeps it.
    """
    normalised = _log_shares(log_weights)

    def left(candidate: float) -> float:
        ratio = log_ratio(before, energies(candidate))
        both = 2 * torch.logsumexp(normalised + ratio, 0)
        return float(torch.exp(both - torch.logsumexp(normalised + 2 * ratio, 0)).nan_to_num(0.0))

    low, high, guess, tries = t, 1.0, min(1.0, t + step), 0
    while tries < _TRIES:
        tries += 1
        share = left(guess)
        if share >= target and guess == 1.0:
            return 1.0, tries
        if abs(share - target) <= 0.1 * (1 - target):
            return guess, tries
        low, high = (guess, high) if share > target else (low, guess)
        factor = math.sqrt((1 - target) / max(1 - share, 1e-6))
        wanted = t + (guess - t) * min(8.0, max(0.05, factor))
        guess = wanted if low < wanted < high else (high if wanted >= high == 1 else 0.0)
        guess = guess or low + 0.5 * (high - low)
    return (low if low > t else guess), tries


def _resampled(
    x: Tensor, log_weights: Tensor, log_z: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Islands whose effective number is too low drawn anew, their mass kept in log Z."""
    num_islands, size = log_weights.shape
    total = torch.logsumexp(log_weights, 1)
    number = torch.exp(2 * total - torch.logsumexp(2 * log_weights, 1))
    poor = torch.nonzero(number < _RESAMPLE_BELOW * size).flatten()  # not NaN: no density at all
    if len(poor) == 0:
        return x, log_weights, log_z
    chosen = torch.arange(num_islands * size, device=x.device).view(num_islands, size).clone()
    chosen[poor] = poor[:, None] * size + systematic_resampling(log_weights[poor], generator)
    log_weights, log_z = log_weights.clone(), log_z.clone()
    log_z[poor] += total[poor] - math.log(size)
    log_weights[poor] = 0.0
    return x[chosen.flatten()], log_weights, log_z
