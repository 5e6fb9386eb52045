"""``report.html``: one self-contained page about one run.

No script, nothing fetched, pictures inside. Everything that comes from the run is escaped, and the
page's own policy forbids scripts besides. Sections: verdict and warnings, pictures, curves, checks,
log Z, how to repeat it, references. Cost: a few seconds on one core, most of it drawing.
"""

from __future__ import annotations

import html
import json
import math
import re
import shlex
import string
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from basin.partition.log_z import LogZ
from basin.report.citations import references_of
from basin.report.collect import RunRecord, collect
from basin.report.formatting import (
    format_count,
    format_number,
    format_p_value,
    format_setting,
    format_with_error,
    plain_text,
)
from basin.report.gallery import Picture, curves, level, pictures
from basin.report.svg import figure_to_svg
from basin.report.verdict import judge, log_z_is_checked, value_of
from basin.report.writing import write_page
from basin.training.writable import require_writable

__all__ = ["render_report", "write_report"]

MAX_CONFIG = 20_000  # characters of config.json shown on the page; the file itself holds all
MAX_ROWS = 60  # rows of the table of checks


def write_report(folder: Path | str, *, run: Any = None, dataset: Any = None) -> Path:
    """Write ``report.html`` into a run folder and return its path.

    Whatever is missing (samples, evaluation, the model, the data) is named on the page, never an
    error. The file is written aside and renamed, so that a report is whole or not there.

    Args:
        folder: a run folder.
        run: the loaded run; ``None`` asks ``basin.load``.
        dataset: the loaded data set; ``None`` loads it again from its recorded name.

    Raises:
        ValueError: the folder is no run: it has no readable ``config.json``.
        OSError: the disk is full or the folder may not be written.
    """
    folder = Path(folder)
    if folder.is_dir():  # else collect says what is wrong
        require_writable(folder)
    page = render_report(collect(folder, run=run, dataset=dataset))
    return write_page(folder, "report.html", page)


def render_report(record: RunRecord) -> str:
    """The page as text; see :func:`write_report`."""
    import basin

    shown, lines = pictures(record), curves(record)
    sections = [
        section("Pictures", "".join(figures_of(shown, "p"))),
        section("Training", "".join(_training(record, lines))),
        section("Checks", "".join(_evaluation(record))),
        section("Normalisation: log Z", "".join(_log_z(record))),
        section("Repeat this run", "".join(_repeat(record))),
        section("References", "".join(_references(record))),
    ]
    template = resources.files("basin.report").joinpath("template.html").read_text("utf-8")
    panels = sum(not picture.is_wide and picture.figure is not None for picture in shown)
    return string.Template(template).substitute(
        version=escape(basin.__version__),
        kicker="report of a run",
        title=escape(f"Basin: {record.source}"),
        heading=escape(record.source),
        lead="".join(_lead(record)),
        verdict="".join(_verdict(record)),
        columns=3 if panels > 4 else 2,
        body="\n".join(sections),
        footer=f"Written by Basin {escape(basin.__version__)}. This file needs no network and runs "
        "no script.",
    )


def escape(value: object, limit: int = 2_000) -> str:
    """Text that stays text in HTML, in quotes too."""
    return html.escape(plain_text(value, limit), quote=True)


def escape_sentence(sentence: str) -> str:
    """The same, where what stands between backticks is set as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(sentence))


def _lead(record: RunRecord) -> Iterator[str]:
    objective, energy = (
        class_name(record.config, "objective"),
        class_name(record.config, "energy"),
    )
    yield f"{energy} trained by {objective} on {_what_data(record)}. "
    if record.sigma is None:
        yield "The model is of the data as they are."
        return
    yield (
        f"The model is of <b>pσ</b>, the data blurred by {escape(level(record))}, not of the data "
        f"themselves; {escape(WEIGHTS.get(record.weights, record.weights))} are used."
    )
    if record.scale != (1.0,):
        yield f" In the user’s units the blur is σ · scale: {_units(record)}."


WEIGHTS = {
    "ema": "EMA weights (the running average over steps)",
    "raw": "raw weights (as the last step left them)",
}


def _what_data(record: RunRecord) -> str:
    rows = record.data_config.get("num_rows")
    shape = " × ".join(map(format_count, record.event_shape)) or "unknown shape"
    if record.kind == "density":
        where = f"in {shape} dimensions" if len(record.event_shape) == 1 else f"of shape {shape}"
        return f"fresh draws of a known density {where}"
    things = (
        f"training images of {shape}"
        if record.kind == "images"
        else f"training rows of {shape} columns"
    )
    count = f"{format_count(rows)} " if isinstance(rows, int) and rows > 0 else ""
    return f"{count}{things}"


def _units(record: RunRecord) -> str:
    sigma, scale = record.sigma or 0.0, record.scale
    if len(scale) == 1:
        return format_number(sigma * scale[0])
    pairs = [
        (escape(record.column(i)), format_number(sigma * scale[i])) for i in range(len(scale[:6]))
    ]
    more = f" and {format_count(len(scale) - 6)} more columns" if len(scale) > 6 else ""
    return ", ".join(f"{name} {value}" for name, value in pairs) + more


def _verdict(record: RunRecord) -> Iterator[str]:
    verdict = judge(record)
    word = {"unknown": "Unknown"}.get(verdict.level, verdict.level.capitalize())
    yield f'<section class="verdict {verdict.level}" aria-label="Verdict">'
    yield f'<p class="call"><span class="word">{word}.</span> {escape(verdict.sentence)}</p>'
    if verdict.evidence:
        yield "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in verdict.evidence) + "</ul>"
    yield f"<p>{escape(verdict.training)}</p></section>"
    if verdict.warnings or record.missing:
        yield '<ul class="warnings" aria-label="Warnings">'
        for warning in verdict.warnings:
            yield f"<li><b>Warning.</b> {escape(warning)}</li>"
        for missing in record.missing:
            yield f'<li class="missing">Not shown. {escape_sentence(missing.sentence)}</li>'
        yield "</ul>"


def figures_of(shown: tuple[Picture, ...], prefix: str) -> Iterator[str]:
    if not shown:
        yield "<p>There is nothing to draw: no samples, no data, no model of 1 or 2 dimensions.</p>"
        return
    yield '<div class="gallery">'
    for i, picture in enumerate(shown):
        wide = " wide" if picture.is_wide or picture.figure is None else ""
        pixels = " pixels" if "images" in picture.alternative else ""
        yield f'<figure class="picture{wide}{pixels}"><h3>{escape(picture.title)}</h3>'
        if picture.figure is not None:
            words = plain_text(picture.alternative or picture.caption, 2_000)
            drawing = figure_to_svg(picture.figure, name=f"{prefix}{i}", alternative=words)
            yield f'<div class="scroll">{drawing}</div>'
        yield f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    yield "</div>"


def _training(record: RunRecord, lines: tuple[Picture, ...]) -> Iterator[str]:
    if lines:
        yield from figures_of(lines, "c")
    else:
        yield "<p>There is no history to draw.</p>"
    training = record.config.get("training")
    if not isinstance(training, Mapping):
        return
    rows = [row for row in record.history if "event" not in row]
    last = rows[-1] if rows else {}
    facts = {
        "steps": f"{format_count(last.get('step'))} of {format_count(training.get('num_steps'))}",
        "batch size": format_count(training.get("batch_size")),
        "learning rate": format_setting(training.get("learning_rate")),
        "time": _duration(last.get("seconds")),
        "ended": str(record.config.get("training_ended") or ""),
        "choice of σ": str(record.config.get("sigma_choice") or ""),
    }
    yield _facts({name: escape(text) for name, text in facts.items() if text not in ("–", "")})
    meanings = record.config.get("meanings")
    if isinstance(meanings, Mapping) and meanings:
        words = {
            plain_text(k, 40): escape(plain_text(v, 300)) for k, v in list(meanings.items())[:40]
        }
        yield "<details><summary>What the logged numbers say</summary>"
        yield f"{_facts(words)}</details>"
    explanation = record.config.get("explanation")
    if isinstance(explanation, str) and explanation:
        lines_ = "\n".join(plain_text(line, 300) for line in explanation.split("\n")[:200])
        yield "<details><summary>How the noise levels were chosen</summary><pre><code>"
        yield f"{html.escape(lines_)}</code></pre></details>"


def _evaluation(record: RunRecord) -> Iterator[str]:
    rows = list(entries_of(record.evaluation))
    if not rows:
        yield "<p>This run has not been evaluated.</p>"
        return
    heads = ("check", "value ± standard error", "a perfect model", "p-value", "about")
    yield '<div class="scroll"><table><caption>Each value with its standard error, what a perfect '
    yield "model would get on the same number of rows, and the density it is about.</caption>"
    yield "<thead><tr>" + "".join(f'<th scope="col">{head}</th>' for head in heads)
    yield "</tr></thead><tbody>"
    for name, entry in rows[:MAX_ROWS]:
        value = format_with_error(entry.get("value"), entry.get("standard_error"))
        cells = (value, format_number(entry.get("floor")), format_p_value(entry.get("p_value")))
        yield f'<tr><th scope="row">{escape(TITLES.get(name, name), 80)}'
        yield f"<small>{''.join(_meaning(name, entry))}</small></th>"
        for head, cell in zip(heads[1:], cells, strict=False):
            yield f'<td class="number" data-label="{head}">{cell}</td>'
        yield f'<td data-label="about">{about_words(entry.get("about"))}</td></tr>'
    yield "</tbody></table></div>"
    if len(rows) > MAX_ROWS:
        yield f"<p>{format_count(len(rows) - MAX_ROWS)} more are in evaluation.json.</p>"
    yield (
        "<p><b>pσ</b> is the data blurred by noise of standard deviation σ; <b>p</b> is the data "
        "themselves. An energy trained by denoising is of pσ. A p-value is the probability of a "
        "value at least as extreme if the model were right; a small one says that it is not, a "
        "large one does not say that it is.</p>"
    )


TITLES: Mapping[str, str] = {
    "kl_to_truth": "KL divergence from the truth",
    "log_z_error": "Error of log Z",
    "log_z_check": "log Z by another method",
    "fisher_divergence": "Fisher divergence",
    "mode_weights": "Mode weights of the samples",
    "mode_weights_of_energy": "Mode weights of the model",
    "total_variation": "Total variation distance",
    "relative_loss": "Held-out loss, relative",
    "held_out_log_likelihood": "Held-out log-likelihood",
    "bits_per_dimension": "Bits per dimension",
    "kernel_stein_discrepancy": "Kernel Stein discrepancy",
    "mmd": "MMD, samples against held-out data",
    "energy_distance": "Energy distance",
    "sliced_wasserstein": "Sliced Wasserstein distance",
    "wasserstein": "Wasserstein distance",
    "classifier_two_sample": "Classifier, samples against data",
    "precision": "Precision",
    "recall": "Recall",
    "coverage": "Coverage of the data",
    "density_of_samples": "Density where samples fall",
    "marginal_calibration": "Calibration of the marginals",
    "highest_density_calibration": "Calibration of highest-density regions",
    "energy_gap": "Energy gap",
    "memorisation": "Memorisation",
    "long_run": "Long-run chains",
}
MEANINGS: Mapping[str, str] = {
    "kl_to_truth": "mean of log pσ − log pθ under pσ, in nats; 0 only if they are equal",
    "log_z_error": "claimed minus true log Z, in nats: every log-likelihood is off by its negative",
    "fisher_divergence": "mean of ‖∇ log pσ − s‖² under pσ: blind to the weights of far modes",
    "mode_weights": "largest error of the share of samples in a mode",
    "mmd": "0 when samples and held-out data have one law",
}


DETAILS: Mapping[str, tuple[str, str]] = {
    "gap_to_truth": ("below the truth by", "gap_standard_error"),
    "gain_over_gaussian": ("above a Gaussian by", "gain_standard_error"),
    "auc_samples": ("P(E(data) < E(samples)) =", "auc_samples_standard_error"),
    "auc_noise": ("P(E(data) < E(noise)) =", "auc_noise_standard_error"),
    "null_95": ("95 % of equal laws stay below", ""),
    "share_of_copies": ("share of samples that equal a training row", ""),
}


def entries_of(
    evaluation: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every check of a nest of mappings: one with a ``value`` is a check."""
    for name, entry in evaluation.items():
        if isinstance(entry, Mapping) and "value" in entry:
            yield f"{prefix}{name}", dict(entry)
        elif isinstance(entry, Mapping) and not prefix and name != "not_done":
            yield from entries_of(entry, f"{name}: ")
        elif isinstance(entry, int | float) and not isinstance(entry, bool):
            yield f"{prefix}{name}", {"value": entry}


def _meaning(name: str, entry: Mapping[str, Any]) -> Iterator[str]:
    meaning = entry.get("meaning") or MEANINGS.get(name)
    if isinstance(meaning, str):
        yield escape(meaning, 400)
    if isinstance(entry.get("n"), int):
        yield f"; n = {format_count(entry['n'])}"
    if isinstance(entry.get("null"), str):
        yield f"; tested: {escape(entry['null'], 300)}"
    details = entry.get("details")
    details = details if isinstance(details, Mapping) else {}
    for key, (words, error) in DETAILS.items():
        if isinstance(details.get(key), int | float):
            yield f"; {words} {format_with_error(details[key], details.get(error))}"
    for key in ("verdict", "gaussian_reason"):
        if isinstance(details.get(key), str):
            yield f"; {escape(details[key], 300)}"


def about_words(about: Any) -> str:
    if not isinstance(about, Mapping):
        return "–"
    names = {"p": "p, the data", "p_sigma": "pσ", "p_corrupted": "p corrupted"}
    parts = [names.get(str(about.get("density")), str(about.get("density") or ""))]
    if isinstance(about.get("sigma"), int | float):
        parts.append(f"σ = {format_setting(about['sigma'])}")
    if about.get("weights"):
        parts.append(f"{about['weights']} weights")
    return escape(", ".join(part for part in parts if part) or "–", 120)


def _log_z(record: RunRecord) -> Iterator[str]:
    stated = record.config.get("log_z")
    if stated is None:
        stated = _log_z_of(record.run)
    if not isinstance(stated, Mapping) or value_of({"value": stated.get("log_z")}) is None:
        yield (
            "<p>log Z is not known, so this run has energies, scores and samples, but no "
            "log-likelihoods: −E(x) is log pθ(x) up to a constant. Train with the default "
            "objective, which normalises, or estimate log Z with <code>basin.partition</code>.</p>"
        )
        return
    method = escape(stated.get("method") or "method not stated", 200)
    value, error = stated.get("log_z"), stated.get("standard_error")
    checked = log_z_is_checked(record) or value_of({"value": error}) is not None
    yield f"<p><b>log Z = {format_with_error(value, error)}</b> nats "
    yield f"({method}{'' if checked else '; unchecked'})"
    low, high = value_of({"value": stated.get("lower")}), value_of({"value": stated.get("upper")})
    if checked and low is not None and high is not None:
        kinds = {"interval": "confidence interval", "bounds": "bounds that hold in expectation"}
        kind = kinds.get(str(stated.get("kind")), "range of the numerical error")
        share = stated.get("level") if stated.get("kind") == "interval" else None
        per_cent = f"{share:.0%} " if isinstance(share, float) else ""
        yield f"; {per_cent}{kind} from {format_number(low, 5)} to {format_number(high, 5)}"
    if isinstance(stated.get("effective_sample_size"), int | float):
        yield f"; effective sample size {format_count(stated['effective_sample_size'])}"
    yield ". log pθ(x) = −E(x) − log Z, in nats per row, in the units of the data.</p>"
    if checked:
        return
    measured = record.evaluation.get("log_z_error")
    if value_of(measured) is not None and isinstance(measured, Mapping):
        shown = format_with_error(measured["value"], measured.get("standard_error"))
        yield (
            "<p>The value above carries no error of its own; the check against quadrature found it "
            f"off by {shown} nats.</p>"
        )
        return
    yield (
        "<p><b>Unchecked</b> means: no quadrature and no sampling has tested this value. The "
        "objective learns log pσ at all noise levels up to one constant, which is tied at the "
        "largest level, where pσ is nearly a known Gaussian. What is learned wrongly on the way "
        "down shifts every log-likelihood by one unknown amount; differences between rows do not "
        "suffer. <code>basin evaluate</code> measures it: by quadrature up to three dimensions, "
        "else by the residual of the heat equation along the levels.</p>"
    )


def _repeat(record: RunRecord) -> Iterator[str]:
    config, data = record.config, record.data_config
    command = config.get("command")
    if isinstance(command, list | tuple):
        command = shlex.join(map(str, command))
    if command:
        yield f"<pre><code>{escape(command, 4_000)}</code></pre>"
    else:
        yield "<p>The command was not recorded: the run was started from Python. Its settings are "
        yield "below, whole in <code>config.json</code>.</p>"
    training = config.get("training")
    training = training if isinstance(training, Mapping) else {}
    source = data.get("source")
    source = source if isinstance(source, Mapping) else {"source": source}
    names = [record.column(i) for i in range(min(len(_list(data.get("columns"))), 12))]
    more = len(_list(data.get("columns"))) - len(names)
    facts = {
        "seed": training.get("seed"),
        "data": source.get("source") or "given from Python",
        "fingerprint": source.get("fingerprint"),
        "training rows": data.get("num_rows"),
        "held-out rows": data.get("num_validation_rows"),
        "columns": ", ".join(names) + (f" and {format_count(more)} more" if more > 0 else ""),
        "Basin": config.get("basin_version"),
        "PyTorch": config.get("torch_version"),
        "Python": config.get("python_version"),
        "platform": config.get("platform"),
        "threads": config.get("num_threads"),
    }
    yield _facts({k: escape(v, 400) for k, v in facts.items() if v not in (None, "")})
    yield "<p>The same seed, machine, versions and number of threads give the same bits.</p>"
    text = json.dumps(config, indent=2, ensure_ascii=False, default=str)
    cut = text[:MAX_CONFIG]
    note = "" if len(text) <= MAX_CONFIG else "\n… (cut here; the whole is in config.json)"
    clean = "\n".join(plain_text(line, 1_000) for line in (cut + note).split("\n"))
    yield f"<details><summary>All settings (config.json)</summary><pre><code>{html.escape(clean)}"
    yield "</code></pre></details>"


def _references(record: RunRecord) -> Iterator[str]:
    yield "<p>Methods that this run used.</p>" + '<ol class="references">'
    for reference in references_of(record.config, record.evaluation):
        authors = reference.authors
        names = authors if isinstance(authors, str) else ", ".join(authors)
        yield f"<li>{escape(names)} ({reference.year}). {escape(reference.title)}. "
        yield f'<a href="{escape(reference.url)}" rel="noreferrer">{escape(reference.url)}</a></li>'
    yield "</ol>"


def section(title: str, body: str) -> str:
    identifier = "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c == "-")
    heading = f'<h2 id="{identifier}">{title}</h2>'
    return f'<section aria-labelledby="{identifier}">{heading}{body}</section>'


def _facts(facts: Mapping[str, str]) -> str:
    """A description list; the values are escaped already."""
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{v}</dd>" for k, v in facts.items()) + "</dl>"


def class_name(config: Mapping[str, Any], key: str) -> str:
    described = config.get(key)
    name = described.get("class") if isinstance(described, Mapping) else None
    inner = described.get("energy") if isinstance(described, Mapping) else None
    if isinstance(inner, Mapping) and inner.get("class"):
        return f"{escape(name, 60)} {escape(inner['class'], 60)}"
    return escape(name or f"unknown {key}", 60)


def _log_z_of(run: Any) -> Mapping[str, Any] | None:
    log_z = getattr(run, "log_z", None)
    return log_z.to_json() if isinstance(log_z, LogZ) else None


def _duration(seconds: Any) -> str:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return ""
    if not math.isfinite(seconds):
        return ""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []
