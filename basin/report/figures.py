"""The pictures of a run, one function each; every one takes a folder, a ``Run`` or a ``RunRecord``.

They return a :class:`matplotlib.figure.Figure` that belongs to the caller: no pyplot, no global
state. matplotlib is imported when the first picture is drawn. Colours are few and mean one thing
throughout: blue is data and truth, orange is the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from basin.report.collect import RunRecord, collect
from basin.report.formatting import plain_text
from basin.report.landscape import Landscape, box, landscape, limits
from basin.training.trend import loss_curves, series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "plot_density_line",
    "plot_diagnostics",
    "plot_difference",
    "plot_held_out_losses",
    "plot_images",
    "plot_loss_by_level",
    "plot_losses",
    "plot_mode_weights",
    "plot_neighbours",
    "plot_pairs",
    "plot_panels",
]

INK = "#1d2433"  # these three become CSS colours on the page, so that dark mode can change them
MUTED = "#697386"
RULE = "#d5dae2"
DATA = "#3c86b8"  # blue and orange are told apart by the colour-blind and on both backgrounds
MODEL = "#d9772e"
THIRD = "#5f9e6e"
NUM_WINDOWS = 150  # points of a smoothed line
DEPTH = 12.0  # nats below the maximum that a map of log density shows

PANELS = ("data", "truth", "true_score", "samples", "model", "model_score")


def plot_panels(source: Any) -> Figure:
    """The lesson's panels of a 2-D run: points, log density, score; the truth above the model.

    Where the truth is not known the upper row is only the data.

    Raises:
        ValueError: the run is not two-dimensional, or its model could not be loaded.
    """
    record = collect(source)
    if record.dimension != 2:
        raise ValueError(f"plot_panels needs 2 dimensions, got {record.dimension}; try plot_pairs")
    scene = landscape(record)
    names = [name for name in PANELS if has_panel(record, scene, name)]
    columns = 3 if len(names) > 4 else 2
    rows = math.ceil(len(names) / columns)
    with _style():
        figure = _figure(3.5 * columns, 3.3 * rows)
        for i, name in enumerate(names):
            ax = figure.add_subplot(rows, columns, i + 1)
            draw_panel(ax, record, scene, name)
            ax.set_title(PANEL_TITLES[name])
    return figure


def plot_panel(record: RunRecord, scene: Landscape, name: str) -> Figure:
    """One of :data:`PANELS` alone, without a title; axes of all panels have one size."""
    with _style():
        figure, ax, bar_ax = _panel(has_bar=name not in ("data", "samples"))
        draw_panel(ax, record, scene, name, bar_ax)
    return figure


def plot_difference(source: Any, scene: Landscape | None = None) -> Figure:
    """Where a 2-D model is wrong: log pθ − log pσ in nats, over the 99.9 % of pσ that matters.

    Raises:
        ValueError: the truth is not known, or the run is not two-dimensional.
    """
    record = collect(source)
    scene = landscape(record) if scene is None else scene
    difference = scene.difference
    reach = max(float(np.nanquantile(np.abs(difference), 0.99)), 1e-3)
    with _style():
        figure, ax, bar_ax = _panel(has_bar=True)
        image = _map(ax, scene, difference, "RdBu_r", -reach, reach)
        _frame(ax, record)
        _bar(ax, image, "log pθ − log pσ (nats)", "both", bar_ax)
    return figure


def plot_density_line(source: Any, scene: Landscape | None = None) -> Figure:
    """A 1-D run: histograms of data and samples, the model's density and the truth as lines."""
    record = collect(source)
    low, high = box(record)[0]
    edges = np.linspace(low, high, 61).tolist()
    with _style():
        figure = _figure(7.0, 3.2)
        ax = figure.add_subplot()
        for rows, color, label in _two_clouds(record):
            ax.hist(rows[:, 0], edges, density=True, color=color, alpha=0.28, label=label)
        if scene is None and record.run is not None:
            scene = landscape(record)
        if scene is not None:
            if scene.truth is not None:
                ax.plot(scene.x, np.exp(scene.truth), color=DATA, label="truth, pσ")
            ax.plot(scene.x, np.exp(scene.model), color=MODEL, label="model, pθ")
        ax.set_xlim(low, high)
        ax.set_xlabel(record.column(0), parse_math=False)
        ax.set_ylabel("density")
        _quiet(ax)
        ax.legend()
    return figure


def plot_pairs(source: Any, *, max_columns: int = 6) -> Figure:
    """Every pair of the first columns: data below the diagonal, samples above, histograms on it.

    A model that is right looks like its own mirror image.

    Args:
        source: a folder, a ``Run`` or a ``RunRecord``.
        max_columns: how many columns at most are drawn.

    Raises:
        ValueError: there are neither data nor samples.
    """
    record = collect(source)
    clouds = {label: rows for rows, _, label in _two_clouds(record)}
    if not clouds:
        raise ValueError("plot_pairs needs data or samples, and this run has neither")
    n = min(record.dimension, max_columns)
    num_dots = min(2_000, *map(len, clouds.values()))  # as many of each, or they look different
    reference = clouds.get("data", next(iter(clouds.values())))
    spans = [limits(reference[:, i]) for i in range(n)]
    size = max(1.35 * n, 3.5)
    with _style():
        figure = _figure(size, size, layout=None)
        edge = 0.62 / size
        figure.subplots_adjust(edge, edge, 1 - 0.05 / size, 1 - 0.3 / size, 0.1, 0.1)
        grid = figure.subplots(n, n, squeeze=False)
        for i in range(n):
            for j in range(n):
                ax = grid[i][j]
                if i == j:
                    _draw_histograms(ax, record, i, spans[i])
                else:
                    label, color = ("data", DATA) if i > j else ("samples", MODEL)
                    rows = clouds.get(label)
                    if rows is not None:
                        _dots(ax, rows[:num_dots, j], rows[:num_dots, i], color)
                    ax.set_ylim(spans[i])
                ax.set_xlim(spans[j])
                _outer_labels(ax, record, i, j, n)
        handles = [_patch(DATA, "data (below)"), _patch(MODEL, "samples (above)")]
        figure.legend(handles=handles, loc="upper center", ncols=2)
    return figure


def plot_images(source: Any, which: str = "samples", *, num_images: int = 64) -> Figure:
    """A grid of images, samples or data, on the grey levels of the data.

    Args:
        source: a folder, a ``Run`` or a ``RunRecord``.
        which: ``samples`` or ``data``.
        num_images: at most so many, in rows of eight.

    Raises:
        ValueError: there are none, or rows are not images.
    """
    record = collect(source)
    if which not in ("samples", "data"):
        raise ValueError(f"which must be 'samples' or 'data', got {which!r}")
    rows = record.samples if which == "samples" else record.data
    pictures = None if rows is None else as_images(rows[:num_images])
    if pictures is None or not len(pictures):
        raise ValueError(f"plot_images needs {which} that are images, and this run has none")
    low, high = grey_levels(record)
    across = min(8, len(pictures))
    down = math.ceil(len(pictures) / across)
    with _style():
        figure = _figure(4.2, 4.2 * down / across, layout=None)
        ax = figure.add_axes((0, 0, 1, 1))
        _draw_image(ax, _mosaic(pictures, across, down), low, high)
        ax.set_axis_off()
    return figure


def plot_neighbours(source: Any, *, num_samples: int = 8, num_neighbours: int = 3) -> Figure:
    """A few samples, each above its nearest training rows, with their distances.

    Raises:
        ValueError: samples or data are missing, or rows are not images.
    """
    record = collect(source)
    if record.samples is None or record.data is None:
        raise ValueError("plot_neighbours needs samples and data")
    samples = as_images(record.samples[:num_samples])
    data = as_images(record.data)
    if samples is None or data is None:
        raise ValueError(f"plot_neighbours needs images, got rows of shape {record.event_shape}")
    index, distance = nearest(record.samples[:num_samples], record.data, num_neighbours)
    low, high = grey_levels(record)
    rows, columns = index.shape[1] + 1, len(samples)
    with _style():
        figure = _figure(0.86 * columns + 0.3, 1.05 * rows, layout=None)
        left = 0.3 / (0.86 * columns + 0.3)
        figure.subplots_adjust(left, 0.06, 0.995, 0.985, wspace=0.06, hspace=0.22)
        for i in range(columns):
            ax = figure.add_subplot(rows, columns, i + 1)
            _draw_image(ax, samples[i], low, high)
            for side in ax.spines.values():
                side.set_visible(True)
                side.set_color(MODEL)
                side.set_linewidth(1.6)
            if i == 0:
                ax.set_ylabel("sample", color=MODEL)
            for j in range(rows - 1):
                ax = figure.add_subplot(rows, columns, (j + 1) * columns + i + 1)
                _draw_image(ax, data[index[i, j]], low, high)
                ax.set_xlabel(f"{distance[i, j]:.3g}", color=MUTED, fontsize=7, labelpad=2)
                if i == 0:
                    ax.set_ylabel(("nearest", "2nd", "3rd")[j] if j < 3 else f"{j + 1}th")
    return figure


def plot_losses(source: Any) -> Figure:
    """The training loss, and the fixed validation loss of both sets of weights, against the step.

    Relative to the trivial predictor (score zero) where that was recorded: 1 is nothing learned.

    Raises:
        ValueError: the history is empty.
    """
    record = collect(source)
    lines = loss_lines(record)
    if not lines:
        raise ValueError("plot_losses needs a history, and this run has none")
    relative = "relative_loss" in lines
    with _style():
        figure = _figure(7.0, 3.0)
        ax = figure.add_subplot()
        shown: list[np.ndarray] = []
        key = "relative_loss" if relative else "loss"
        if key in lines:
            steps, values = lines[key]
            if len(steps) > NUM_WINDOWS:
                ax.plot(*thinned(steps, values), color=MUTED, alpha=0.25, linewidth=0.7)
            steps, values = smoothed(steps, values)
            ax.plot(steps, values, color=MUTED, label="training batches, averaged")
            shown.append(values)
        for key, color, style, label in (
            ("raw", DATA, "--", "validation, raw weights"),
            ("ema", MODEL, "-", "validation, EMA weights"),
        ):
            if key in lines:
                ax.plot(*lines[key], color=color, linestyle=style, label=label)
                shown.append(lines[key][1])
        _robust_limits(ax, shown, floor_at=1.0 if relative else None)
        if relative:
            ax.axhline(1.0, color=INK, linewidth=0.8, linestyle=":", label="nothing learned")
        ax.set_xlabel("step")
        ax.set_ylabel("loss / trivial loss" if relative else "loss")
        _quiet(ax)
        ax.legend()
    return figure


def plot_held_out_losses(records: Mapping[str, RunRecord]) -> Figure:
    """The held-out loss of the chosen weights of several runs, by the name of each.

    Raises:
        ValueError: no run has a held-out loss in its history.
    """
    lines = {name: loss_lines(record) for name, record in records.items()}
    lines = {
        name: found.get(records[name].weights, found.get("raw")) for name, found in lines.items()
    }
    lines = {name: line for name, line in lines.items() if line is not None}
    if not lines:
        raise ValueError("None of these runs has a held-out loss in its history")
    with _style():
        figure = _figure(7.0, 3.2)
        ax = figure.add_subplot()
        styles = ("-", "--", ":", "-.")
        for i, (name, line) in enumerate(lines.items()):
            label = plain_text(name, 60).replace("$", r"\$")
            ax.plot(*line, color=f"C{i % 10}", linestyle=styles[i % 4], label=label)
        _robust_limits(ax, [line[1] for line in lines.values()], floor_at=1.0)
        ax.set_xlabel("step")
        ax.set_ylabel("loss / trivial loss")
        _quiet(ax)
        ax.legend()
    return figure


def plot_diagnostics(source: Any) -> Figure:
    """Gradient norm, learning rate and the terms of the loss, each on its own axis.

    Raises:
        ValueError: the history holds none of them.
    """
    record = collect(source)
    found = diagnostic_series(record)
    if not found:
        raise ValueError("plot_diagnostics needs a history, and this run has none")
    columns = 2 if len(found) in (2, 4) else min(len(found), 3)
    rows = math.ceil(len(found) / columns)
    with _style():
        figure = _figure(7.0 if columns > 1 else 3.5, 2.1 * rows)
        for i, (name, (steps, values)) in enumerate(found.items()):
            ax = figure.add_subplot(rows, columns, i + 1)
            if len(steps) > NUM_WINDOWS:
                ax.plot(*thinned(steps, values), color=MUTED, linewidth=0.6, alpha=0.35)
            smooth = smoothed(steps, values)
            ax.plot(*smooth, color=DATA)
            positive = values[np.isfinite(values) & (values > 0)]
            if name == "gradient norm" and len(positive) == len(values):
                ax.set_yscale("log")
            else:
                _robust_limits(ax, [smooth[1]])
            ax.set_title(name, parse_math=False)
            if i >= len(found) - columns:
                ax.set_xlabel("step")
            _quiet(ax)
    return figure


def plot_loss_by_level(source: Any) -> Figure:
    """Held-out loss relative to the trivial predictor at levels of the ladder, with its floor.

    Raises:
        ValueError: the evaluation holds none.
    """
    record = collect(source)
    levels = loss_by_level(record)
    if not levels:
        raise ValueError("plot_loss_by_level needs an evaluation by level, and this run has none")
    sigmas, values, errors, floors = np.asarray(levels).T
    with _style():
        figure = _figure(3.3, 3.0)
        ax = figure.add_subplot()
        if np.isfinite(floors).all():
            ax.plot(sigmas, floors, color=DATA, linestyle="--", label="the true score")
        bars = 2 * np.nan_to_num(errors)
        ax.errorbar(sigmas, values, bars, color=MODEL, marker="o", label="model ± 2 s.e.")
        ax.set_xscale("log")
        ax.set_xlabel("σ")
        ax.set_ylabel("loss / trivial loss")
        _quiet(ax)
        ax.legend()
    return figure


def plot_mode_weights(
    names: Sequence[str], model: Sequence[float], truth: Sequence[float]
) -> Figure:
    """Share of each mode: the truth as bars, the model as dots.

    Args:
        names: label of each mode.
        model: shares in the model.
        truth: shares in the data, same length.
    """
    where = np.arange(len(truth))
    with _style():
        figure = _figure(3.5, 3.0)
        ax = figure.add_subplot()
        ax.bar(where, truth, color=DATA, alpha=0.45, width=0.7, label="truth")
        ax.plot(where, model, "o", color=MODEL, label="model")
        ax.set_xticks(where.tolist())
        ax.set_xticklabels([])
        for x, label in zip(where, names, strict=True):
            ax.annotate(
                label,
                (float(x), 0),
                xycoords=("data", "axes fraction"),
                xytext=(0, -4),
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize=8,
                parse_math=False,
            )
        ax.set_ylim(0, None)
        ax.set_ylabel("share")
        _quiet(ax)
        figure.legend(loc="outside upper center", ncols=2)
    return figure


PANEL_TITLES: Mapping[str, str] = {
    "data": "data",
    "truth": "truth: log pσ",
    "true_score": "truth: score ∇ log pσ",
    "samples": "samples of the model",
    "model": "model: log pθ = −E − log Z",
    "model_score": "model: score −∇E",
}


def has_panel(record: RunRecord, scene: Landscape, name: str) -> bool:
    """Whether the record holds what the panel shows."""
    held = {
        "data": record.data,
        "samples": record.samples,
        "truth": scene.truth,
        "model": scene.model,
        "true_score": scene.true_score,
        "model_score": scene.model_score,
    }
    return held[name] is not None


def draw_panel(
    ax: Axes, record: RunRecord, scene: Landscape, name: str, bar_ax: Axes | None = None
) -> None:
    """Draw one of :data:`PANELS` on ``ax``; maps and arrows share their scale with the truth's."""
    if name in ("data", "samples"):
        rows = record.data if name == "data" else record.samples
        assert rows is not None  # has_panel was asked
        flat = rows[:4_000].reshape(-1, 2)
        _dots(ax, flat[:, 0], flat[:, 1], DATA if name == "data" else MODEL)
    elif name in ("truth", "model"):
        values = scene.truth if name == "truth" else scene.model
        assert values is not None
        top = float(np.max(scene.model if scene.truth is None else scene.truth))
        image = _map(ax, scene, values, "viridis", top - DEPTH, top)
        _bar(ax, image, "nats", "min", bar_ax)
    else:
        _draw_scores(ax, scene, name, bar_ax)
    _frame(ax, record)


def as_images(rows: np.ndarray) -> np.ndarray | None:
    """``[n, H, W]`` or ``[n, H, W, 3]`` from rows in any of the usual layouts, else ``None``."""
    shape = rows.shape[1:]
    side = math.isqrt(shape[0]) if len(shape) == 1 else 0
    if len(shape) == 1 and side > 1 and side * side == shape[0]:
        return rows.reshape(-1, side, side)
    if len(shape) == 2:
        return rows
    if len(shape) == 3 and shape[0] == 1:
        return rows[:, 0]
    if len(shape) == 3 and shape[0] == 3:
        return np.moveaxis(rows, 1, -1)
    if len(shape) == 3 and shape[2] == 1:
        return rows[..., 0]
    return rows if len(shape) == 3 and shape[2] == 3 else None


def grey_levels(record: RunRecord) -> tuple[float, float]:
    """Black and white of the pictures: the range of the data, else of the samples."""
    rows = record.data if record.data is not None else record.samples
    if rows is None or not len(rows):
        return 0.0, 1.0
    low, high = float(rows.min()), float(rows.max())
    return (low, high) if high > low else (low, low + 1.0)


def nearest(x: np.ndarray, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices and Euclidean distances ``[len(x), k]`` of the nearest of ``rows``, nearest first."""
    a = x.reshape(len(x), -1).astype(np.float64)
    b = rows.reshape(len(rows), -1)
    k = min(k, len(b))
    index, distance = np.empty((len(a), k), int), np.empty((len(a), k))
    for i, point in enumerate(a):
        d = np.sqrt(np.square(b - point).sum(axis=1))
        index[i] = np.argsort(d, kind="stable")[:k]
        distance[i] = d[index[i]]
    return index, distance


def loss_lines(record: RunRecord) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What :func:`plot_losses` draws: ``relative_loss`` (or ``loss``), ``raw`` and ``ema``."""
    return loss_curves(record.history)


def loss_by_level(record: RunRecord) -> list[tuple[float, float, float, float]]:
    """Level, relative loss, its standard error and its floor (NaN if unknown), by level."""
    details = _inside(record.evaluation, "relative_loss", "details")
    rows = details.get("by_sigma") if isinstance(details, Mapping) else None
    found = []
    for row in rows[:100] if isinstance(rows, list | tuple) else ():
        if isinstance(row, Mapping) and _is_number(row.get("sigma")) and _is_number(row["value"]):
            rest = (row.get(name) for name in ("standard_error", "floor"))
            numbers = [float(v) if _is_number(v) else math.nan for v in rest]
            if row["sigma"] > 0:
                found.append((float(row["sigma"]), float(row["value"]), numbers[0], numbers[1]))
    return sorted(found)


def diagnostic_series(record: RunRecord) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What :func:`plot_diagnostics` draws, by title."""
    found = {
        "gradient norm": series(record.history, "gradient_norm"),
        "learning rate": series(record.history, "learning_rate"),
    }
    names: dict[str, None] = {}
    for row in record.history:
        terms = row.get("terms")
        if isinstance(terms, Mapping):
            names.update(dict.fromkeys(terms))
        if len(names) >= 4:
            break
    for name in list(names)[:4]:
        found[f"term: {name}"[:40]] = series(
            record.history, lambda row, n=name: _inside(row, "terms", n)
        )
    return {name: value for name, value in found.items() if len(value[0])}


def smoothed(
    steps: np.ndarray, values: np.ndarray, num_points: int = NUM_WINDOWS
) -> tuple[np.ndarray, np.ndarray]:
    """Means over at most ``num_points`` equal windows; what is not finite stays so."""
    if len(steps) <= num_points:
        return steps, values
    edges = np.linspace(0, len(steps), num_points + 1).astype(int)
    width = np.diff(edges)
    with np.errstate(invalid="ignore"):
        return (
            np.add.reduceat(steps, edges[:-1]) / width,
            np.add.reduceat(values, edges[:-1]) / width,
        )


def thinned(
    steps: np.ndarray, values: np.ndarray, num_points: int = 1_500
) -> tuple[np.ndarray, np.ndarray]:
    """At most about ``num_points`` of the points, evenly taken."""
    stride = max(math.ceil(len(steps) / num_points), 1)
    return steps[::stride], values[::stride]


def _two_clouds(record: RunRecord) -> list[tuple[np.ndarray, str, str]]:
    clouds = []
    for rows, color, label in ((record.data, DATA, "data"), (record.samples, MODEL, "samples")):
        if rows is not None and len(rows):
            clouds.append((rows.reshape(len(rows), -1), color, label))
    return clouds


def _draw_histograms(ax: Axes, record: RunRecord, i: int, span: tuple[float, float]) -> None:
    edges = np.linspace(*span, 31).tolist()
    for rows, color, _ in _two_clouds(record):
        ax.hist(rows[:, i], edges, density=True, color=color, histtype="step", linewidth=1.1)
    ax.set_yticks([])


def _draw_scores(ax: Axes, scene: Landscape, name: str, bar_ax: Axes | None) -> None:
    """Arrows of one length: direction is the score's, colour its size on a logarithmic scale."""
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import StrMethodFormatter

    vectors = scene.true_score if name == "true_score" else scene.model_score
    assert vectors is not None
    assert scene.arrows is not None
    shared = vectors if scene.true_score is None else scene.true_score
    sizes = np.linalg.norm(shared, axis=1)
    low, high = np.quantile(sizes[sizes > 0], [0.05, 0.95]) if (sizes > 0).any() else (0.1, 1.0)
    low = max(low, 1e-2 * high)
    norms = np.linalg.norm(vectors, axis=1)
    directions = np.where(norms >= low, 1 / np.maximum(norms, 1e-12), 0)[:, None] * vectors
    arrows = ax.quiver(
        *scene.arrows.T,
        *directions.T,
        np.maximum(norms, 1e-12),
        cmap="cividis",
        norm=LogNorm(low, max(high, 1.01 * low)),
        pivot="mid",
        scale=math.sqrt(len(vectors)) * 1.15,
        width=0.0055,
    )
    arrows.set_rasterized(True)
    bar = _bar(ax, arrows, "‖score‖", "both", bar_ax)
    bar.set_ticks(_round_numbers(low, high))
    bar.minorticks_off()
    bar.formatter = StrMethodFormatter("{x:g}")


def _bar(ax: Axes, image: Any, label: str, extend: Any, bar_ax: Axes | None) -> Any:
    """A colour bar: in axes of its own beneath the panel, else beside it."""
    if bar_ax is None:
        place: dict[str, Any] = {"ax": ax, "fraction": 0.046, "pad": 0.03}
    else:
        place = {"cax": bar_ax, "orientation": "horizontal"}
    bar: Any = ax.figure.colorbar(image, extend=extend, **place)
    bar.outline.set_visible(False)
    bar.set_label(label)
    return bar


def _round_numbers(low: float, high: float) -> list[float]:
    """1, 2, 5 times powers of ten in an interval, thinned to at most five."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [m * 10.0**d for d in decades for m in (1, 2, 5) if low <= m * 10.0**d <= high]
    return found[:: math.ceil(len(found) / 5)] if found else [low, high]


def _panel(has_bar: bool) -> tuple[Figure, Axes, Axes | None]:
    """A figure whose axes have one size in inches, with or without a colour bar beneath."""
    width, side, left, top, below = 3.3, 2.72, 0.5, 0.06, 0.48
    bar_room = 0.52 if has_bar else 0.0
    height = top + side + below + bar_room
    figure = _figure(width, height, layout=None)
    ax = figure.add_axes((left / width, (below + bar_room) / height, side / width, side / height))
    if not has_bar:
        return figure, ax, None
    return figure, ax, figure.add_axes((left / width, 0.4 / height, side / width, 0.09 / height))


def _map(ax: Axes, scene: Landscape, values: np.ndarray, cmap: str, low: float, high: float) -> Any:
    extent = (scene.x[0], scene.x[-1], scene.y[0], scene.y[-1])
    return ax.imshow(
        values,
        origin="lower",
        extent=extent,
        cmap=cmap,
        vmin=low,
        vmax=high,
        aspect="auto",
        interpolation="nearest",
    )


def _dots(ax: Axes, x: np.ndarray, y: np.ndarray, color: str) -> None:
    size, alpha = (4.0, 0.5) if len(x) <= 2_000 else (2.5, 0.4)
    ax.scatter(x, y, s=size, c=color, alpha=alpha, linewidths=0, rasterized=True)


def _mosaic(pictures: np.ndarray, across: int, down: int) -> np.ndarray:
    """Images in rows with gaps of NaN, ``[H, W]`` or ``[H, W, 3]``: one picture draws fast."""
    height, width = pictures.shape[1:3]
    gap = max(1, round(height / 10))
    shape = (down * (height + gap) - gap, across * (width + gap) - gap, *pictures.shape[3:])
    canvas = np.full(shape, np.nan, np.float32)
    for i, picture in enumerate(pictures):
        top, left = (i // across) * (height + gap), (i % across) * (width + gap)
        canvas[top : top + height, left : left + width] = picture
    return canvas


def _draw_image(ax: Axes, picture: np.ndarray, low: float, high: float) -> None:
    if picture.ndim == 3:
        is_gap = np.isnan(picture).any(axis=2, keepdims=True)
        colors = np.clip((np.nan_to_num(picture) - low) / (high - low), 0, 1)
        ax.imshow(np.concatenate([colors, 1.0 - is_gap], axis=2), interpolation="none")
    else:
        ax.imshow(picture, cmap="gray", vmin=low, vmax=high, interpolation="none")
    ax.set_xticks([])
    ax.set_yticks([])
    for side in ax.spines.values():
        side.set_visible(False)


def _frame(ax: Axes, record: RunRecord) -> None:
    (x_low, x_high), (y_low, y_high) = box(record)
    ax.set_xlim(x_low, x_high)
    ax.set_ylim(y_low, y_high)
    spans = sorted((x_high - x_low, y_high - y_low))
    if spans[1] < 4 * spans[0]:
        ax.set_aspect("equal")
    ax.set_xlabel(record.column(0), parse_math=False)
    ax.set_ylabel(record.column(1), parse_math=False)


def _outer_labels(ax: Axes, record: RunRecord, i: int, j: int, n: int) -> None:
    ax.tick_params(labelsize=6)
    ax.locator_params(nbins=3)
    if i < n - 1:
        ax.set_xticklabels([])
    else:
        ax.set_xlabel(record.column(j), parse_math=False, fontsize=7)
    if j > 0 or i == j:
        ax.set_yticklabels([])
    if j == 0:
        ax.set_ylabel(record.column(i), parse_math=False, fontsize=7)


def _robust_limits(ax: Axes, shown: Sequence[np.ndarray], floor_at: float | None = None) -> None:
    """Limits that follow the smoothed lines, so that one wild batch does not flatten the rest."""
    values = (
        np.concatenate([np.asarray(v)[np.isfinite(v)] for v in shown]) if shown else np.empty(0)
    )
    if not len(values):
        return
    low, high = float(values.min()), float(np.quantile(values, 0.98))
    high = max(high, float(np.median(values)))
    if floor_at is not None:
        high = max(high, floor_at)
    if floor_at is not None and low > 0 and high / low > 20:
        ax.set_yscale("log")
        ax.set_ylim(low / 1.3, high * 1.3)
        return
    margin = 0.08 * (high - low) or 0.1 * max(abs(high), 1e-3)
    ax.set_ylim(low - margin, high + margin)


def _quiet(ax: Axes) -> None:
    ax.spines["top"].set_visible(False)
    ax.spines["right"].set_visible(False)
    ax.grid(axis="y", color=RULE, linewidth=0.6)
    ax.set_axisbelow(True)


def _patch(color: str, label: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], marker="o", linestyle="", markersize=4, color=color, label=label)


def _figure(width: float, height: float, layout: Any = "constrained") -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout, dpi=160)
    FigureCanvasAgg(figure)
    return figure


def _style() -> Any:
    """Settings of every picture; a context, so the caller's own settings stay."""
    import matplotlib

    return matplotlib.rc_context(
        {
            "font.family": "sans-serif",
            "font.sans-serif": ["DejaVu Sans"],
            "font.size": 8.5,
            "axes.titlesize": 9,
            "axes.titlecolor": INK,
            "axes.labelsize": 8.5,
            "axes.labelcolor": INK,
            "axes.edgecolor": MUTED,
            "axes.linewidth": 0.7,
            "axes.unicode_minus": True,
            "text.color": INK,
            "xtick.color": MUTED,
            "ytick.color": MUTED,
            "xtick.labelcolor": INK,
            "ytick.labelcolor": INK,
            "xtick.labelsize": 7.5,
            "ytick.labelsize": 7.5,
            "lines.linewidth": 1.5,
            "lines.markersize": 4,
            "legend.frameon": False,
            "legend.fontsize": 8,
            "image.composite_image": False,
            "text.usetex": False,
        }
    )


def _inside(row: Mapping[str, Any], key: str, name: str) -> Any:
    part = row.get(key)
    return part.get(name) if isinstance(part, Mapping) else None


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
