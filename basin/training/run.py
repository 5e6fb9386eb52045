"""A trained model: its energy, how it was trained, draws and log densities.

It is about p_sigma, the data blurred by N(0, sigma^2 I) in the model's coordinates; for a
standardised table that is a blur of diag(sigma * scale)^2 in the user's units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from basin.core.discrete import (
    draw_states,
    energies_of_all_states,
    is_enumerable,
    uniform_states,
)
from basin.core.threads import num_threads_for, threads
from basin.core.types import Energy, Kernel
from basin.core.validation import (
    all_finite,
    positive,
    positive_integer,
    same_event_shape,
    seed_number,
)
from basin.energies.composed.standardised import core_energy, restored
from basin.energies.networks.layers import BLOCK_ROWS
from basin.partition.enumeration import can_enumerate
from basin.partition.log_z import LogZ, LogZNotEstimated
from basin.samplers.block_gibbs import BlockGibbs
from basin.samplers.gibbs import Gibbs
from basin.samplers.mala import MALA
from basin.samplers.reverse_diffusion import ReverseDiffusion
from basin.sampling.run import sample
from basin.training.build import build_energy
from basin.training.check_log_z import LogZCheck, check_log_z
from basin.training.errors import RunFolderError
from basin.training.folder import load_weights, read_config, read_weights
from basin.training.history import read_history

__all__ = ["NotNormalisedError", "Run", "load"]

_CORRECTOR_STEP = 0.5
_MALA_WARMUP = 500
_STEPS_A_SWEEP = 10  # a sweep evaluates every coordinate of every chain


class NotNormalisedError(ValueError):
    """A log density was asked for, but nobody has estimated log Z."""


@dataclass(frozen=True, eq=False)
class Run:
    """What :func:`basin.fit` returns and :func:`basin.load` reads back.

    Attributes:
        energy: the trained module with the chosen weights; noise-conditional after dual score
            matching. In the user's units.
        history: records of the training, one a dictionary.
        config: everything needed to repeat the run, and what was settled at its end.
        folder: where it lies, or None.
    """

    energy: nn.Module
    history: list[dict[str, Any]]
    config: dict[str, Any]
    folder: Path | None = None

    @property
    def sigma(self) -> float | None:
        """Noise level of ``log_prob`` and ``sample``, in the model's coordinates."""
        return self.config["sigma"]

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return tuple(self.config["data"]["event_shape"])

    @property
    def num_states(self) -> int | None:
        """Values of a coordinate of rows of whole numbers; None where rows are real numbers."""
        return self.config.get("num_states")

    @property
    def corruption(self) -> float:
        """Probability that each coordinate was replaced in the rows that the model is of."""
        objective = self.config["objective"]
        while "objective" in objective:  # a penalty around it
            objective = objective["objective"]
        return objective.get("corruption", 0.0) if self.num_states else 0.0

    @property
    def has_noise_levels(self) -> bool:
        """Whether the energy is noise-conditional."""
        return hasattr(core_energy(self.energy), "at")

    @property
    def log_z(self) -> LogZ | None:
        """log Z with its error at the recorded noise level; None when nobody has estimated it."""
        record = self.config["log_z"]
        return None if record is None else LogZ.from_json(record)

    def with_log_z(self, log_z: LogZ) -> Run:
        """The same run with a log Z from ``basin.partition``, so that ``log_prob`` answers."""
        return replace(self, config={**self.config, "log_z": log_z.to_json()})

    def check_log_z(
        self,
        method: str = "smc",
        *,
        sigma: float | None = None,
        num_particles: int = 1024,
        kernel: Kernel | None = None,
        seed: int = 0,
    ) -> LogZCheck:
        """log Z by another method, in any dimension, beside the one that the run claims.

        ``run.with_log_z(run.check_log_z().log_z)`` is a run whose ``log_prob`` carries the checked
        value and its error.

        Args:
            method: "smc", "ais" (forward), "bridge" (forward, and backward from draws of the run:
                as good as those draws are), "probability_flow" (up to 16 dimensions) or
                "quadrature" (up to 3).
            sigma: noise level; None is the recorded one.
            num_particles: particles, chains or draws; the error falls with its square root.
            kernel: moves along the path; None takes MALA, adapted on the way (block Gibbs for a
                restricted Boltzmann machine).
            seed: same seed, same machine: the same bits.

        Returns:
            The estimate at the level, what is claimed, and (smc, ais) log Z of each level above.

        Raises:
            LogZNotEstimated: the estimate would mean nothing; says what to raise.
        """
        return check_log_z(
            self,
            method,
            sigma=sigma,
            num_particles=num_particles,
            kernel=kernel,
            seed=seed,
        )

    def energy_at(self, sigma: float | None = None) -> Energy:
        """The energy of one argument, at a noise level where there are several."""
        if self.config["data"].get("is_conditional", False):
            raise ValueError(
                "this energy is of x under a condition: take run.energy.given(c), an energy of x "
                "alone, and draw from it with basin.sample"
            )
        if not self.has_noise_levels:
            if sigma is not None and sigma != self.sigma:
                raise ValueError(
                    f"sigma must be {self.sigma} (the one level that this run learned) or None, "
                    f"got {sigma}; train with DualScoreMatching for all levels"
                )
            return self.energy
        energy: Any = self.energy
        return energy.at(self._level(sigma))

    @torch.no_grad()
    def log_prob(
        self, x: Tensor, sigma: float | None = None, *, tolerance: float | None = None
    ) -> Tensor:
        """log p_sigma(x) in nats per row, density in the user's units, ``[batch]``.

        Args:
            x: rows ``[batch, *event]`` in the user's units.
            sigma: noise level; None is the recorded one. At another level the value is unchecked:
                ``log_z`` states the error at the recorded level only.
            tolerance: nats that log Z may be off by; a wider range of it is refused.

        Raises:
            NotNormalisedError: log Z is not known, or not to the tolerance; says how to get it.
        """
        if not isinstance(x, Tensor):
            raise TypeError(f"x must be a Tensor, got {type(x)}; take torch.as_tensor(x)")
        same_event_shape("x", x, self.event_shape)
        parameter = next(self.energy.parameters())
        x = x.to(parameter.dtype)
        all_finite("x", x)
        log_z = self.log_z
        if log_z is None and self.num_states is not None:
            raise NotNormalisedError(
                f"log_prob needs log Z, and {self.num_states}^{math.prod(self.event_shape)} states "
                "are too many to sum over; give one by run.with_log_z"
            )
        if log_z is None:
            raise NotNormalisedError(
                f"log_prob needs log Z, and training with {self.config['objective']['class']} does "
                "not give it; estimate it by run.with_log_z(run.check_log_z().log_z), up to 3 "
                "dimensions by run.with_log_z(basin.partition.quadrature(run.energy_at(), bounds)),"
                " or train with DualScoreMatching, which does"
            )
        if tolerance is not None:
            try:
                log_z.within(tolerance)
            except LogZNotEstimated as error:
                raise NotNormalisedError(
                    f"{error}; run.with_log_z(run.check_log_z(method).log_z) uses another estimate"
                ) from error
        parts = [-self.energy_at(sigma)(rows) for rows in x.to(parameter.device).split(65_536)]
        return torch.cat(parts) - log_z.log_z

    def sample(
        self,
        n: int,
        seed: int = 0,
        sigma: float | None = None,
        *,
        num_steps: int = 300,
        progress: bool = False,
    ) -> Tensor:
        """``n`` independent draws ``[n, *event]`` in the user's units, one chain each.

        With noise levels: ancestral steps of the reverse diffusion from the Gaussian at the largest
        level down to sigma (``num_steps`` steps), then a tenth as many MALA steps at sigma, which
        remove their local bias. Without: MALA from the Gaussian of the training rows, ``num_steps``
        steps after warm-up; its chains may not cross between far modes. Rows of whole numbers:
        exact draws where all states can be summed (2^20; of the hidden units where those are
        fewer), else ``num_steps / 10`` Gibbs sweeps from uniform rows, or ``num_steps`` of block
        Gibbs where there are hidden units, with the same caution.

        Args:
            n: how many draws.
            seed: same seed, same machine: the same bits.
            sigma: noise level; None is the recorded one.
            num_steps: steps down the levels; more follow them more closely.
            progress: show a bar.
        """
        positive_integer(n=n, num_steps=num_steps)
        seed_number(seed=seed)
        core: Any = core_energy(self.energy)
        with threads(num_threads_for(core, min(n, BLOCK_ROWS))):
            if self.num_states is not None:
                return self._sample_states(core, self.num_states, n, seed, num_steps, progress)
            return self._sample(core, n, seed, sigma, num_steps, progress)

    def _sample(
        self, core: Any, n: int, seed: int, sigma: float | None, num_steps: int, progress: bool
    ) -> Tensor:
        device = next(core.parameters()).device
        generator = torch.Generator(device).manual_seed(seed)
        if self.has_noise_levels:
            level, top = self._level(sigma), self.config["noise_levels"]["sigma_max"]
            start = core.sample_base(n, generator, top)
            if level >= top * (1 - 1e-6):
                return self._restored(start)  # the law at the top is that Gaussian
            path, kernel = ReverseDiffusion.down(core, top, level, num_steps)
            chains = sample(
                path,
                kernel,
                start,
                num_steps=num_steps,
                seed=generator,
                progress=progress,
                keep="last",
            )
            corrected = sample(
                core.at(level),
                MALA(_CORRECTOR_STEP * level**2),
                chains.positions[:, -1],
                num_steps=max(1, num_steps // 10),
                seed=generator,
                keep="last",
            )
            draws = corrected.positions[:, -1]
        else:
            self.energy_at(sigma)
            draws = self._sample_one_level(core, n, generator, num_steps, progress)
        return self._restored(draws)

    def _restored(self, draws: Tensor) -> Tensor:
        """In the user's units."""
        return restored(self.energy, draws)

    def _sample_states(
        self, core: Any, num_states: int, n: int, seed: int, num_steps: int, progress: bool
    ) -> Tensor:
        device = next(core.parameters()).device
        generator = torch.Generator(device).manual_seed(seed)
        shape = self.event_shape
        if hasattr(core, "energies_of_smaller_side") and can_enumerate(core, shape, num_states):
            return core.sample(n, generator)
        if is_enumerable(math.prod(shape), num_states):
            energies = energies_of_all_states(core, shape, num_states)
            return draw_states(energies, n, shape, num_states, generator)
        has_blocks = BlockGibbs.fits(core)
        chains = sample(
            core,
            BlockGibbs() if has_blocks else Gibbs(num_states),
            uniform_states(n, shape, num_states, generator).to(next(core.parameters()).dtype),
            num_steps=num_steps if has_blocks else max(1, num_steps // _STEPS_A_SWEEP),
            seed=generator,
            progress=progress,
            keep="last",
        )
        return chains.last

    def _sample_one_level(
        self, core: Any, n: int, generator: torch.Generator, num_steps: int, progress: bool
    ) -> Tensor:
        start = self.config["start"]
        parameter = next(core.parameters())
        shape = (n, *self.event_shape)
        noise = torch.randn(shape, generator=generator, device=parameter.device)
        mean = torch.tensor(start["mean"], device=parameter.device).reshape(self.event_shape)
        chains = sample(
            core,
            MALA((self.sigma or start["standard_deviation"]) ** 2),
            mean + start["standard_deviation"] * noise,
            num_steps=num_steps,
            num_warmup=_MALA_WARMUP,
            seed=generator,
            progress=progress,
            keep="last",
        )
        return chains.positions[:, -1]

    def _level(self, sigma: float | None) -> float:
        level = self.sigma if sigma is None else sigma
        if level is None:
            raise ValueError("sigma must be given, as this run has recorded none")
        positive(sigma=level)
        bounds = self.config["noise_levels"]
        lowest, highest = bounds["sigma_min"], bounds["sigma_max"]
        if not lowest * (1 - 1e-6) <= level <= highest * (1 + 1e-6):
            raise ValueError(
                f"sigma must lie within the trained levels [{lowest:.4g}, {highest:.4g}], "
                f"got {level:.4g}"
            )
        return level


def load(folder: str | Path, energy: nn.Module | None = None, *, weights: str | None = None) -> Run:
    """Read a finished run; executes nothing that the folder holds.

    Args:
        folder: what ``basin train --out`` or ``basin.fit(out=...)`` wrote.
        energy: the module that was trained, when it is not one of Basin's own; its weights are
            replaced.
        weights: None for the chosen weights, "raw" or "ema" to ask for one of them.

    Raises:
        RunFolderError: missing, truncated, foreign or unfinished folder; says what to do.
    """
    folder = Path(folder)
    config = read_config(folder)
    if config["finished"] is None:
        raise RunFolderError(
            f"{folder} must hold a finished run, got one that was stopped; "
            f"go on with: basin resume {folder}"
        )
    name = "model.safetensors"
    if weights is not None and weights != config["weights"]:
        if config["other_weights"] is None:
            raise ValueError(
                f"weights must be {config['weights']!r}, the only ones that this run kept "
                f"(ema_decay was null), got {weights!r}"
            )
        if config["other_weights"] != weights:
            raise ValueError(
                f"weights must be {config['weights']!r} or {config['other_weights']!r}, "
                f"got {weights!r}"
            )
        name = "model_other.safetensors"
        config = {
            **config,
            "weights": weights,
            "other_weights": config["weights"],
            "log_z": config["log_z_other"],
            "log_z_other": config["log_z"],
        }
    tensors = read_weights(folder, name, config)
    if energy is None:
        try:
            energy = build_energy(config, folder / name)
        except ValueError as error:
            raise RunFolderError(
                f"{folder / 'config.json'} must describe an energy: {error}"
            ) from error
    _require_same_kind(folder, config, energy)
    load_weights(folder / name, tensors, energy)
    energy.eval()
    return Run(energy, read_history(folder), config, folder)


def _require_same_kind(folder: Path, config: dict[str, Any], energy: nn.Module) -> None:
    """Refuse a config whose parts contradict each other or the energy."""
    shape = config["data"]["event_shape"]
    of_energy = list(getattr(energy, "event_shape", shape))
    if of_energy != shape:
        raise RunFolderError(
            f"{folder} must hold one run, got data of shape {shape} and an energy of {of_energy}"
        )
    if hasattr(core_energy(energy), "at") != (config["noise_levels"] is not None):
        raise RunFolderError(
            f"{folder} must name noise_levels if and only if its energy has them, got "
            f"{config['noise_levels']!r} beside {type(core_energy(energy)).__name__}"
        )
