"""What the commands print when they are done."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from basin.cli.job import folder_of, own_energy_name
from basin.training import Run

__all__ = ["can_explore", "evaluation_table", "show_end"]

_HEADINGS = ("measure", "value", "± error", "floor", "p-value", "rows", "meaning")


def evaluation_table(results: Mapping[str, Any]) -> str:
    """One line a measure, after a line that says which density they are about.

    Below the lines, what each p-value is the probability under, and what was said in words.

    >>> print(evaluation_table({"kl_to_truth": {"value": 0.0123, "standard_error": 0.001,
    ...     "floor": 0.0, "meaning": "KL divergence, in nats", "p_value": None,
    ...     "about": {"density": "p_sigma", "sigma": 0.1, "weights": "ema"}}}))
    about p_sigma, sigma 0.1, ema weights
    measure      value   ± error  floor  p-value  rows  meaning
    kl_to_truth  0.0123  0.001    0                     KL divergence, in nats
    """
    measures = {name: value for name, value in results.items() if isinstance(value, Mapping)}
    measures = {name: value for name, value in measures.items() if "value" in value}
    abouts = list(dict.fromkeys(_about(value) for value in measures.values()))
    rows: list[tuple[str, ...]] = [_HEADINGS]
    for name, result in measures.items():
        keys = ("value", "standard_error", "floor", "p_value", "n")
        meaning = str(result.get("meaning") or "")
        meaning += f" ({_about(result)})" if len(abouts) > 1 else ""
        rows.append((name, *(_number(result.get(key)) for key in keys), meaning))
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)) for row in rows]
    about = [f"about {abouts[0]}"] if len(abouts) == 1 else []
    skipped = results.get("not_done") or {}
    not_done = [f"not done: {name}: {why}" for name, why in dict(skipped).items()]
    said = [*_null_hypotheses(measures), *_verdicts(measures)]
    return "\n".join(line.rstrip() for line in [*about, *lines, *said, *not_done])


def show_end(run: Run, results: Mapping[str, Any]) -> None:
    """The measures, the page to open and the commands to try next."""
    folder = folder_of(run)
    print(f"\n{evaluation_table(results)}")
    print(f"\nreport: {folder / 'report.html'}")
    print("next:")
    name = own_energy_name(run)
    own = "" if name is None else f" --energy {name}"
    print(f"  basin sample {folder} --num_samples 1000 --out draws.csv{own}")
    print(f"  basin evaluate {folder} --json{own}")
    if can_explore(run):
        print(f"  basin explore {folder}{own}")
    if run.config["data"].get("kind") == "table" and run.log_z is not None:
        print(f"  basin score {folder} TABLE --out scores.csv{own}")


def can_explore(run: Run) -> bool:
    """Whether ``basin explore`` has a plane to show."""
    from basin.report.explorer.plane import MAX_COLUMNS  # here, as --help needs no pictures

    is_plane = 2 <= math.prod(run.event_shape) <= MAX_COLUMNS
    is_conditional = run.config["data"].get("is_conditional", False)
    return is_plane and run.num_states is None and not is_conditional


def _null_hypotheses(measures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Each once, with the measures whose p-value it belongs to."""
    names: dict[str, list[str]] = {}
    for name, result in measures.items():
        if isinstance(result.get("null"), str) and result.get("p_value") is not None:
            names.setdefault(result["null"], []).append(name)
    return [f"null hypothesis of {', '.join(those)}: {null}" for null, those in names.items()]


def _verdicts(measures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What a measure says in words."""
    found = {
        name: result["details"].get("verdict")
        for name, result in measures.items()
        if isinstance(result.get("details"), Mapping)
    }
    return [f"{name}: {verdict}" for name, verdict in found.items() if isinstance(verdict, str)]


def _about(result: Mapping[str, Any]) -> str:
    about = result.get("about") or {}
    parts = [str(about["density"])] if about.get("density") else []
    if isinstance(about.get("sigma"), int | float):
        parts.append(f"sigma {_number(about['sigma'])}")
    if about.get("weights"):
        parts.append(f"{about['weights']} weights")
    return ", ".join(parts)


def _number(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, int | float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return "[" + " ".join(map(_number, value)) + "]"
    return str(value)
