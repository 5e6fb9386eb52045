"""Which pictures a run gets, in which order, with the words beneath them.

    2-D      data, samples, log density, score; the truth above the model; where the model is wrong
    1-D      histograms and densities as lines
    images   samples, data, nearest training rows of a few samples
    others   pair plot of the first columns

A picture that cannot be drawn becomes a sentence saying why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from basin.report.collect import RunRecord
from basin.report.figures import (
    DEPTH,
    PANELS,
    as_images,
    diagnostic_series,
    has_panel,
    loss_by_level,
    loss_lines,
    nearest,
    plot_density_line,
    plot_diagnostics,
    plot_difference,
    plot_images,
    plot_loss_by_level,
    plot_losses,
    plot_mode_weights,
    plot_neighbours,
    plot_pairs,
    plot_panel,
)
from basin.report.formatting import format_count, format_number, format_setting, plain_text
from basin.report.landscape import Landscape, box, landscape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Picture", "curves", "pictures"]

MAX_MODES = 40


@dataclass(frozen=True)
class Picture:
    """One figure with its words, or (``figure`` is ``None``) why there is none.

    Attributes:
        title: a few words above.
        caption: what is to be seen, in full sentences, beneath.
        alternative: the picture in words, for those who do not see it.
        figure: the drawing, or ``None``.
        is_wide: takes the whole width of the page.
    """

    title: str
    caption: str
    alternative: str = ""
    figure: Figure | None = None
    is_wide: bool = False


def pictures(record: RunRecord) -> tuple[Picture, ...]:
    """Pictures of data, samples and model that suit the kind of run."""
    return tuple(_pictures(record))


def curves(record: RunRecord) -> tuple[Picture, ...]:
    """Loss curves and diagnostics, where there is a history."""
    return tuple(_curves(record))


def _pictures(record: RunRecord) -> Iterator[Picture]:
    if record.dimension == 2 and len(record.event_shape) <= 2:
        yield from _plane(record)
    elif record.dimension == 1 and (record.run, record.data, record.samples) != (None,) * 3:
        yield from _line(record)
    elif record.kind == "images":
        yield from _images(record)
    elif record.samples is not None or record.data is not None:
        yield _drawn("Pairs of columns", lambda: _pairs(record))
    yield from _mode_weights(record)
    if _try(lambda: loss_by_level(record))[0]:
        yield _drawn("Loss by noise level", lambda: _loss_by_level(record))


def _plane(record: RunRecord) -> Iterator[Picture]:
    scene: Landscape | None = None
    if record.run is not None:
        scene, failure = _try(lambda: landscape(record))
        if scene is None:
            yield Picture("Model", f"The model's landscape could not be computed: {failure}")
    if scene is None:
        if record.samples is not None or record.data is not None:
            yield _drawn("Data and samples", lambda: _pairs(record))
        return
    for name in PANELS:
        if has_panel(record, scene, name):
            yield _drawn(PANEL_WORDS[name], lambda n=name: _panel(record, scene, n))
    if scene.truth is not None:
        yield _drawn("Where the model is wrong", lambda: _difference(record, scene))


PANEL_WORDS: Mapping[str, str] = {
    "data": "Data",
    "truth": "True log density",
    "true_score": "True score",
    "samples": "Samples",
    "model": "Model’s log density",
    "model_score": "Model’s score",
}


def _panel(record: RunRecord, scene: Landscape, name: str) -> Picture:
    blur = level(record)
    if name == "data":
        n = min(len(record.data), 4_000) if record.data is not None else 0
        words = f"{format_count(n)} {'fresh draws' if record.density is not None else 'rows'} of "
        words += f"{record.source}, not blurred."
        return Picture("Data", words, f"Scatter plot: {words}", plot_panel(record, scene, name))
    if name == "samples":
        words = _about_samples(record)
        return Picture("Samples", words, f"Scatter plot: {words}", plot_panel(record, scene, name))
    if name == "truth":
        words = f"log pσ, the data blurred by {blur}. Colours span {DEPTH:.0f} nats from its top."
        alternative = f"Map of the true log density. {_peak(scene, scene.truth)}"
        return Picture(PANEL_WORDS[name], words, alternative, plot_panel(record, scene, name))
    if name == "model":
        constant = "−E(x) − log Z" if scene.is_normalised else "−E(x), shifted to mass one here"
        words = f"log pθ = {constant}, in nats"
        words += ", on the truth’s colours." if scene.truth is not None else "."
        alternative = f"Map of the model's log density. {_peak(scene, scene.model)}"
        return Picture(PANEL_WORDS[name], words, alternative, plot_panel(record, scene, name))
    formula = "∇ log pσ" if name == "true_score" else "s(x) = −∇E(x)"
    words = f"{formula}: arrows give its direction, colours its size (logarithmic scale)."
    words += " Dots: below the scale."
    whose = "true" if name == "true_score" else "model's"
    num_arrows = 0 if scene.arrows is None else len(scene.arrows)
    alternative = f"Arrows of the {whose} score on a grid of {num_arrows} points."
    return Picture(PANEL_WORDS[name], words, alternative, plot_panel(record, scene, name))


def _difference(record: RunRecord, scene: Landscape) -> Picture:
    difference = scene.difference
    size = np.abs(difference[np.isfinite(difference)])
    words = (
        "log pθ − log pσ where 99.9 % of pσ lies; white is right, red is too much mass, blue too "
        f"little. Half of this area is off by less than {format_number(float(np.median(size)), 2)} "
        f"nats, nine tenths by less than {format_number(float(np.quantile(size, 0.9)), 2)}."
    )
    if not scene.is_normalised:
        words += " Without log Z the model was scaled to mass one in this frame."
    title = "Where the model is wrong"
    return Picture(title, words, f"Map. {words}", plot_difference(record, scene))


def _line(record: RunRecord) -> Iterator[Picture]:
    scene, failure = (None, "")
    if record.run is not None:
        scene, failure = _try(lambda: landscape(record))
    if failure:
        yield Picture("Model", f"The model's density could not be computed: {failure}")

    def draw() -> Picture:
        parts = ["Histograms: data (blue), samples (orange)."]
        if scene is not None:
            name = "pθ" if scene.is_normalised else "exp(−E), scaled to mass one in this frame"
            parts.append(f"Orange line: the model, {name}.")
            if scene.truth is not None:
                parts.append(f"Blue line: the truth, the data blurred by {level(record)}.")
        words = " ".join(parts)
        figure = plot_density_line(record, scene) if scene else plot_density_line(_bare(record))
        return Picture("Density", words, f"Chart. {words}", figure, is_wide=True)

    yield _drawn("Density", draw)


def _images(record: RunRecord) -> Iterator[Picture]:
    for which, rows, title in (
        ("samples", record.samples, "Samples"),
        ("data", record.data, "Data"),
    ):
        if rows is None:
            continue
        if as_images(rows[:1]) is None:
            shape = " × ".join(map(str, rows.shape[1:]))
            yield Picture(title, f"Rows of shape {shape} are not images this page can draw.")
            continue
        yield _drawn(title, lambda which=which, title=title: _image_grid(record, which, title))
    if record.samples is not None and record.data is not None:
        yield _drawn("Nearest training rows", lambda: _neighbours(record))


def _image_grid(record: RunRecord, which: str, title: str) -> Picture:
    if which == "samples":
        words = _about_samples(record, 64)
    else:
        words = f"The first training rows of {record.source}."
    words += " Both grids use the grey levels of the data; what lies beyond is cut off."
    return Picture(title, words, f"Grid of images. {words}", plot_images(record, which))


def _neighbours(record: RunRecord) -> Picture:
    assert record.samples is not None
    assert record.data is not None
    few = record.samples[:8]
    _, distance = nearest(few, record.data, 1)
    closest = format_number(float(distance.min()))
    words = (
        f"{len(few)} samples (framed), each above its three nearest of "
        f"{format_count(len(record.data))} training rows, with the Euclidean distances. A sample "
        f"that equals a row was memorised; the smallest distance here is {closest}."
    )
    title = "Nearest training rows"
    return Picture(title, words, f"Grid of images. {words}", plot_neighbours(record), is_wide=True)


def _pairs(record: RunRecord) -> Picture:
    shown, total = min(record.dimension, 6), record.dimension
    which = (
        f"The first {shown} of {format_count(total)} columns" if total > shown else "All columns"
    )
    words = (
        f"{which}. Below the diagonal: data; above it: samples; on it: both histograms. "
        "A model that is right looks like its own mirror image."
    )
    if record.samples is None:
        words += " There are no samples to show."
    if record.data is None:
        words += " There are no data to show."
    title = "Pairs of columns"
    return Picture(title, words, f"Pair plot. {words}", plot_pairs(record), is_wide=True)


def _mode_weights(record: RunRecord) -> Iterator[Picture]:
    for key, what in (("mode_weights_of_energy", "mass"), ("mode_weights", "samples")):
        entry = record.evaluation.get(key)
        details = entry.get("details") if isinstance(entry, Mapping) else None
        if not isinstance(details, Mapping):
            continue
        shares, truth = _numbers(details.get("shares")), _numbers(details.get("truth"))
        if not shares or len(shares) != len(truth) or not 1 < len(truth) <= MAX_MODES:
            continue

        def draw(
            shares: list[float] = shares, truth: list[float] = truth, what: str = what
        ) -> Picture:
            names = [str(i + 1) for i in range(len(truth))]
            words = f"Share of the model’s {what} in each of {len(truth)} modes against the truth."
            pairs = ", ".join(
                f"mode {n}: {format_number(s)} (true {format_number(t)})"
                for n, s, t in zip(names, shares, truth, strict=True)
            )
            figure = plot_mode_weights(names, shares, truth)
            return Picture("Mode weights", words, f"{words} {pairs}", figure)

        yield _drawn("Mode weights", draw)
        return


def _loss_by_level(record: RunRecord) -> Picture:
    levels = loss_by_level(record)
    words = (
        "Held-out denoising loss over that of the zero score at levels of the ladder; smaller is "
        "better, and the true score’s own is the floor where it is known."
    )
    values = ", ".join(f"{format_number(v)} at σ = {format_number(s)}" for s, v, *_ in levels)
    title = "Loss by noise level"
    return Picture(title, words, f"Line chart. {words} {values}.", plot_loss_by_level(record))


def _curves(record: RunRecord) -> Iterator[Picture]:
    lines, diagnostics = _try(lambda: loss_lines(record))[0], None
    if lines:

        def draw_losses() -> Picture:
            parts = ["Loss against the step."]
            if "relative_loss" in lines:
                parts = [
                    "Loss over that of the trivial predictor (score zero): 1 is nothing learned."
                ]
            parts.append("It does not go to 0: no score can know the noise.")
            if "raw" in lines or "ema" in lines:
                parts.append(
                    "Validation uses fixed rows and fixed noise, for the weights as trained "
                    "(raw) and for their running average (EMA)."
                )
            ends = [
                f"{words} ends at {format_number(float(lines[key][1][-1]))}"
                for key, words in (
                    ("ema", "validation with EMA weights"),
                    ("raw", "validation with raw weights"),
                    ("relative_loss", "training"),
                )
                if key in lines
            ]
            words = " ".join(parts)
            alternative = f"Line chart. {words} {'; '.join(ends)}."
            return Picture("Loss", words, alternative, plot_losses(record), is_wide=True)

        yield _drawn("Loss", draw_losses)
    diagnostics = _try(lambda: diagnostic_series(record))[0]
    if diagnostics:

        def draw_diagnostics() -> Picture:
            names = ", ".join(plain_text(name) for name in diagnostics)
            words = f"{names[:1].upper()}{names[1:]}, against the step."
            figure = plot_diagnostics(record)
            return Picture("Diagnostics", words, f"Line charts: {words}", figure, is_wide=True)

        yield _drawn("Diagnostics", draw_diagnostics)


def level(record: RunRecord) -> str:
    """``noise of standard deviation σ = 0.1``, with the unit where it is not the data's own."""
    if record.sigma is None:
        return "no noise"
    words = f"noise of standard deviation σ = {format_setting(record.sigma)}"
    return words if record.kind == "density" else f"{words} (in standardised units)"


def _about_samples(record: RunRecord, at_most: int = 4_000) -> str:
    assert record.samples is not None
    words = f"{format_count(min(len(record.samples), at_most))} draws of the model"
    if record.samples_sigma is not None:
        words += f" at σ = {format_setting(record.samples_sigma)}"
    if record.dimension == 2:
        flat = record.samples.reshape(len(record.samples), -1)
        low, high = np.asarray(box(record)).T
        outside = int(((flat < low) | (flat > high)).any(axis=1).sum())
        if outside:
            words += (
                f"; {format_count(outside)} of {format_count(len(flat))} lie outside this frame"
            )
    return words + "."


def _peak(scene: Landscape, values: np.ndarray | None) -> str:
    if values is None:
        return ""
    row, column = np.unravel_index(int(np.argmax(values)), values.shape)
    return (
        f"Its highest value, {format_number(float(values.max()))} nats, is at "
        f"({format_number(float(scene.x[column]))}, {format_number(float(scene.y[row]))})."
    )


def _bare(record: RunRecord) -> RunRecord:
    from dataclasses import replace

    return replace(record, run=None)


def _drawn(title: str, draw: Callable[[], Picture]) -> Picture:
    picture, failure = _try(draw)
    return picture or Picture(title, f"This picture could not be drawn: {failure}")


def _try(action: Callable[[], Any]) -> tuple[Any, str]:
    try:
        return action(), ""
    except Exception as error:  # one broken picture must not cost the reader the page
        return None, f"{plain_text(error, 300) or 'no reason given'} ({type(error).__name__})."


def _numbers(value: Any) -> list[float]:
    if not isinstance(value, list | tuple):
        return []
    good = [float(v) for v in value if isinstance(v, int | float) and np.isfinite(v)]
    return good if len(good) == len(value) else []
