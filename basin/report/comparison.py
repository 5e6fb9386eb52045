"""One page that sets runs side by side: verdicts, checks, held-out losses, pictures.

What may be compared is said first: numbers of runs on other data, of another density or at another
noise level are about other things, and the page says so above them. A value is marked as the best
of its row only where all runs are about the same, the check has a value that a perfect model would
get, and the next one is more than two standard errors farther from it. Everything is escaped, as
on the page of one run.
"""

from __future__ import annotations

import math
import string
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from basin.report.collect import RunRecord, collect
from basin.report.figures import plot_held_out_losses
from basin.report.formatting import (
    format_count,
    format_number,
    format_p_value,
    format_setting,
    format_with_error,
    plain_text,
)
from basin.report.gallery import Picture, pictures
from basin.report.html import (
    TITLES,
    about_words,
    class_name,
    entries_of,
    escape,
    figures_of,
    section,
)
from basin.report.verdict import judge, value_of
from basin.report.writing import write_page
from basin.training.writable import require_writable

__all__ = ["render_comparison", "write_comparison"]

MOST_RUNS = 12
_PANELS = ("Samples", "Model", "Density")  # titles begin so; the first two are shown of each run


def write_comparison(
    folders: Sequence[Path | str], path: Path | str, *, runs: Sequence[Any] | None = None
) -> Path:
    """Write the page that compares runs, and return its path.

    Args:
        folders: two to twelve run folders, evaluated ones (``basin evaluate``) for numbers.
        path: the page to write; its folder must be there.
        runs: the loaded runs, in the same order; None asks ``basin.load``.

    Raises:
        ValueError: fewer than two runs or more than twelve, or a folder that is no run.
        OSError: the disk is full or the folder may not be written.
    """
    if not 2 <= len(folders) <= MOST_RUNS:
        raise ValueError(f"folders must be 2 to {MOST_RUNS} runs, got {len(folders)}")
    path = Path(path)
    require_writable(path.parent)
    loaded: Sequence[Any] = [None] * len(folders) if runs is None else runs
    records = [collect(folder, run=run) for folder, run in zip(folders, loaded, strict=True)]
    names = _names([Path(folder) for folder in folders])
    return write_page(path.parent, path.name, render_comparison(dict(zip(names, records))))


def render_comparison(records: Mapping[str, RunRecord]) -> str:
    """The page as text, of runs by the name that stands above their column."""
    import basin

    sections = [
        section("Runs", "".join(_overview(records))),
        section("Checks", "".join(_checks(records))),
        section("Held-out loss", "".join(figures_of(tuple(_losses(records)), "l"))),
        section("Pictures", "".join(figures_of(tuple(_pictures(records)), "p"))),
    ]
    template = resources.files("basin.report").joinpath("template.html").read_text("utf-8")
    return string.Template(template).substitute(
        kicker="comparison of runs",
        version=escape(basin.__version__),
        title=escape(f"Basin: {', '.join(records)}"),
        heading=escape(" · ".join(records), 400),
        lead=f"{len(records)} runs side by side.",
        verdict="".join(_differences(records)),
        columns=min(len(records), 3),
        body="\n".join(sections),
        footer=f"Written by Basin {escape(basin.__version__)}. This file needs no network and runs "
        "no script.",
    )


def _names(folders: Sequence[Path]) -> list[str]:
    """Last parts of the paths, as many as tell them apart."""
    resolved = [folder.resolve() for folder in folders]
    if len(set(resolved)) < len(resolved):
        raise ValueError("folders must be different runs, got one of them twice")
    for depth in range(1, max(len(path.parts) for path in resolved) + 1):
        names = ["/".join(path.parts[-depth:]) for path in resolved]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in resolved]


def _differences(records: Mapping[str, RunRecord]) -> Iterator[str]:
    """Warnings of what makes the numbers about different things."""
    warnings = list(_not_alike(records))
    if not warnings:
        return
    yield '<ul class="warnings" aria-label="Warnings">'
    for warning in warnings:
        yield f"<li><b>Not alike.</b> {escape(warning)}</li>"
    yield "</ul>"


def _not_alike(records: Mapping[str, RunRecord]) -> Iterator[str]:
    facts = {
        "data": lambda r: (r.source, r.data_config.get("num_rows")),
        "noise level": lambda r: r.sigma,
        "standardisation": lambda r: r.scale,
    }
    for name, fact in facts.items():
        found = {key: fact(record) for key, record in records.items()}
        if len({repr(value) for value in found.values()}) > 1:
            shown = "; ".join(f"{key}: {_words(value)}" for key, value in found.items())
            yield (
                f"The runs differ in their {name} ({shown}), so their numbers are about different "
                "things and no value is marked as the best."
            )


def _words(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(_words(part) for part in value[:4] if part is not None)
    return "none" if value is None else plain_text(format_setting(value), 80)


def _overview(records: Mapping[str, RunRecord]) -> Iterator[str]:
    lines: dict[str, list[str]] = {
        "verdict": [],
        "energy": [],
        "objective": [],
        "data": [],
        "noise level": [],
        "weights": [],
        "steps": [],
        "training": [],
    }
    for record in records.values():
        verdict = judge(record)
        rows = [row for row in record.history if "event" not in row]
        lines["verdict"].append(
            f'<span class="word {verdict.level}">{escape(verdict.level)}</span>: '
            f"{escape(verdict.sentence)}"
        )
        lines["energy"].append(class_name(record.config, "energy"))
        lines["objective"].append(class_name(record.config, "objective"))
        lines["data"].append(escape(record.source))
        lines["noise level"].append(escape(_words(record.sigma)))
        lines["weights"].append(escape(record.weights))
        lines["steps"].append(format_count(rows[-1].get("step")) if rows else "–")
        lines["training"].append(escape(verdict.training))
    yield _table(records, "", lines)


def _checks(records: Mapping[str, RunRecord]) -> Iterator[str]:
    found = {name: dict(entries_of(record.evaluation)) for name, record in records.items()}
    order = list(dict.fromkeys(check for checks in found.values() for check in checks))
    if not order:
        yield "<p>None of these runs has been evaluated: <code>basin evaluate DIR</code>.</p>"
        return
    alike = not list(_not_alike(records))
    lines: dict[str, list[str]] = {}
    for check in order:
        row = [found[name].get(check) for name in records]
        best = _best(row) if alike else None
        lines[TITLES.get(check, check)] = [
            _cell(entry, is_best=i == best) for i, entry in enumerate(row)
        ]
    yield _table(
        records,
        "Each value with its standard error, p-value and what a perfect model would get. "
        "Bold: nearest to that by more than two standard errors of the difference.",
        lines,
    )
    abouts = dict.fromkeys(
        about_words(entry.get("about")) for checks in found.values() for entry in checks.values()
    )
    yield f"<p>About: {'; '.join(about for about in abouts if about != '–') or '–'}.</p>"


def _cell(entry: Mapping[str, Any] | None, *, is_best: bool) -> str:
    if entry is None:
        return "–"
    shown = format_with_error(entry.get("value"), entry.get("standard_error"))
    shown = f"<b>{shown}</b>" if is_best else shown
    p_value, floor = entry.get("p_value"), value_of({"value": entry.get("floor")})
    notes = [f"p = {format_p_value(p_value)}".replace("= <", "<")] if p_value is not None else []
    notes += [f"perfect: {format_number(floor)}"] if floor is not None else []
    return shown + (f"<small>{escape(', '.join(notes))}</small>" if notes else "")


def _best(row: Sequence[Mapping[str, Any] | None]) -> int | None:
    """Position of the entry clearly nearest to its floor; None where none is."""
    gaps: list[tuple[float, float, int]] = []
    for i, entry in enumerate(row):
        value, floor = value_of(entry), value_of({"value": (entry or {}).get("floor")})
        error = value_of({"value": (entry or {}).get("standard_error")})
        if value is None or floor is None or error is None:
            return None
        gaps.append((abs(value - floor), error, i))
    (gap, error, first), (next_gap, next_error, _) = sorted(gaps)[:2]
    return first if next_gap - gap > 2 * math.hypot(error, next_error) else None


def _table(
    records: Mapping[str, RunRecord], caption: str, lines: Mapping[str, Sequence[str]]
) -> str:
    """Rows by name, a column a run; the cells are escaped already."""
    heads = "".join(f'<th scope="col">{escape(name, 80)}</th>' for name in records)
    rows = []
    for name, cells in lines.items():
        columns = (
            f'<td data-label="{escape(run, 80)}">{cell}</td>'
            for run, cell in zip(records, cells, strict=True)
        )
        rows.append(f'<tr><th scope="row">{escape(name, 80)}</th>{"".join(columns)}</tr>')
    return (
        f'<div class="scroll"><table><caption>{escape(caption)}</caption><thead><tr><th></th>'
        f"{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _losses(records: Mapping[str, RunRecord]) -> Iterator[Picture]:
    try:
        figure = plot_held_out_losses(records)
    except ValueError as error:
        yield Picture("Held-out loss", f"{error}.")
        return
    yield Picture(
        "Held-out loss relative to the trivial predictor",
        "The loss on the fixed held-out rows, of the weights that each run chose; 1 is nothing "
        "learned. Losses of different objectives or noise levels are different scales.",
        "One line a run, falling as it learns.",
        figure,
        is_wide=True,
    )


def _pictures(records: Mapping[str, RunRecord]) -> Iterator[Picture]:
    """The same panels of each run, next to each other."""
    drawn = {name: {p.title: p for p in pictures(record)} for name, record in records.items()}
    titles = list(dict.fromkeys(title for panels in drawn.values() for title in panels))
    chosen = [t for t in titles if any(t.lower().startswith(p.lower()) for p in _PANELS)]
    for title in (chosen or titles)[:2]:
        for name, panels in drawn.items():
            if title in panels:
                picture = panels[title]
                yield Picture(
                    f"{plain_text(name, 80)}: {title}",
                    picture.caption,
                    picture.alternative,
                    picture.figure,
                )
