"""``basin.fit``: train an energy on data with an objective, and hand back a :class:`Run`.

    check the input -> fit the base law -> the one loop -> choose weights -> log Z -> choose sigma

With ``out`` everything goes into a run folder, and ``resume`` goes on from its last checkpoint.
"""

from __future__ import annotations

import json
import platform
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from basin.core.conditions import Given
from basin.core.describe import describe
from basin.core.discrete import whole_numbers
from basin.core.graph import NotCompilable
from basin.core.inspect import require_score_trainable
from basin.core.precision import evaluated
from basin.core.streams import stream
from basin.core.threads import num_threads_for, threads
from basin.core.types import Density, Objective
from basin.core.validation import batch_of_energies, positive
from basin.datasets.load import Dataset
from basin.datasets.rows import Rows
from basin.energies.composed.standardised import Standardised, core_energy
from basin.objectives.dual_score_matching import DualScoreMatching
from basin.partition.enumeration import can_enumerate, enumeration
from basin.partition.log_z import LogZNotEstimated
from basin.sampling.progress import Progress
from basin.sampling.support import require_same_support
from basin.training.adam import Adam
from basin.training.average import WeightAverage
from basin.training.build import build_energy, build_objective, load_data
from basin.training.checkpoint import checkpoints, checksum, latest_checkpoint
from basin.training.data import TrainingData
from basin.training.errors import RunFolderError
from basin.training.finish import (
    chosen_and_other,
    log_z_at_top,
    log_z_down_the_ladder,
    sigma_by_likelihood,
    stated_by_objective,
)
from basin.training.folder import FORMAT, claim, give_up, read_config, write_config, write_weights
from basin.training.history import History, read_history
from basin.training.lock import locked
from basin.training.loop import Loop, TrainingState, learned_parts
from basin.training.run import Run, load
from basin.training.settings import Settings
from basin.training.step import Propose, by_autograd, by_graph, pays_to_compile, steps_together
from basin.training.trend import trend
from basin.training.writable import require_writable
from basin.version import __version__

__all__ = ["fit", "resume"]

# Rows that an objective and a base law see before the first step.
_NUM_INITIAL_ROWS = 8192
# Rows looked at in one go where all are.
_ROWS_AT_ONCE = 65_536
# Held-out rows from which log Z and its error are estimated; with fewer, training rows do it.
_FEWEST_ROWS = 2
# The level of log_prob for a Density when none is asked for, in its own units.
_DENSITY_SIGMA = 0.1


def fit(
    energy: nn.Module,
    x: Tensor | Any | Density | Rows | Dataset,
    objective: Objective | None = None,
    *,
    num_steps: int = 4000,
    batch_size: int = 1024,
    learning_rate: float = 4e-3,
    learning_rate_schedule: Literal["cosine", "constant"] = "cosine",
    warmup_steps: int = 100,
    adam_betas: tuple[float, float] = (0.9, 0.99),
    gradient_clip: float | None = 10.0,
    ema_decay: float | None = 0.999,
    sigma: float | None = None,
    validation: Tensor | None = None,
    condition: Tensor | None = None,
    sample_weight: Tensor | None = None,
    evaluate_every: int | None = None,
    checkpoint_every: int | None = None,
    patience: int | None = 20,
    recover: int = 0,
    num_threads: int | None = None,
    compile: bool | Literal["auto"] = "auto",
    seed: int = 0,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: bool = False,
    on_evaluation: Callable[[nn.Module, dict[str, Any]], None] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Run:
    """Train ``energy`` on ``x`` by minimising ``objective``; nothing is rescaled in secret.

    Args:
        energy: the module to train, in place, on the device that it is on. With dual score
            matching (the default objective) a noise-conditional one. A :class:`Standardised`
            energy is trained on standardised rows: its noise levels are in those coordinates.
        x: rows ``[n, *event]`` (tensor, array, memory-mapped file), a :class:`Density` (fresh
            draws at every step), or what :func:`basin.datasets.load` returned.
        objective: what to minimise; None is :class:`DualScoreMatching`.
        num_steps: optimiser steps.
        batch_size: rows a step, drawn with replacement.
        learning_rate: of Adam (fused), times the schedule, after a linear warm-up.
        learning_rate_schedule: "cosine" falls to zero at the end, "constant" stays.
        warmup_steps: steps of linear warm-up.
        adam_betas: decay rates of Adam's moments.
        gradient_clip: largest norm of the gradient; None clips nothing.
        ema_decay: decay of the averaged weights ("ema"), kept beside the last ones ("raw"); the
            better of the two on held-out rows is used and named. None keeps no average.
        sigma: noise level of ``Run.log_prob`` and ``Run.sample``. None: the objective's own; for a
            ladder 0.1 for a Density, and for a table the one of highest held-out likelihood.
        validation: held-out rows; None takes the data set's own, fresh draws of a Density, or, for
            bare rows, none (no early stopping then, and the last weights are used).
        condition: one for each row of ``x``, for an energy E(x | c) as
            :class:`basin.energies.ConditionalMLP`: classes ``[rows]`` of an integer type or numbers
            ``[rows, k]``. Draw from ``run.energy.given(c)``.
        sample_weight: one for each row of ``x``: rows are drawn in proportion, so a weight of 2
            is the row written twice.
        evaluate_every: steps between held-out losses; None: num_steps / 40.
        checkpoint_every: steps between checkpoints; None: num_steps / 10, at most 1,000.
        patience: evaluations without a better held-out loss after which training on a finite table
            stops; None never stops early. The best weights are used.
        recover: how often a non-finite loss may go back to the last checkpoint with half the
            learning rate (logged in the history) before it stops the run.
        num_threads: threads of the training steps on a CPU; None takes one for small networks and
            torch's own number for large ones.
        compile: make one machine-code graph of the training step, or of up to five small ones, as
            many as divide ``num_steps`` and the steps between evaluations and checkpoints
            (PyTorch's compiler, which on a CPU wants a C++ compiler): up to a minute at the first
            step, then steps in two thirds of the time, small ones in half. "auto" does so where the
            sizes say that the run takes minutes, and goes on without where it cannot; True stops
            there. Compiled and not, the random numbers are the same and results differ by rounding.
        seed: of batches and noise. Same seed, same machine: the same bits.
        out: new run folder; None keeps everything in memory.
        overwrite: empty ``out`` first if it holds another run; after all checks of the input.
        progress: show a bar, or plain lines when the output is not a terminal.
        on_evaluation: called after each evaluation with the module (in the model's coordinates)
            whose weights would be used now and the record; for pictures and measures of your own.
        extra: notes of your own, fit for JSON, kept as ``run.config["extra"]`` and by ``resume``.

    Returns:
        Run, with ``energy`` holding the chosen weights.

    Raises:
        ValueError: bad input, named, before any work.
        TrainingDiverged: a loss or gradient was not finite; says where and what to try.
        TrainingInterrupted: Ctrl-C, after a checkpoint was written.

    Cost: that of the objective, ``num_steps`` times; 40 held-out evaluations.

    Example:
        >>> import basin
        >>> run = basin.fit(
        ...     basin.energies.NoiseConditional(2, hidden=(16,)),
        ...     basin.datasets.StandardGaussian(2), num_steps=20, batch_size=64)
        >>> run.log_prob(run.sample(5, seed=1)).shape
        torch.Size([5])
    """
    settings = Settings(
        num_steps=num_steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        learning_rate_schedule=learning_rate_schedule,
        warmup_steps=warmup_steps,
        adam_betas=adam_betas,
        gradient_clip=gradient_clip,
        ema_decay=ema_decay,
        evaluate_every=evaluate_every,
        checkpoint_every=checkpoint_every,
        patience=patience,
        recover=recover,
        num_threads=num_threads,
        compile=compile,
        seed=seed,
    )
    if sigma is not None:
        positive(sigma=sigma)
    objective = DualScoreMatching() if objective is None else objective
    if not isinstance(energy, nn.Module):
        raise TypeError(f"energy must be a torch.nn.Module, got {energy!r}")
    if isinstance(objective, type) or not isinstance(objective, Objective):
        raise TypeError(f"objective must be one, as DualScoreMatching(), got {objective!r}")
    data = TrainingData.of(x, validation, condition=condition, sample_weight=sample_weight)
    job = _Job(energy, objective, data, settings, sigma, extra)
    job.check()
    job.fit_base()
    state = job.initial_state()
    job.check_sigma(state)
    config = job.config()
    if out is None:
        return job.train(state, None, config, History(None), progress, on_evaluation)
    folder = claim(Path(out), overwrite=overwrite)
    try:
        with locked(folder):
            write_config(folder, config)
            return job.train(state, folder, config, History(folder), progress, on_evaluation)
    except BaseException:
        give_up(folder)
        raise


def resume(
    folder: str | Path,
    x: Any = None,
    *,
    validation: Tensor | None = None,
    condition: Tensor | None = None,
    sample_weight: Tensor | None = None,
    energy: nn.Module | None = None,
    progress: bool = False,
) -> Run:
    """Go on with an unfinished run from its last checkpoint, to the same bits.

    Args:
        folder: run folder.
        x: the same data as before; None loads what the config names.
        validation: the same held-out rows as before, where ``fit`` was given some.
        condition: the same as before, where there was one.
        sample_weight: likewise.
        energy: the module, when it is not one of Basin's own.
        progress: show a bar.

    A run that is finished is loaded and returned as it is.

    Raises:
        ValueError: the data are not those that the run was started with.
        RunFolderError: the folder is damaged, foreign, or being trained by another process.
    """
    folder = Path(folder)
    if read_config(folder)["finished"] is not None:
        return load(folder, energy)
    require_writable(folder)
    with locked(folder):
        given = {"condition": condition, "sample_weight": sample_weight}
        return _resume(folder, x, validation, given, energy, progress)


def _resume(
    folder: Path,
    x: Any,
    validation: Tensor | None,
    beside_rows: Mapping[str, Tensor | None],
    energy: nn.Module | None,
    progress: bool,
) -> Run:
    config = read_config(folder)  # again: whoever held the lock before may have finished
    if config["finished"] is not None:
        return load(folder, energy)
    saved = checkpoints(folder / "checkpoint")
    try:
        if energy is None:
            energy = build_energy(config, saved[-1] if saved else None)
        objective = build_objective(config)
    except (ValueError, TypeError) as error:
        raise RunFolderError(f"{folder / 'config.json'} must describe a run: {error}") from error
    data = TrainingData.of(load_data(config) if x is None else x, validation, **beside_rows)
    _require_same_data(config["data"], data.description)
    settings = Settings.from_json(config["training"])
    job = _Job(energy, objective, data, settings, config["requested_sigma"], config.get("extra"))
    job.check()
    job.fit_base()
    state = job.initial_state()
    if saved:
        path, tensors, record = latest_checkpoint(folder / "checkpoint")
        try:
            state.restore(tensors, record)
        except (RuntimeError, ValueError, TypeError, KeyError) as error:
            raise RunFolderError(f"{path} must be a checkpoint of this run: {error}") from error
    history = History(folder, read_history(folder, until_step=state.step))
    return job.train(state, folder, config, history, progress)


def _require_same_data(before: dict[str, Any], now: dict[str, Any]) -> None:
    names = "event_shape", "num_rows", "num_validation_rows", "is_conditional", "is_weighted"
    for name in names:
        if before.get(name, False) != now[name]:
            held_out = " (give resume the validation of fit)" if "validation" in name else ""
            raise ValueError(
                f"x must be the data that the run was started with: {name} was {before[name]}, "
                f"got {now[name]}{held_out}"
            )
    # not there in runs of before it was kept
    if before.get("rows_sha256", now["rows_sha256"]) != now["rows_sha256"]:
        raise ValueError(
            "x must be the data that the run was started with, got as many rows with other "
            "numbers in them (rows_sha256 in config.json is the checksum of the first ones)"
        )


class _Job:
    """One call of ``fit`` or ``resume``: what it needs in several of its stages."""

    def __init__(
        self,
        energy: nn.Module,
        objective: Objective,
        data: TrainingData,
        settings: Settings,
        sigma: float | None,
        extra: Mapping[str, Any] | None,
    ) -> None:
        self.energy = energy
        self.is_standardised = isinstance(energy, Standardised)
        self.core: nn.Module = core_energy(energy)
        self.objective = objective
        self.data = data
        self.settings = settings
        self.sigma = sigma
        self.extra = dict(extra or {})
        json.dumps(self.extra, allow_nan=False)  # what is no JSON fails here and not at the end
        self.num_threads = settings.num_threads or num_threads_for(self.core, settings.batch_size)
        self.is_compiled = settings.compile is True or (
            settings.compile == "auto"
            and pays_to_compile(self.core, settings.batch_size, settings.num_steps)
        )
        self.device = next((p.device for p in energy.parameters()), torch.device("cpu"))
        initial = self._to_core(data.initial_rows(_NUM_INITIAL_ROWS, settings.seed))
        self.initial, self.initial_condition = data.split(initial)

    def check(self) -> None:
        """Refuse what cannot train, before any work."""
        if not any(p.requires_grad for p in self.core.parameters()):
            raise ValueError(f"{type(self.core).__name__} must have parameters to train, got none")
        probe = self.initial[:16]
        has_level = hasattr(self.core, "at") and self.initial_condition is None
        name = type(self.objective).__name__
        if self.objective.needs_noise_level and not has_level:
            raise ValueError(
                f"{name} needs a noise-conditional energy, energy(x, sigma) with at(sigma), got "
                f"{type(self.core).__name__}; take basin.energies.NoiseConditional"
                f"({self.data.event_shape}) or the objective DenoisingScoreMatching"
            )
        if has_level and not self.objective.needs_noise_level:
            raise ValueError(
                f"{name} trains an energy(x) of one argument, got the noise-conditional "
                f"{type(self.core).__name__}; take basin.energies.MLP"
                f"({self.data.event_shape}) or the objective DualScoreMatching"
            )
        self._check_conditions(name)
        self._check_support(name)
        energy: Any = self.core.at(1.0) if has_level else self.core  # type: ignore[operator]
        if self.initial_condition is not None:
            energy = Given(self.core, self.initial_condition[: len(probe)])
        before = torch.get_rng_state()
        with torch.no_grad():
            batch_of_energies(self.core, probe, evaluated(energy, self.core, probe))
        if not torch.equal(before, torch.get_rng_state()):
            torch.set_rng_state(before)
            raise ValueError(
                f"{type(self.core).__name__} must be a function of x alone, got one that draws "
                "random numbers of its own (dropout, or noise on its input): its energies would be "
                "of no density, and a seed would not give the same bits again; take that out"
            )
        if self.objective.uses_score:
            require_score_trainable(energy, probe)

    def _check_conditions(self, name: str) -> None:
        is_conditional = hasattr(self.core, "given")
        if is_conditional and self.initial_condition is None:
            raise ValueError(
                f"{type(self.core).__name__} is an energy E(x | c): give fit the condition of each "
                "row, condition=c"
            )
        if self.initial_condition is not None and self.objective.mixes_rows:
            raise ValueError(
                f"{name} compares the rows of a batch with each other, which here have conditions "
                "of their own; take an objective that treats each row by itself, as "
                "DenoisingScoreMatching(posterior_mean=False) or SlicedScoreMatching()"
            )

    def _check_support(self, name: str) -> None:
        """Whole numbers are neither blurred nor standardised; nothing else is taken for them."""
        is_of_states = getattr(self.data.density, "num_states", None) is not None
        if self.num_states is None:
            if is_of_states:
                raise ValueError(
                    f"{name} is for rows of real numbers, got {self.data.density!r}, a law of "
                    "whole numbers; take PseudoLikelihood, RatioMatching, ConcreteScoreMatching or "
                    "ContrastiveDivergence(Gibbs()) with basin.energies.CategoricalMLP"
                    f"({self.data.event_shape})"
                )
            kernel = getattr(self.objective, "kernel", None)
            if kernel is not None:
                require_same_support(kernel, self.core)
            return
        if self.is_standardised:
            raise ValueError(
                f"{name} is for rows of whole numbers, which Standardised moves; give fit the "
                f"{type(self.core).__name__} without it"
            )
        for first_row, rows in self._all_rows():
            whole_numbers("x", rows, self.num_states, first_row=first_row)
        if self.data.validation is not None:
            whole_numbers("validation", self.data.validation, self.num_states)

    def _all_rows(self) -> Iterator[tuple[int, Tensor]]:
        """A table block by block, each with the number of its first row; of a density a sample."""
        rows = self.data.rows
        if rows.num_rows is None:
            yield 0, self.initial
            return
        for start in range(0, rows.num_rows, _ROWS_AT_ONCE):
            block = rows.take(start, min(start + _ROWS_AT_ONCE, rows.num_rows))
            yield start, self.data.split(block)[0]

    @property
    def num_states(self) -> int | None:
        """Values of a coordinate where rows are whole numbers; None for real ones."""
        is_discrete = self.objective.support == "discrete"
        return getattr(self.objective, "num_states", None) if is_discrete else None

    def fit_base(self) -> None:
        """Give the energy its base law, once, from training rows."""
        fitted = getattr(self.core, "is_base_fitted", None)
        if fitted is not None and not bool(fitted):
            self.core.fit_base(self.initial)  # type: ignore[operator]

    def initial_state(self) -> TrainingState:
        """State before the first step; a resumed run restores a checkpoint over it."""
        seed = self.settings.seed
        generators = {
            "rows": stream(seed, "rows"),
            "noise": stream(seed, "noise", self.device),
        }
        decay = self.settings.ema_decay
        average = None if decay is None else WeightAverage(self.core, decay)
        trained = (p for p in self.core.parameters() if p.requires_grad)
        optimizer = Adam(trained, self.settings.adam_betas)
        objective_state = self.objective.init(self.initial, generators["noise"])
        return TrainingState(
            self.core,
            average,
            optimizer,
            objective_state,
            generators,
            learned_parts(self.objective, objective_state, self.settings.adam_betas),
            # Where no held-out loss chooses, the average: it smooths a noisy or circling path.
            best_weights="raw" if average is None or self.objective.is_a_score_of_fit else "ema",
        )

    def config(self) -> dict[str, Any]:
        """Everything needed to repeat the run."""
        return {
            "format": FORMAT,
            "basin_version": __version__,
            "torch_version": torch.__version__,
            "python_version": platform.python_version(),
            "platform": platform.platform(),
            "num_threads": self.num_threads,
            "compiled": self.is_compiled,
            "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]) if sys.argv else "",
            "data": self.data.description,
            "energy": describe(self.energy),
            "objective": describe(self.objective),
            "training": self.settings.to_json(),
            "requested_sigma": self.sigma,
            "num_states": self.num_states,
            "extra": self.extra,
            "identity": self.identity(),
            "noise_levels": None,
            "sigma": None,
            "weights": None,
            "log_z": None,
            "verdict": None,
            "finished": None,
        }

    def identity(self) -> str:
        """A checksum of settings, first rows and first weights: equal for equal runs only."""
        settings = {
            "data": self.data.description,
            "energy": describe(self.energy),
            "objective": describe(self.objective),
            "training": self.settings.to_json(),
            "requested_sigma": self.sigma,
        }
        return checksum({**self.core.state_dict(), "initial rows": self.initial}, settings)

    def train(
        self,
        state: TrainingState,
        folder: Path | None,
        config: dict[str, Any],
        history: History,
        progress: bool,
        on_evaluation: Callable[[nn.Module, dict[str, Any]], None] | None = None,
    ) -> Run:
        """Run the loop and finish: weights, log Z and sigma settled, files written."""
        ladder = _ladder(state.objective_state)
        explanation = self.objective.explain(state.objective_state)
        blindness = self.objective.blindness(state.objective_state)
        if progress and explanation:
            print(explanation, file=sys.stderr)
        if progress and blindness:
            name = type(self.objective).__name__
            print(f"{name} is blind to the weights of far modes: {blindness}", file=sys.stderr)
        data = self.data
        with Progress("training", self.settings.num_steps, progress) as bar:
            loop = Loop(
                objective=self.objective,
                propose=self._propose(history, progress),
                draw=lambda n, generator: self._to_core(data.rows.draw(n, generator)),
                validation=None if data.validation is None else self._to_core(data.validation),
                is_finite_table=data.is_finite_table,
                settings=self.settings,
                history=history,
                checkpoint_folder=None if folder is None else folder / "checkpoint",
                report=lambda step, record: bar.advance_to(step, _note(record)),
                bind=self._bind,
                on_evaluation=on_evaluation,
                together=steps_together(self.core, self.settings) if self.is_compiled else 1,
            )
            try:
                with threads(self.num_threads):
                    ending = loop.run(state)
            finally:
                history.close()
        weights, chosen, other = chosen_and_other(state)
        verdict = trend(
            history.records,
            weights=weights,
            is_finite_table=self.data.is_finite_table,
            is_a_score_of_fit=self.objective.is_a_score_of_fit,
        )
        if progress:
            print(f"{verdict.word}: {verdict.sentence}", file=sys.stderr)
        settled = {
            "weights": weights,
            "other_weights": None
            if state.average is None
            else ("ema" if weights == "raw" else "raw"),
            "noise_levels": ladder,
            "explanation": explanation,
            "training_ended": ending,
            "blindness": blindness,
            "is_a_score_of_fit": self.objective.is_a_score_of_fit,
            "meanings": dict(self.objective.meanings),
            "verdict": verdict._asdict(),
            "start": {
                "mean": self.initial.flatten(1).mean(0).tolist(),
                "standard_deviation": float(self.initial.flatten(1).var(0).mean().sqrt()),
            },
        }
        self.core.load_state_dict(chosen)
        self.core.eval()
        settled |= self._sigma(state, ladder)
        settled["log_z"] = self._log_z(state, settled["sigma"], ladder)
        settled["log_z_other"] = None
        sums: dict[str, str] = {}
        if state.average is not None and folder is not None:
            self.core.load_state_dict(other)
            settled["log_z_other"] = self._log_z(state, settled["sigma"], ladder)
            name = "model_other.safetensors"
            sums[name] = write_weights(folder / name, self.energy)
            self.core.load_state_dict(chosen)
        if folder is not None:
            sums["model.safetensors"] = write_weights(folder / "model.safetensors", self.energy)
        config = {**config, **settled, "weights_sha256": sums, "finished": True}
        if folder is not None:
            write_config(folder, config)
        return Run(self.energy, history.records, config, folder)

    def check_sigma(self, state: TrainingState) -> None:
        """Refuse a requested level that the run will not learn, before it learns anything."""
        ladder = _ladder(state.objective_state)
        if self.sigma is None or ladder is None:
            return
        lowest, highest = ladder["sigma_min"], ladder["sigma_max"]
        if not lowest <= self.sigma <= highest:
            raise ValueError(
                f"sigma must lie within the ladder [{lowest:.4g}, {highest:.4g}], got "
                f"{self.sigma:.4g}; give the objective another sigma_min or sigma_max"
            )

    def _sigma(self, state: TrainingState, ladder: dict[str, float] | None) -> dict[str, Any]:
        """The level of ``log_prob`` and how it was chosen."""
        if ladder is None:
            return {
                "sigma": self.objective.noise_level(state.objective_state),
                "sigma_choice": "the objective's",
            }
        if self.sigma is not None:
            return {"sigma": self.sigma, "sigma_choice": "requested"}
        lowest, highest = ladder["sigma_min"], ladder["sigma_max"]
        if not self.data.is_finite_table:
            level = min(max(_DENSITY_SIGMA, lowest), highest)
            return {"sigma": level, "sigma_choice": f"{_DENSITY_SIGMA} within the ladder"}
        if not self.objective.normalises or self.data.validation is None:
            return {"sigma": lowest, "sigma_choice": "the lowest level"}
        level, curve = sigma_by_likelihood(
            self.core, self._to_core(self.data.validation), lowest, highest
        )
        choice = "highest held-out likelihood"
        if level == lowest:
            choice += (
                ", at the lowest level of the ladder: the likelihood still rises as sigma falls, "
                "as it does where the rows lie on a grid or on a plane (whole numbers, constant or "
                "dependent columns), so this is a limit of the ladder and not of the data"
            )
        return {"sigma": level, "sigma_choice": choice, "sigma_curve": curve}

    def _log_z(
        self, state: TrainingState, sigma: float | None, ladder: dict[str, float] | None
    ) -> Any:
        """log Z of the weights in use, by what the objective gives; None where nothing does."""
        if self.num_states is not None:
            return self._log_z_of_states(self.num_states)
        validation = self.data.validation
        # Errors are taken from how rows differ: one alone says nothing.
        rows = self.initial
        if validation is not None and len(validation) >= _FEWEST_ROWS:
            rows = self._to_core(validation)
        generator = stream(self.settings.seed, "log Z", self.device)
        if hasattr(self.objective, "log_z") and self.initial_condition is None:
            estimate: Any = self.objective
            return stated_by_objective(
                *estimate.log_z(self.core, rows, state.objective_state, generator),
                name=type(self.objective).__name__,
            ).to_json()
        if not self.objective.normalises or ladder is None or sigma is None:
            return None
        highest = ladder["sigma_max"]
        try:
            top = log_z_at_top(self.core, highest, generator)
            if sigma >= highest:
                return top.to_json()
            return log_z_down_the_ladder(self.core, rows, sigma, highest, top, generator).to_json()
        except LogZNotEstimated as error:  # the training is done: what it learned is kept
            warnings.warn(
                f"log Z is not known, so log_prob will not answer (energies and samples will): "
                f"{error}. Train for longer, or give one by Run.with_log_z",
                stacklevel=2,
            )
            return None

    def _log_z_of_states(self, num_states: int) -> Any:
        """The sum over every row of whole numbers, where there are few enough."""
        shape = self.data.event_shape
        is_small = can_enumerate(self.core, shape, num_states)
        if not is_small or self.initial_condition is not None:
            return None
        return enumeration(self.core, event_shape=shape, num_states=num_states).to_json()

    def _to_core(self, batch: Tensor) -> Tensor:
        """A batch on the energy's device and in its coordinates; conditions stay as they are."""
        batch = batch.to(self.device)
        if not isinstance(self.energy, Standardised):
            return batch
        x, condition = self.data.split(batch)
        x = self.energy.standardise(x)
        if condition is None:
            return x
        return torch.cat([x.flatten(1), condition.reshape(len(x), -1).to(x)], dim=1)

    def _propose(self, history: History, progress: bool) -> Propose:
        """By a compiled graph where that was decided; "auto" takes autograd when it cannot be."""
        if not self.is_compiled:
            return by_autograd(self._bind)

        def on_failure(error: NotCompilable) -> None:
            if self.settings.compile is True:
                raise ValueError(
                    f"compile must be False or 'auto' for {type(self.objective).__name__} and "
                    f"{type(self.core).__name__} here: {error}"
                ) from error
            event = f"not compiled, so steps take longer: {error}"
            history.append({"step": 0, "event": event})
            if progress:
                print(event, file=sys.stderr)

        if progress:
            print("compiling the training step (up to a minute) ...", file=sys.stderr)
        return by_graph(self._bind, on_failure)

    def _bind(self, energy: nn.Module, batch: Tensor) -> tuple[Any, Tensor]:
        """What the objective sees: an energy of x alone, and x."""
        x, condition = self.data.split(batch)
        return (energy if condition is None else Given(energy, condition)), x


def _ladder(objective_state: Any) -> dict[str, float] | None:
    """Ends of the noise levels that the objective's state names."""
    if not hasattr(objective_state, "sigma_max"):
        return None
    return {"sigma_min": objective_state.sigma_min, "sigma_max": objective_state.sigma_max}


def _note(record: dict[str, Any]) -> str:
    """What a progress bar says beside the count."""
    if "loss" not in record:
        return ""
    parts = [f"loss {record['loss']:.4g}"]
    if record["relative_loss"] is not None:
        parts.append(f"{record['relative_loss']:.3f} of trivial")
    if record.get("validation_relative") is not None:
        parts.append(f"held-out {record['validation_relative']:.3f}")
    return ", ".join(parts)
