"""Measure a trained run: every check that applies to it, as ``evaluation.json`` holds them.

    truth known      Fisher divergence, log density against the truth; in two dimensions also KL,
                     total variation and mode weights by quadrature; mode weights of samples
    always           held-out loss relative to trivial; samples against held-out rows: energies,
                     MMD, energy distance, sliced and exact Wasserstein (where POT is installed), a
                     classifier, precision and recall, coverage and density, calibration of
                     marginals and of highest-density regions
    real numbers     held-out rows against the model: kernel Stein discrepancy
    log Z known      its error by quadrature (1-3 dimensions), held-out log-likelihood with its
                     bracket; bits per dimension of whole numbers, or at a given spacing
    log Z checked    the claimed one against another method's, level by level (``log_z_check``)
    finite table     distance of samples to training rows against held-out rows
    trained by       chains ten times as long as training's, from data and from noise (for other
    sampling         runs when asked for)

All are about p_sigma at the run's own level: held-out rows get that noise wherever they are
compared with samples. Distances (of all two-sample checks) are taken in standardised coordinates,
so that no column counts more for its unit. The held-out log-likelihood of a table is that of the
model of p_sigma on rows as they are, without noise, and its ``details`` say so. Held-out rows are
those of the test part; without one they are the validation rows, which chose weights and sigma and
flatter the model a little: ``details`` name the part (``rows``).

Of rows of many coordinates fewer are measured, no more than 20 million numbers: ``n`` is how many.

A check that cannot be made is named in ``not_done`` with the reason, and the others go on.
Cost: some ten seconds on one core, and the samples when the folder has none.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from basin.core.discrete import corrupted
from basin.core.streams import stream
from basin.core.types import Density
from basin.core.validation import seed_number
from basin.core.wide_rows import num_rows_that_fit
from basin.datasets.load import Dataset
from basin.datasets.rows import FreshDraws, Rows
from basin.energies.composed.standardised import Standardised, core_energy
from basin.evaluation.bits_per_dimension import bits_per_dimension
from basin.evaluation.classifier_two_sample import classifier_two_sample
from basin.evaluation.coverage_and_density import coverage, density_of_samples
from basin.evaluation.density_calibration import highest_density_calibration, marginal_calibration
from basin.evaluation.energy_distance import energy_distance
from basin.evaluation.energy_gap import energy_gap
from basin.evaluation.estimate import About, Estimate
from basin.evaluation.fisher_divergence import fisher_divergence
from basin.evaluation.grid import grid_of
from basin.evaluation.held_out_log_likelihood import held_out_log_likelihood
from basin.evaluation.kernel_stein_discrepancy import kernel_stein_discrepancy
from basin.evaluation.kl_to_truth import kl_to_truth
from basin.evaluation.log_z_error import log_z_error
from basin.evaluation.long_run import long_run as long_chains
from basin.evaluation.memorisation import memorisation
from basin.evaluation.mmd import mmd
from basin.evaluation.mode_weights import mode_weights, mode_weights_of_energy
from basin.evaluation.precision_and_recall import precision, recall
from basin.evaluation.relative_loss import relative_loss
from basin.evaluation.sliced_wasserstein import sliced_wasserstein
from basin.evaluation.total_variation import total_variation
from basin.evaluation.wasserstein import wasserstein
from basin.objectives.sampled import Sampled
from basin.partition.quadrature import find_bounds
from basin.samplers.mala import MALA
from basin.training.build import build_objective
from basin.training.check_log_z import LogZCheck
from basin.training.errors import RunFolderError
from basin.training.run import Run

__all__ = ["CHECKS", "evaluate"]

CHECKS = (
    "kl_to_truth",
    "log_z_error",
    "log_z_check",
    "mode_weights_of_energy",
    "total_variation",
    "fisher_divergence",
    "relative_loss",
    "held_out_log_likelihood",
    "bits_per_dimension",
    "kernel_stein_discrepancy",
    "mode_weights",
    "mmd",
    "energy_distance",
    "sliced_wasserstein",
    "wasserstein",
    "classifier_two_sample",
    "precision",
    "recall",
    "coverage",
    "density_of_samples",
    "marginal_calibration",
    "highest_density_calibration",
    "energy_gap",
    "memorisation",
    "long_run",
)

_NUM_SAMPLES = 2000
_NUM_HELD_OUT = 2000  # drawn from a density, or taken at most from a table, for tests on pairs
_NUM_DRAWS = 20_000  # from a density, for means
_NUM_TRAINING_ROWS = 100_000  # at most, for nearest rows and for the Gaussian beside the model
_NUM_LEVELS = 5  # of the ladder, for the loss by level
_NUM_PAIRED = 1000  # rows each where all pairs count once a permutation
_NUM_NEIGHBOURS = 300  # rows each where neighbours are found anew for every permutation
_NUM_TRANSPORTED = 200  # rows each for exact transport, whose cost is cubic
_NUM_CHAINS = 200  # from data, and as many from noise
_FACTOR = 10  # times the length of training's chains
_NUM_STEPS = 30  # of MALA, where training had no chains: those that end ``Run.sample``


def evaluate(
    run: Run,
    dataset: Dataset | Density,
    *,
    samples: Tensor | None = None,
    seed: int = 0,
    checks: Sequence[str] | None = None,
    long_run: int | None = None,
    spacing: float | None = None,
    log_z_check: LogZCheck | None = None,
    tolerance: float | None = None,
) -> dict[str, Any]:
    """What ``evaluation.json`` holds: name of the check -> value, error, floor, what it is about.

    Args:
        run: a finished run.
        dataset: the data it was trained on (``basin.datasets.load`` gives the same split), or the
            density.
        samples: draws of the model in the user's units, ``[n, *event]``; by default those of
            ``samples.npz`` in the run's folder when they are of the run's noise level, else 2,000
            fresh ones.
        seed: of draws, noise and permutations.
        checks: names of ``CHECKS``, those to be made; None for all that apply. One that is asked
            for and does not apply is named in ``not_done``.
        long_run: how many times longer than training's the chains of ``long_run`` are, 10 to 100;
            None for ten times, where training ran chains, and no such check elsewhere. A run
            trained without chains is judged by MALA at its own noise level.
        spacing: of the numbers in the data, in the user's units (1/255 for grey levels divided by
            255), for ``bits_per_dimension`` with uniform noise in the cell [x, x + spacing).
        log_z_check: what ``run.check_log_z`` found: stated beside the claim, and used for the
            log-likelihood in its place.
        tolerance: nats that log Z may be off by: with a wider range the log-likelihood is refused.

    Example:
        >>> import basin
        >>> truth = basin.datasets.StandardGaussian(2)
        >>> run = basin.fit(basin.energies.NoiseConditional(2, hidden=(16,)), truth,
        ...                 num_steps=20, batch_size=64, progress=False)
        >>> results = evaluate(run, truth, samples=run.sample(100, num_steps=20))
        >>> sorted(results["kl_to_truth"])[:3], results["kl_to_truth"]["floor"]
        (['about', 'details', 'floor'], 0.0)
    """
    subject = _Subject.of(run, dataset, seed, tolerance)
    made = _Checks(checks)
    if log_z_check is not None:
        found, about = log_z_check, subject.about
        made.make("log_z_check", lambda: _log_z_check(found, about))
        run = run.with_log_z(log_z_check.log_z)
    if subject.truth is not None:
        _against_truth(made, subject, subject.truth)
    elif run.log_z is not None and run.num_states is None and math.prod(subject.event_shape) <= 3:
        # The same log Z as in the user's units, at a scale where the mass is easily found.
        made.make(
            "log_z_error",
            lambda: _log_z_error_of_table(subject),
        )
    if subject.held_out is not None:
        # the likelihood of what was checked; the checks above are of what the run claims
        _on_held_out_rows(made, replace(subject, run=run), subject.held_out, spacing)
    if made.wants(*_OF_SAMPLES):
        samples = _samples_of(run, seed) if samples is None else samples.cpu()
        if subject.truth is not None and len(subject.truth.mode_weights) > 1:
            truth, drawn = subject.truth, samples
            made.make(
                "mode_weights",
                lambda: mode_weights(drawn, truth, subject.generator, about=subject.about),
            )
        samples = samples[: num_rows_that_fit(len(samples), run.event_shape)]
        if subject.held_out is not None:
            _on_samples(made, subject, subject.held_out, samples)
    if subject.held_out is not None and run.num_states is None:
        _on_long_chains(made, subject, subject.held_out, long_run)
    return made.results()


_OF_SAMPLES = CHECKS[CHECKS.index("mode_weights") : CHECKS.index("long_run")]


class _Checks:
    """Results by name, and the reasons of those that could not be made."""

    def __init__(self, wanted: Sequence[str] | None = None) -> None:
        for name in wanted or ():
            if name not in CHECKS:
                raise ValueError(f"checks must be among {', '.join(CHECKS)}, got {name!r}")
        self._wanted = None if wanted is None else tuple(wanted)
        self._estimates: dict[str, Estimate] = {}
        self._not_done: dict[str, str] = {}

    def wants(self, *names: str) -> bool:
        """Whether any of them was asked for, by name or by asking for all that apply."""
        return self._wanted is None or any(name in self._wanted for name in names)

    def asks_for(self, name: str) -> bool:
        """Whether it was asked for by name."""
        return self._wanted is not None and name in self._wanted

    def make(self, name: str, check: Callable[[], Estimate]) -> None:
        """Run one check; one that refuses its input is noted and the others go on."""
        if not self.wants(name):
            return
        try:
            self._estimates[name] = check()
        except (ValueError, ImportError) as error:
            self._not_done[name] = str(error)

    def results(self) -> dict[str, Any]:
        """As in ``evaluation.json``."""
        for name in self._wanted or ():
            if name not in self._estimates and name not in self._not_done:
                self._not_done[name] = _REASONS.get(name, "does not apply to this run")
        results: dict[str, Any] = {name: e.to_json() for name, e in self._estimates.items()}
        return {**results, "not_done": self._not_done} if self._not_done else results


_REASONS = {
    "bits_per_dimension": "needs log Z, and the spacing of the numbers in the data",
    "held_out_log_likelihood": "needs log Z",
    "kl_to_truth": "needs a known truth in two dimensions, or of whole numbers",
    "log_z_check": "needs another method's log Z: --log_z, or log_z_check=run.check_log_z()",
    "log_z_error": "needs log Z, and one to three dimensions",
    "memorisation": "needs a finite table of training rows",
}


@dataclass(frozen=True, eq=False)
class _Subject:
    """A run at its noise level, beside its data."""

    run: Run
    energy: Any  # at the run's level, in the user's units
    truth: Density | None  # blurred to that level, in the user's units
    density: Density | None
    train: Rows
    held_out: Tensor | None  # clean, in the user's units
    part: str  # where the held-out rows come from
    generator: torch.Generator
    about: About
    tolerance: float | None = None

    @classmethod
    def of(
        cls, run: Run, dataset: Dataset | Density, seed: int, tolerance: float | None = None
    ) -> _Subject:
        seed_number(seed=seed)
        if not isinstance(dataset, Dataset | Density):
            raise TypeError(
                "dataset must be a Density or what basin.datasets.load returned, got "
                f"{type(dataset).__name__}; write rows of your own to a file and load that: "
                "numpy.save('rows.npy', x), basin.datasets.load('rows.npy')"
            )
        generator = stream(seed, "evaluation")
        part = "fresh draws"
        if isinstance(dataset, Density):
            density, train, held_out = dataset, FreshDraws(dataset), None
        else:
            density, train = dataset.density, dataset.train
            held_out = dataset.validation if dataset.test is None else dataset.test
            if density is None:
                part = "validation" if dataset.test is None else "test"
        if tuple(train.event_shape) != run.event_shape:
            raise ValueError(
                f"dataset must have rows of the shape that the run was trained on, "
                f"{run.event_shape}, got {tuple(train.event_shape)}"
            )
        scale = run.energy.scale if isinstance(run.energy, Standardised) else torch.ones(())
        is_isotropic = bool((scale == scale.flatten()[0]).all())
        truth = None
        if density is not None:
            held_out = density.sample(_NUM_HELD_OUT, generator)
            if run.corruption:
                law: Any = density
                truth = law.corrupted(run.corruption) if hasattr(law, "corrupted") else None
            elif run.sigma is None:
                truth = density
            elif is_isotropic:
                truth = density.blurred(run.sigma * float(scale.flatten()[0]))
        elif held_out is not None:
            held_out = held_out[: num_rows_that_fit(10 * _NUM_HELD_OUT, run.event_shape)].cpu()
        return cls(
            run=run,
            energy=run.energy_at(),
            truth=truth,
            density=density,
            train=train,
            held_out=held_out if held_out is not None and len(held_out) >= 4 else None,
            part=part,
            generator=generator,
            about=About(_name_of_target(run), run.sigma, run.config.get("weights")),
            tolerance=tolerance,
        )

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.run.event_shape

    @property
    def core(self) -> Any:
        """The energy of standardised coordinates, of all levels where it has them."""
        return core_energy(self.run.energy)

    def core_at(self, sigma: float | None) -> Any:
        return self.core if not hasattr(self.core, "at") else self.core.at(sigma)

    def standardised(self, rows: Tensor) -> Tensor:
        energy = self.run.energy
        return (
            energy.standardise(rows.to(_device(energy))).cpu()
            if isinstance(energy, Standardised)
            else rows
        )

    def blurred(self, rows: Tensor) -> Tensor:
        """Rows with the noise of the run's level, in the user's units; or corrupted as it was."""
        if self.run.num_states is not None and self.run.corruption:
            return corrupted(rows, self.run.corruption, self.run.num_states, self.generator)
        if self.run.sigma is None:
            return rows
        scale = self._scale().to(rows)
        noise = torch.randn(rows.shape, generator=self.generator, dtype=rows.dtype)
        return rows + self.run.sigma * scale * noise

    def shuffled(self, rows: Tensor) -> Tensor:
        """Every coordinate taken from another row: whole numbers without their dependence."""
        flat = rows.flatten(1)
        order = torch.rand(flat.shape, generator=self.generator).argsort(dim=0)
        return flat.gather(0, order).reshape(rows.shape)

    def added_variance(self) -> Tensor:
        """Variance of that noise for each coordinate."""
        return ((self.run.sigma or 0.0) * self._scale().double()).square()

    def _scale(self) -> Tensor:
        energy = self.run.energy
        return energy.scale.cpu() if isinstance(energy, Standardised) else torch.ones(())

    def training_rows(self) -> Tensor:
        """All rows of a small table, a random part of a large one, in the user's units."""
        most = num_rows_that_fit(_NUM_TRAINING_ROWS, self.event_shape)
        if self.train.num_rows is not None and self.train.num_rows <= most:
            return self.train.take(0, self.train.num_rows).cpu()
        return self.train.draw(min(most, _NUM_DRAWS), self.generator).cpu()


class _InEvent:
    """The energy of standardised coordinates at the run's level, with its event shape."""

    def __init__(self, subject: _Subject) -> None:
        self.energy = subject.core_at(subject.run.sigma)
        self.event_shape = subject.event_shape

    def __call__(self, x: Tensor) -> Tensor:
        return self.energy(x)


def _against_truth(checks: _Checks, subject: _Subject, truth: Density) -> None:
    run, energy, about = subject.run, subject.energy, subject.about
    if run.num_states is not None:
        checks.make("kl_to_truth", lambda: kl_to_truth(energy, truth, about=about))
        checks.make("total_variation", lambda: total_variation(energy, truth, about=about))
        return
    if subject.event_shape == (2,) and checks.wants(*_ON_GRID):
        try:
            grid = grid_of(energy, truth)
        except ValueError as error:
            message = str(error)

            def refuse() -> Estimate:
                raise ValueError(message)

            checks.make("kl_to_truth", refuse)
        else:
            checks.make("kl_to_truth", lambda: kl_to_truth(energy, truth, grid=grid, about=about))
            if run.log_z is not None:
                claimed = run.log_z
                checks.make(
                    "log_z_error", lambda: log_z_error(energy, claimed, grid=grid, about=about)
                )
            if len(truth.mode_weights) > 1:
                checks.make(
                    "mode_weights_of_energy",
                    lambda: mode_weights_of_energy(energy, truth, grid=grid, about=about),
                )
            checks.make(
                "total_variation", lambda: total_variation(energy, truth, grid=grid, about=about)
            )
    elif (
        subject.event_shape != (2,)
        and run.log_z is not None
        and math.prod(subject.event_shape) <= 3
    ):
        claimed = run.log_z
        checks.make(
            "log_z_error",
            lambda: log_z_error(energy, claimed, bounds=truth.bounds, about=about),
        )
    checks.make(
        "fisher_divergence",
        lambda: fisher_divergence(energy, truth, _NUM_DRAWS, subject.generator, about=about),
    )


_ON_GRID = "kl_to_truth", "log_z_error", "mode_weights_of_energy", "total_variation"


def _log_z_check(check: LogZCheck, about: About) -> Estimate:
    """Claimed minus found; the value found itself where the run claims nothing."""
    found, claimed = check.log_z, check.claimed
    details: dict[str, Any] = {
        "found": found.to_json(),
        "claimed": None if claimed is None else claimed.to_json(),
        "agrees": None if claimed is None else check.agrees,
        "by_sigma": [
            {"sigma": level.sigma, "log_z": level.log_z.log_z}
            | {"lower": level.log_z.lower, "upper": level.log_z.upper}
            for level in check.levels
        ],
    }
    return Estimate(
        value=found.log_z if claimed is None else check.difference,
        standard_error=found.standard_error,
        floor=None if claimed is None else 0.0,
        p_value=None,
        n=None,
        meaning=("log Z" if claimed is None else "claimed minus estimated log Z")
        + f", in nats, by {found.method}",
        about=about,
        details=details,
    )


def _log_z_error_of_table(subject: _Subject) -> Estimate:
    """In a box that holds the rows: a search from the origin may end before a far group of them."""
    energy = _InEvent(subject)
    points = None if subject.held_out is None else subject.standardised(subject.held_out)
    bounds = find_bounds(energy, points=points)
    return log_z_error(energy, subject.run.log_z or 0.0, bounds=bounds, about=subject.about)


def _on_held_out_rows(
    checks: _Checks, subject: _Subject, held_out: Tensor, spacing: float | None
) -> None:
    run = subject.run
    if run.sigma is not None:
        checks.make(
            "relative_loss", lambda: _noting(_relative_loss(subject, held_out), rows=subject.part)
        )
    if run.log_z is not None:
        checks.make("held_out_log_likelihood", lambda: _log_likelihood(subject, held_out))
        if run.num_states is not None or spacing is not None:
            checks.make("bits_per_dimension", lambda: _bits(subject, held_out, spacing))
    if run.num_states is None:
        checks.make("kernel_stein_discrepancy", lambda: _stein(subject, held_out))


def _bits(subject: _Subject, held_out: Tensor, spacing: float | None) -> Estimate:
    """Of held-out rows as they are; of whole numbers in the model's own probabilities."""
    log_z = subject.run.log_z
    assert log_z is not None  # the caller's condition
    num_states = subject.run.num_states
    found = bits_per_dimension(
        subject.run.log_prob,
        held_out,
        subject.generator,
        dequantise="upper cell" if num_states is None else "none",
        spacing=1.0 if spacing is None else spacing,
        num_levels=num_states,
        log_z_standard_error=log_z.standard_error if log_z.is_checked else 0.0,
        about=subject.about,
    )
    return _noting(found, rows=subject.part)


def _stein(subject: _Subject, held_out: Tensor) -> Estimate:
    """Of blurred held-out rows against the model, in its own coordinates."""
    rows = subject.standardised(subject.blurred(held_out[:_NUM_PAIRED]))
    energy = subject.core_at(subject.run.sigma)
    found = kernel_stein_discrepancy(energy, rows, subject.generator, about=subject.about)
    return _noting(found, rows=subject.part)


def _noting(found: Estimate, **details: Any) -> Estimate:
    return replace(found, details={**found.details, **details})


def _relative_loss(subject: _Subject, held_out: Tensor) -> Estimate:
    """At the run's level, with the loss at some levels of its ladder beside it."""
    sigma = subject.run.sigma
    assert sigma is not None  # the caller's condition
    rows = subject.standardised(held_out)
    is_plain = not isinstance(subject.run.energy, Standardised)

    def at(level: float) -> Estimate:
        return relative_loss(
            subject.core_at(level),
            rows,
            level,
            subject.generator,
            density=subject.density if is_plain else None,
            about=replace(subject.about, sigma=level),
        )

    found = at(sigma)
    ladder = subject.run.config.get("noise_levels")
    if not ladder:
        return found
    steps = torch.linspace(0, 1, _NUM_LEVELS).tolist()
    ends = math.log(ladder["sigma_min"]), math.log(ladder["sigma_max"])
    levels = [math.exp(ends[0] + step * (ends[1] - ends[0])) for step in steps]
    levels = [min(max(level, ladder["sigma_min"]), ladder["sigma_max"]) for level in levels]
    by_level = [
        {
            "sigma": level,
            "value": one.value,
            "standard_error": one.standard_error,
            "floor": one.floor,
        }
        for level in levels
        for one in [at(level)]
    ]
    return replace(found, details={**found.details, "by_sigma": by_level})


def _log_likelihood(subject: _Subject, held_out: Tensor) -> Estimate:
    """Of draws of pσ where the truth is known, else of held-out rows as they are."""
    run, truth = subject.run, subject.truth

    def log_prob(x: Tensor) -> Tensor:
        return run.log_prob(x, tolerance=subject.tolerance)

    log_z = run.log_z
    assert log_z is not None  # the caller's condition
    error = log_z.standard_error if log_z.is_checked else 0.0
    stated = {
        "log_z_standard_error": error if log_z.is_checked else None,
        "log_z_lower": log_z.lower,
        "log_z_upper": log_z.upper,
    }

    def bracketed(found: Estimate, **details: Any) -> Estimate:
        """With the value at both ends of the bracket of log Z: rows known, log Z not."""
        ends = {
            "lower": found.value + log_z.log_z - log_z.upper,
            "upper": found.value + log_z.log_z - log_z.lower,
        }
        return _noting(found, **details, **stated, **(ends if log_z.is_checked else {}))

    if truth is not None:
        found = held_out_log_likelihood(
            log_prob,
            truth.sample(_NUM_DRAWS, subject.generator),
            train=None
            if run.num_states is not None
            else truth.sample(_NUM_DRAWS, subject.generator),
            density=truth,
            log_z_standard_error=error,
            about=subject.about,
        )
        return bracketed(found, rows="fresh draws", noise_added=run.sigma is not None)
    # A Gaussian has a density and whole numbers have probabilities: no comparison.
    train = None if run.num_states is not None else subject.training_rows()
    found = held_out_log_likelihood(
        log_prob, held_out, train=train, log_z_standard_error=error, about=subject.about
    )
    if train is None:
        return bracketed(found, rows=subject.part, noise_added=False)
    if found.details["gaussian"] is None and run.sigma is not None:
        blurred = held_out_log_likelihood(
            log_prob,
            held_out,
            train=train,
            added_variance=subject.added_variance(),
            log_z_standard_error=error,
            about=subject.about,
        )
        note = {"gaussian_sigma": run.sigma} if blurred.details["gaussian"] is not None else {}
        found = _noting(blurred, **note)
    return bracketed(found, rows=subject.part, noise_added=False)


def _on_samples(checks: _Checks, subject: _Subject, held_out: Tensor, samples: Tensor) -> None:
    about, generator = subject.about, subject.generator
    noisy = subject.blurred(held_out[:_NUM_HELD_OUT])

    def two_sample() -> Estimate:
        return mmd(
            subject.standardised(samples[:_NUM_SAMPLES]),
            subject.standardised(noisy),
            generator,
            about=about,
        )

    def gap() -> Estimate:
        noise = subject.shuffled(noisy) if subject.run.num_states is not None else None
        return energy_gap(subject.energy, noisy, samples, generator, noise=noise, about=about)

    checks.make("mmd", lambda: _noting(two_sample(), rows=subject.part))
    _two_sample_checks(checks, subject, noisy, samples)
    checks.make("energy_gap", lambda: _noting(gap(), rows=subject.part))
    if subject.train.num_rows is not None:
        checks.make("memorisation", lambda: _memorisation(subject, noisy, samples))


def _two_sample_checks(checks: _Checks, subject: _Subject, noisy: Tensor, samples: Tensor) -> None:
    """Samples against blurred held-out rows in standardised coordinates, some of either."""
    generator, about = subject.generator, subject.about
    drawn, real = (subject.standardised(rows[:_NUM_SAMPLES]) for rows in (samples, noisy))

    def make(name: str, check: Any, num_rows: int, **options: Any) -> None:
        def compare() -> Estimate:
            rows = drawn[:num_rows], real[:num_rows]
            return _noting(check(*rows, generator, about=about, **options), rows=subject.part)

        checks.make(name, compare)

    make("energy_distance", energy_distance, _NUM_PAIRED, num_permutations=199)
    make("sliced_wasserstein", sliced_wasserstein, _NUM_PAIRED // 2, num_permutations=199)
    if checks.asks_for("wasserstein") or importlib.util.find_spec("ot") is not None:
        make("wasserstein", wasserstein, _NUM_TRANSPORTED, num_permutations=99)
    make("classifier_two_sample", classifier_two_sample, _NUM_SAMPLES)
    for name, check in (
        ("precision", precision),
        ("recall", recall),
        ("coverage", coverage),
        ("density_of_samples", density_of_samples),
    ):
        make(name, check, _NUM_NEIGHBOURS, num_permutations=99)
    checks.make(
        "marginal_calibration",
        lambda: _noting(marginal_calibration(drawn, real, about=about), rows=subject.part),
    )
    checks.make(
        "highest_density_calibration",
        lambda: _noting(
            highest_density_calibration(subject.energy, noisy, samples, about=about),
            rows=subject.part,
        ),
    )


def _on_long_chains(
    checks: _Checks, subject: _Subject, held_out: Tensor, factor: int | None
) -> None:
    """By training's own kernel where it had one, else by MALA."""
    if not checks.wants("long_run"):
        return
    objective = _objective_of(subject.run)
    is_sampled = isinstance(objective, Sampled) and not subject.run.has_noise_levels
    if not (is_sampled or factor is not None or checks.asks_for("long_run")):
        return
    step = 0.5 * (subject.run.sigma or 0.1) ** 2  # as ``Run.sample`` ends
    kernel, num_steps = MALA(step), _NUM_STEPS
    if is_sampled:
        of_training: Any = objective
        kernel, num_steps = of_training.kernel, of_training.num_steps

    def compare() -> Estimate:
        energy, device = subject.core_at(subject.run.sigma), _device(subject.run.energy)
        dtype = next(subject.run.energy.parameters()).dtype
        rows = subject.standardised(subject.blurred(held_out[:_NUM_PAIRED])).to(device, dtype)
        generator = torch.Generator(device).manual_seed(
            int(torch.randint(2**62, (), generator=subject.generator))
        )
        size = (_NUM_CHAINS, *subject.event_shape)
        z = torch.randn(size, generator=generator, device=device, dtype=dtype)
        noise = rows.mean(dim=0) + rows.std(dim=0) * z
        found = long_chains(
            energy,
            kernel,
            rows,
            noise,
            generator,
            num_steps=num_steps,
            factor=_FACTOR if factor is None else factor,
            num_chains=min(_NUM_CHAINS, len(rows) // 2),
            about=subject.about,
        )
        return _noting(found, rows=subject.part, trained_by_sampling=is_sampled)

    checks.make("long_run", compare)


def _objective_of(run: Run) -> Any:
    """The objective without the penalties around it; None for one that is not Basin's own."""
    description = run.config["objective"]
    while "objective" in description:
        description = description["objective"]
    try:
        return build_objective({"objective": description})
    except ValueError:
        return None


def _memorisation(subject: _Subject, noisy: Tensor, samples: Tensor) -> Estimate:
    train = subject.training_rows()
    found = memorisation(
        subject.standardised(samples[:_NUM_SAMPLES]),
        subject.standardised(train),
        subject.standardised(noisy),
        subject.generator,
        about=subject.about,
    )
    counts = {"training_rows_compared": len(train), "training_rows": subject.train.num_rows}
    return _noting(found, rows=subject.part, **counts)


def _name_of_target(run: Run) -> Any:
    if run.corruption:
        return "p_corrupted"
    return "p" if run.sigma is None else "p_sigma"


def _samples_of(run: Run, seed: int) -> Tensor:
    """Those in the folder when they are of the run's level, else fresh ones; user's units."""
    path = None if run.folder is None else run.folder / "samples.npz"
    if path is not None and path.is_file():
        try:
            with np.load(path, allow_pickle=False) as file:
                level = float(file["sigma"]) if "sigma" in file else None
                rows = torch.from_numpy(np.asarray(file["samples"])) if "samples" in file else None
        except (OSError, ValueError, TypeError, EOFError, BadZipFile) as error:
            raise RunFolderError(
                f"{path} must hold samples as Basin wrote them, got a file that cannot be read "
                f"({error}); draw them again: basin sample {path.parent}"
            ) from error
        same_level = level == run.sigma or (
            level is not None and run.sigma is not None and math.isclose(level, run.sigma)
        )
        if rows is not None and same_level and tuple(rows.shape[1:]) == run.event_shape:
            return rows
    return run.sample(num_rows_that_fit(_NUM_SAMPLES, run.event_shape), seed=seed).cpu()


def _device(energy: torch.nn.Module) -> torch.device:
    return next((p.device for p in energy.parameters()), torch.device("cpu"))
