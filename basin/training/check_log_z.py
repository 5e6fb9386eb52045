"""log Z of a trained run, estimated by another method than the one that its training claims.

    smc               sequential Monte Carlo down the noise levels, from the energy's own Gaussian
    ais               annealed importance sampling along them, forward
    bridge            the same in both directions, the reverse one from draws of the run
    probability_flow  importance sampling from the probability flow, up to 16 dimensions
    quadrature        up to 3 dimensions

A run of one level goes from the Gaussian of its training rows by the geometric path; a restricted
Boltzmann machine from coins with the rates of its own draws, by block Gibbs. All is done in the
model's coordinates: log Z is the same in the user's units, as ``Standardised`` counts its
determinant in the energy.

For dual score matching one constant serves all levels. ``smc`` and ``ais`` pass every level on the
way down, so the check has one log Z for each, and shows where the ladder begins to be wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from basin.core.streams import stream
from basin.core.types import Kernel, Path
from basin.core.validation import positive_integer, seed_number
from basin.energies.analytic.gaussian import Gaussian
from basin.energies.composed.standardised import Standardised, core_energy
from basin.energies.discrete.restricted_boltzmann_machine import RestrictedBoltzmannMachine
from basin.partition.annealed_importance_sampling import (
    both_directions,
    forward_annealing,
    reverse_annealing,
)
from basin.partition.annealing import AnnealingSchedule, require_reversible
from basin.partition.log_z import LogZ, LogZNotEstimated
from basin.partition.probability_flow import probability_flow_log_z
from basin.partition.quadrature import quadrature
from basin.partition.sequential_monte_carlo import anneal_particles, choose_schedule
from basin.partition.weights import log_z_of_weights
from basin.paths.geometric import Geometric
from basin.paths.joined import Joined
from basin.paths.joint_geometric import JointGeometric
from basin.paths.noised import Noised
from basin.samplers.block_gibbs import BlockGibbs
from basin.samplers.mala import MALA
from basin.schedules.geometric import Geometric as GeometricSchedule

if TYPE_CHECKING:
    from basin.training.run import Run

__all__ = ["LOG_Z_METHODS", "LevelLogZ", "LogZCheck", "check_log_z"]

LOG_Z_METHODS = ("smc", "ais", "bridge", "probability_flow", "quadrature")

_FIRST_PART = 0.1  # of t: from the Gaussian to the energy at the largest level
_BASE_WIDTH = 1.5  # times the rows' standard deviation: a base should be the wider one
_NUM_CHAINS = 500  # of a Boltzmann machine, for the rates of ones
_NUM_SWEEPS = 100
_AIS_STEPS_A_STAGE = 10


@dataclass(frozen=True)
class LevelLogZ:
    """log Z at one noise level on the way down."""

    sigma: float
    log_z: LogZ


@dataclass(frozen=True)
class LogZCheck:
    """What another method finds for log Z, beside what the run claims.

    Attributes:
        log_z: at the run's level, with its interval; ``run.with_log_z(check.log_z)`` uses it.
        claimed: the run's own; None where it has none.
        levels: the same at levels on the way down, the largest first; empty for other methods.
    """

    log_z: LogZ
    claimed: LogZ | None
    levels: tuple[LevelLogZ, ...] = ()

    @property
    def difference(self) -> float:
        """Claimed minus found, in nats; NaN where nothing is claimed."""
        return math.nan if self.claimed is None else self.claimed.log_z - self.log_z.log_z

    @property
    def agrees(self) -> bool:
        """Whether the two intervals meet; an unchecked claim is a point."""
        if self.claimed is None:
            return False
        checked = self.claimed.is_checked
        lower = self.claimed.lower if checked else self.claimed.log_z
        upper = self.claimed.upper if checked else self.claimed.log_z
        return lower <= self.log_z.upper and upper >= self.log_z.lower

    def __str__(self) -> str:
        if self.claimed is None:
            return f"{self.log_z}; nothing is claimed"
        verdict = "agrees" if self.agrees else "does not agree"
        return f"{self.log_z}; claimed {self.claimed.log_z:.3f}, which {verdict}"


def check_log_z(
    run: Run,
    method: str = "smc",
    *,
    sigma: float | None = None,
    num_particles: int = 1024,
    kernel: Kernel | None = None,
    seed: int = 0,
) -> LogZCheck:
    """Estimate log Z of ``run`` by ``method``; :meth:`Run.check_log_z` has the words."""
    if method not in LOG_Z_METHODS:
        raise ValueError(f"method must be one of {', '.join(LOG_Z_METHODS)}, got {method!r}")
    positive_integer(num_particles=num_particles)
    seed_number(seed=seed)
    run.energy_at(sigma)  # refuses conditions, and levels that were not trained
    core = core_energy(run.energy)
    generator = stream(seed, "check of log Z", next(core.parameters()).device)
    level = run.sigma if sigma is None else sigma
    claimed = run.log_z
    if method == "quadrature":
        fixed = core.at(level) if run.has_noise_levels else core
        return LogZCheck(quadrature(fixed, event_shape=run.event_shape), claimed)
    if method == "probability_flow":
        if not run.has_noise_levels or level is None:
            raise ValueError(
                "probability_flow needs an energy of all noise levels, got one of a single level; "
                "take smc"
            )
        top = run.config["noise_levels"]["sigma_max"]
        found = probability_flow_log_z(
            core, level, top, num_samples=num_particles, generator=generator
        )
        return LogZCheck(found, claimed)
    way = _way(run, core, level, generator)
    kernel = kernel or way.kernel
    if method == "bridge":
        require_reversible(kernel)
    schedule = choose_schedule(way.path, kernel, generator=generator)
    if method == "smc":
        particles = anneal_particles(
            way.path, kernel, num_particles=num_particles, schedule=schedule, generator=generator
        )
        return LogZCheck(particles.log_z(), claimed, _levels(schedule, way, particles.log_z))
    schedule = schedule.with_num_times(_AIS_STEPS_A_STAGE * (len(schedule.stages) - 1), 1)
    forward = forward_annealing(way.path, schedule, num_particles, generator)
    if method == "ais":

        def at_stage(stage: int) -> LogZ:
            return log_z_of_weights(
                forward.log_weights_at[stage],
                method=f"annealed importance sampling, {num_particles:,} chains",
                raise_what="num_particles",
                minimum_effective_sample_size=1.0,
            )

        return LogZCheck(forward.log_z(), claimed, _levels(schedule, way, at_stage))
    draws = run.sample(num_particles, seed=seed, sigma=sigma)
    if isinstance(run.energy, Standardised):
        draws = run.energy.standardise(draws)
    reverse = reverse_annealing(way.path, schedule, draws, generator)
    return LogZCheck(both_directions(way.path, forward, reverse), claimed)


@dataclass(frozen=True, eq=False)
class _Way:
    """The path to the model, the kernel that walks it, and the noise level at t if there is one."""

    path: Path
    kernel: Kernel
    sigma_at: Callable[[float], float] | None = None


def _way(run: Run, core: Any, level: float | None, generator: torch.Generator) -> _Way:
    if run.num_states is not None:
        return _way_of_states(core, generator)
    if not run.has_noise_levels:
        start = run.config["start"]
        mean = torch.tensor(start["mean"], dtype=torch.float64)
        spread = _BASE_WIDTH**2 * (start["standard_deviation"] ** 2 + (level or 0.0) ** 2)
        base = _Shaped(Gaussian(mean, spread * torch.eye(len(mean))), run.event_shape, core)
        return _Way(Geometric(base, core), MALA())
    top = run.config["noise_levels"]["sigma_max"]
    assert level is not None  # a run of levels has recorded one
    base = _Shaped(Gaussian(*core.base_law(top)), run.event_shape, core)
    to_top = Geometric(base, core.at(top))
    if level >= top * (1 - 1e-6):
        return _Way(to_top, MALA())
    ladder = GeometricSchedule(top, level)
    path = Joined(to_top, Noised(core, ladder), at=_FIRST_PART)

    def sigma_at(t: float) -> float:
        return ladder(min(1.0, max(0.0, (t - _FIRST_PART) / (1 - _FIRST_PART))))

    return _Way(path, MALA(), sigma_at)


def _way_of_states(core: Any, generator: torch.Generator) -> _Way:
    if not isinstance(core, RestrictedBoltzmannMachine):
        raise ValueError(
            f"annealing of whole numbers must have a restricted Boltzmann machine, got "
            f"{type(core).__name__}; up to 2^20 states basin.partition.enumeration sums over all"
        )
    kernel = BlockGibbs()
    state = kernel.init(core, core.sample_base(_NUM_CHAINS, generator), generator)
    for _ in range(_NUM_SWEEPS):
        state, _ = kernel.step(core, state, generator)
    return _Way(JointGeometric(core, JointGeometric.log_odds(state.position)), kernel)


class _Shaped:
    """A Gaussian of flattened events, for events with a shape, in the model's precision."""

    log_z = 0.0

    def __init__(self, gaussian: Gaussian, event_shape: tuple[int, ...], core: Any) -> None:
        parameter = next(core.parameters())
        self._gaussian = gaussian.to(parameter.device)
        self._shape, self._dtype = event_shape, parameter.dtype

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self._gaussian(x.flatten(1))

    def score(self, x: torch.Tensor) -> torch.Tensor:
        return self._gaussian.score(x.flatten(1)).reshape(x.shape)

    def sample(self, n: int, generator: torch.Generator) -> torch.Tensor:
        draws = self._gaussian.sample(n, generator)
        return draws.to(self._dtype).reshape(n, *self._shape)


def _levels(
    schedule: AnnealingSchedule, way: _Way, log_z: Callable[[int], LogZ]
) -> tuple[LevelLogZ, ...]:
    """log Z at each level that was passed, those left out that the particles do not agree on."""
    if way.sigma_at is None:
        return ()
    found = []
    for stage, t in enumerate(schedule.times):
        if t >= _FIRST_PART:
            with suppress(LogZNotEstimated):
                found.append(LevelLogZ(way.sigma_at(t), log_z(stage)))
    return tuple(found)
