"""What a training history says at its end: improving, flat, over-fitting, diverged, cannot tell.

The last quarter of a curve against the one before it, with the spread of both: a change of less
than three standard errors is none. Held-out losses use fixed noise, so their curve is smooth;
without them the batches' losses serve. A loss that does not measure fit (the difference of two
energies, one side of a game) says nothing about convergence, and the verdict says that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeGuard

import numpy as np

__all__ = ["Trend", "loss_curves", "series", "trend"]

History = Sequence[Mapping[str, Any]]
Curve = tuple[np.ndarray, np.ndarray]

_NAMES = {
    "ema": "held-out loss, EMA weights",
    "raw": "held-out loss, raw weights",
    "relative_loss": "training loss",
    "loss": "training loss",
}
_FEWEST_POINTS = 8


class Trend(NamedTuple):
    """``word`` for programs, ``sentence`` with the evidence for people."""

    word: Literal["improving", "flat", "over-fitting", "diverged", "cannot tell"]
    sentence: str


def trend(
    history: History,
    *,
    weights: str | None = "raw",
    is_finite_table: bool = False,
    is_a_score_of_fit: bool = True,
) -> Trend:
    """Judge the end of a run by its loss.

    Args:
        history: the records, as ``Run.history``.
        weights: those that are used, "raw" or "ema".
        is_finite_table: training kept the best weights on held-out rows.
        is_a_score_of_fit: as the objective declares; see :class:`basin.core.Objective`.

    Example:
        >>> falling = [{"step": i, "loss": 1.0 - i / 40} for i in range(40)]
        >>> trend(falling).word
        'improving'
    """
    rows = [row for row in history if "event" not in row]
    if not rows:
        return Trend("cannot tell", "Cannot tell whether training converged: there is no history.")
    last = rows[-1]
    if any(_is_bad(last.get(name)) for name in ("loss", "validation_loss", "gradient_norm")):
        return Trend("diverged", f"Training stopped at step {last.get('step')}: not finite.")
    if not is_a_score_of_fit:
        return Trend("cannot tell", _without_a_score(rows))
    curves = loss_curves(rows)
    preferred = ("raw", "ema") if weights == "raw" else ("ema", "raw")
    name = next((n for n in (*preferred, "relative_loss", "loss") if n in curves), None)
    if name is None or len(curves[name][0]) < _FEWEST_POINTS or not _is_finite(curves[name]):
        return Trend(
            "cannot tell", "Cannot tell whether training converged: the history is too short."
        )
    steps, values = curves[name]
    quarter = len(values) // 4
    third, fourth = values[-2 * quarter : -quarter], values[-quarter:]
    error = math.sqrt((_spread(third) ** 2 + _spread(fourth) ** 2) / quarter)
    change = float(fourth.mean() - third.mean())
    shown = (
        f"{_NAMES[name]}: mean {third.mean():.3g} over its third quarter, {fourth.mean():.3g} "
        f"over its last, change {change:+.2g} ± {error:.1g}"
    )
    scale = float(values[:quarter].mean() - values.min())
    rise = float(fourth.mean() - values.min())
    rose = change > 3 * error and rise > 0.05 * abs(scale)
    ends_higher = scale <= 0 or fourth.mean() > values[:quarter].mean() + 3 * error
    if name in ("ema", "raw") and (rose or ends_higher) and _training_loss_fell(curves):
        best = int(steps[int(values.argmin())])
        used = "; the weights of the best evaluation are used" if is_finite_table else ""
        return Trend(
            "over-fitting", f"Held-out loss has risen since step {best:,} ({shown}){used}."
        )
    if ends_higher:
        return Trend("diverged", f"The loss ends above where it began ({shown}).")
    if change < -3 * error and -change > 0.02 * scale:
        return Trend("improving", f"The loss was still falling at the end ({shown}): train longer.")
    return Trend("flat", f"The loss is flat at the end ({shown}).")


def loss_curves(history: History) -> dict[str, Curve]:
    """Steps and values of ``relative_loss`` (or ``loss``), ``raw`` and ``ema``, where recorded."""
    curves: dict[str, Curve] = {}
    relative = series(history, "relative_loss")
    if len(relative[0]):
        curves["relative_loss"] = relative
        names = {"raw": "validation_relative", "ema": "validation_relative_ema"}
    else:
        curves["loss"] = series(history, "loss")
        names = {"raw": "validation_loss", "ema": "validation_loss_ema"}
    for key, name in names.items():
        curves[key] = series(history, name)
    if "relative_loss" in curves and not len(curves["ema"][0]):
        curves["ema"] = series(history, _relative_ema)
    return {key: value for key, value in curves.items() if len(value[0])}


def series(history: History, key: str | Callable[[Mapping[str, Any]], Any]) -> Curve:
    """Steps and values of one quantity of the history, in order, where it was recorded."""
    pairs = []
    for row in history:
        step, value = row.get("step"), key(row) if callable(key) else row.get(key)
        if _is_number(step) and _is_number(value):
            pairs.append((float(step), float(value)))
    if not pairs:
        return np.empty(0), np.empty(0)
    steps, values = np.asarray(pairs).T
    return steps, values


def _relative_ema(row: Mapping[str, Any]) -> float | None:
    """The EMA's held-out loss over the trivial loss that the raw weights' was divided by."""
    names = ("validation_loss_ema", "validation_loss", "validation_relative")
    values = [float(row[name]) for name in names if _is_number(row.get(name))]
    if len(values) < 3 or values[1] == 0:
        return None
    return values[0] * values[2] / values[1]


def _without_a_score(rows: History) -> str:
    sentence = (
        "Cannot tell from the loss: this objective's value is no measure of fit, it need not fall"
    )
    gaps = [
        float(row["terms"]["gap"])
        for row in rows
        if isinstance(row.get("terms"), Mapping) and _is_number(row["terms"].get("gap"))
    ]
    quarter = len(gaps) // 4
    if quarter < 2:
        return f"{sentence}. Judge by the evaluation."
    late = np.asarray(gaps[-quarter:])
    error = _spread(late) / math.sqrt(quarter)
    return (
        f"{sentence}. The gap E_data - E_model was {late.mean():.3g} ± {error:.1g} nats over the "
        "last quarter (zero where the draws are as likely as the data). Judge by the evaluation."
    )


def _training_loss_fell(curves: Mapping[str, Curve]) -> bool:
    _, values = curves.get("relative_loss") or curves.get("loss") or (None, np.empty(0))
    quarter = len(values) // 4
    return quarter > 0 and bool(values[-quarter:].mean() < values[:quarter].mean())


def _is_finite(curve: Curve) -> bool:
    return bool(np.isfinite(curve[1]).all())


def _spread(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def _is_bad(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
