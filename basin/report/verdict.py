"""One line on how good a run is, with its evidence, and what a reader must be warned of.

The line never says more than a number behind it: a loss alone earns "cannot tell". The thresholds
are those that Basin holds its own defaults to; the page states them beside the verdict.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from basin.report.collect import RunRecord
from basin.report.formatting import (
    format_count,
    format_number,
    format_p_value,
    format_with_error,
    plain_text,
)
from basin.training.trend import Trend
from basin.training.trend import trend as training_trend

__all__ = ["Verdict", "judge", "trend"]

GOOD_KL, FAIR_KL = 0.05, 0.2  # nats per row
GOOD_LOG_Z = 0.1  # nats
GOOD_MODE_WEIGHTS = 0.05
SMALL_P = 0.01
FEW_ROWS = 200  # of which a two-sample test tells too little to call a model good
NOTHING_LEARNED = 0.98  # relative loss; 1 is the score that is zero everywhere

Level = Literal["good", "fair", "poor", "unknown"]


@dataclass(frozen=True)
class Verdict:
    """The top of a report.

    Attributes:
        level: ``good``, ``fair``, ``poor`` or ``unknown``.
        sentence: the verdict in words.
        evidence: the numbers it rests on.
        training: what the loss curve says (see :func:`trend`).
        warnings: what a reader must know before using the model.
    """

    level: Level
    sentence: str
    evidence: tuple[str, ...]
    training: str
    warnings: tuple[str, ...]


def judge(record: RunRecord) -> Verdict:
    """Judge a run by its evaluation, else say that nothing can be said."""
    levels: list[Level] = []
    evidence: list[str] = []
    warnings: list[str] = []
    for check in CHECKS:
        check(record, levels, evidence, warnings)
    state, training = trend(record)
    if state == "diverged":
        levels.append("poor")
        warnings.append(training)
    if state == "over-fitting" and not has_rows(record):
        warnings.append(training)
    warnings += _other_warnings(record)
    level: Level = "unknown"
    for candidate in ("poor", "fair", "good"):
        if candidate in levels:
            level = candidate
            break
    return Verdict(level, SENTENCES[level], tuple(evidence), training, tuple(warnings))


SENTENCES: Mapping[Level, str] = {
    "good": "The model agrees with the data in every check that was made.",
    "fair": "The model comes near the data, but not every check is good.",
    "poor": "The model does not agree with the data.",
    "unknown": "Cannot tell how good this model is: no check of quality was made.",
}


def trend(record: RunRecord) -> Trend:
    """What the loss curve says, see :func:`basin.training.trend`."""
    return training_trend(
        record.history,
        weights=record.weights,
        is_finite_table=has_rows(record),
        is_a_score_of_fit=record.config.get("is_a_score_of_fit", True) is not False,
    )


def has_rows(record: RunRecord) -> bool:
    """Whether the data are a finite table, for which training keeps the best weights."""
    return isinstance(record.data_config.get("num_rows"), int)


Check = Callable[[RunRecord, list[Level], list[str], list[str]], None]


def _check_kl(
    record: RunRecord, levels: list[Level], evidence: list[str], warnings: list[str]
) -> None:
    entry = record.evaluation.get("kl_to_truth")
    value = value_of(entry)
    if value is None:
        return
    levels.append("good" if value <= GOOD_KL else "fair" if value <= FAIR_KL else "poor")
    shown = format_with_error(value, _mapping(entry).get("standard_error"))
    evidence.append(f"KL divergence from the truth {shown} nats (good: up to {GOOD_KL})")


def _check_log_z(
    record: RunRecord, levels: list[Level], evidence: list[str], warnings: list[str]
) -> None:
    entry = record.evaluation.get("log_z_error")
    value = value_of(entry)
    if value is None:
        return
    shown = format_with_error(value, _mapping(entry).get("standard_error"))
    evidence.append(f"log Z off by {shown} nats (good: up to ±{GOOD_LOG_Z})")
    if abs(value) > GOOD_LOG_Z:
        levels.append("fair")
        warnings.append(
            f"Every log-likelihood of this model is off by {format_number(-value)} nats, the error "
            "of its log Z. Differences of log-likelihoods are not affected."
        )


def _check_modes(
    record: RunRecord, levels: list[Level], evidence: list[str], warnings: list[str]
) -> None:
    for key in ("mode_weights", "mode_weights_of_energy"):
        entry = record.evaluation.get(key)
        value = value_of(entry)
        if value is None:
            continue
        what = "samples" if key == "mode_weights" else "the model's mass"
        evidence.append(
            f"largest error of the share of {what} in a mode {format_number(value)} "
            f"(good: up to {GOOD_MODE_WEIGHTS})"
        )
        floor = value_of({"value": _mapping(entry).get("floor")}) or 0.0
        if value > max(GOOD_MODE_WEIGHTS, 2 * floor):
            levels.append("fair")
            warnings.append(
                f"The modes have the wrong weights: a share of {what} is off by "
                f"{format_number(value)}. Scores alone do not see this; see the mode weights below."
            )


def _check_mmd(
    record: RunRecord, levels: list[Level], evidence: list[str], warnings: list[str]
) -> None:
    entry = _mapping(record.evaluation.get("mmd"))
    p_value = value_of({"value": entry.get("p_value")})
    if p_value is None:
        return
    evidence.append(f"samples against held-out data: p = {format_p_value(p_value)} (MMD)")
    rows = value_of({"value": entry.get("n")})
    if p_value >= SMALL_P and rows is not None and rows < FEW_ROWS:
        warnings.append(
            f"The two-sample test (MMD) had {format_count(rows)} rows: too few to see more than "
            "gross faults, so it does not count in the verdict."
        )
        return
    levels.append("good" if p_value >= SMALL_P else "fair")
    if p_value < SMALL_P:
        warnings.append(
            "A two-sample test tells the samples from held-out data "
            f"(MMD, p = {format_p_value(p_value)})."
        )


def _check_loss(
    record: RunRecord, levels: list[Level], evidence: list[str], warnings: list[str]
) -> None:
    entry = _mapping(record.evaluation.get("relative_loss"))
    value, floor = value_of(entry), value_of({"value": entry.get("floor")})
    if value is None:
        return
    evidence.append(f"held-out loss {format_number(value)} of the trivial predictor's")
    nothing = NOTHING_LEARNED if floor is None else floor + 0.9 * (1 - floor)
    if value >= nothing:
        levels.append("poor")
        warnings.append(
            "The model predicts scores no better than zero everywhere: nothing learned."
        )


def _check_memorisation(
    record: RunRecord, levels: list[Level], evidence: list[str], warnings: list[str]
) -> None:
    entry = _mapping(record.evaluation.get("memorisation"))
    value, p_value = value_of(entry), value_of({"value": entry.get("p_value")})
    if value is None:
        return
    evidence.append(f"distance to training rows {format_number(value)} of held-out rows'")
    if value < 0.5 or (p_value is not None and p_value < 1e-3):
        levels.append("poor" if value < 0.5 else "fair")
        verdict = _mapping(entry.get("details")).get("verdict")
        said = plain_text(verdict, 300) if isinstance(verdict, str) else "samples repeat them"
        warnings.append(f"On its training rows, the model {said}.")


def _check_log_likelihood(
    record: RunRecord, levels: list[Level], evidence: list[str], warnings: list[str]
) -> None:
    details = _mapping(_mapping(record.evaluation.get("held_out_log_likelihood")).get("details"))
    gap = value_of({"value": details.get("gap_to_truth")})
    if gap is not None and "kl_to_truth" not in record.evaluation:
        error = value_of({"value": details.get("gap_standard_error")}) or 0.0
        levels.append(
            "good" if gap + 2 * error <= GOOD_KL else "fair" if gap <= FAIR_KL else "poor"
        )
        shown = format_with_error(gap, error)
        evidence.append(f"log density below the truth's by {shown} nats (good: up to {GOOD_KL})")
    gain = value_of({"value": details.get("gain_over_gaussian")})
    if gain is not None and gap is None:
        error = value_of({"value": details.get("gain_standard_error")}) or 0.0
        shown = format_with_error(gain, error)
        evidence.append(f"held-out log-likelihood less a Gaussian's: {shown} nats a row")
        if gain < 2 * error:
            levels.append("poor" if gain < -2 * error else "fair")
            warnings.append(
                "On held-out rows the model is not clearly better than a Gaussian with the mean "
                f"and covariance of the training rows (difference {shown} nats a row)."
            )


def _check_long_run(
    record: RunRecord, levels: list[Level], evidence: list[str], warnings: list[str]
) -> None:
    entry = _mapping(record.evaluation.get("long_run"))
    details, p_value = _mapping(entry.get("details")), value_of({"value": entry.get("p_value")})
    verdict = details.get("verdict")
    if p_value is None or not isinstance(verdict, str):
        return
    factor = details.get("factor")
    evidence.append(
        f"chains {format_number(factor) if isinstance(factor, int) else 'many'} times as long as "
        f"training's, from data: p = {format_p_value(p_value)}"
    )
    if details.get("leaves") is True:
        levels.append("poor")
    elif p_value < SMALL_P:
        levels.append("fair")
    if not verdict.startswith("stays:"):
        said = plain_text(verdict, 400)
        warnings.append(f"{said[:1].upper()}{said[1:]}.")


def _check_other_log_z(
    record: RunRecord, levels: list[Level], evidence: list[str], warnings: list[str]
) -> None:
    """Another method's log Z: it convicts a claim that it does not agree with, by its interval."""
    entry = record.evaluation.get("log_z_check")
    details = _mapping(_mapping(entry).get("details"))
    value, found = value_of(entry), _mapping(details.get("found"))
    if value is None or not isinstance(details.get("agrees"), bool):
        return
    method = plain_text(found.get("method"), 80)
    shown = format_with_error(value, _mapping(entry).get("standard_error"))
    evidence.append(f"log Z as claimed minus that of {method}: {shown} nats")
    if not details["agrees"]:
        levels.append("fair")
        warnings.append(
            f"The log Z that training claims does not agree with that of {method}: log-likelihoods "
            f"are off by {format_number(-value)} nats, if that is right. `Run.with_log_z` uses it."
        )


CHECKS: tuple[Check, ...] = (
    _check_kl,
    _check_log_z,
    _check_other_log_z,
    _check_modes,
    _check_mmd,
    _check_log_likelihood,
    _check_loss,
    _check_memorisation,
    _check_long_run,
)


def _other_warnings(record: RunRecord) -> list[str]:
    import basin

    warnings = [
        f"Step {format_count(row.get('step'))}: {plain_text(row['event'], 400)}"
        for row in record.history
        if isinstance(row.get("event"), str)
    ][:20]
    if record.config.get("finished", True) is None:
        warnings.append("Training has not finished: `basin resume` goes on with it.")
    for name, reason in list(_mapping(record.evaluation.get("not_done")).items())[:20]:
        warnings.append(f"Not checked, {plain_text(name, 60)}: {plain_text(reason, 400)}")
    blindness = record.config.get("blindness")
    if isinstance(blindness, str) and blindness:
        warnings.append(
            f"This objective is blind to the weights of modes that lie far apart: "
            f"{plain_text(blindness, 400)}."
        )
    choice = record.config.get("sigma_choice")
    if isinstance(choice, str) and "lowest level of the ladder" in choice:
        warnings.append(f"σ was chosen by {plain_text(choice, 400)}.")
    written = record.config.get("basin_version")
    if isinstance(written, str) and written != basin.__version__:
        warnings.append(
            f"The model was trained with Basin {plain_text(written, 40)}; this page was written "
            f"with {basin.__version__}. Numbers computed now may differ from those computed then."
        )
    form = record.config.get("format")
    if form not in (None, 1):
        warnings.append(
            f"The folder says format {plain_text(form, 20)}; this Basin knows format 1, so parts "
            "of the page may be missing or wrong."
        )
    is_checked = (
        log_z_is_checked(record) or value_of(record.evaluation.get("log_z_error")) is not None
    )
    if record.config.get("log_z") is not None and not is_checked:
        warnings.append("log Z is unchecked: take absolute log-likelihoods as estimates.")
    return warnings


def log_z_is_checked(record: RunRecord) -> bool:
    """Whether the error of the run's log Z is known."""
    stated = _mapping(record.config.get("log_z"))
    return value_of({"value": stated.get("standard_error")}) is not None


def value_of(entry: Any) -> float | None:
    """The finite number under ``value``, else ``None``."""
    value = _mapping(entry).get("value")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
