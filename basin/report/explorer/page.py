"""``explore.html``: one self-contained page on which walkers move over a model's energy.

    RunRecord -> Plane -> Level (splines of the energy) + ImageWalk -> JSON with base64 -> page

Nothing is fetched: style and scripts are files beside this one, put into the page as they are, and
the page's own policy allows that one script by its hash and no other. What comes from the run is
escaped in the HTML, and in the JSON every ``<`` is, so that no name can end it. Cost: some seconds
on one core; about 1.2 MB.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import string
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from basin.report.collect import RunRecord, collect
from basin.report.explorer.field import MARGIN, TRUTH_DEPTH, Level, levels_on_plane
from basin.report.explorer.plane import Plane, plane_of
from basin.report.explorer.walk import ImageWalk, image_walk
from basin.report.formatting import format_number, format_setting
from basin.report.html import escape, escape_sentence
from basin.report.writing import write_page
from basin.training.writable import require_writable

__all__ = ["render_explorer", "write_explorer"]

SCRIPTS = ("spline", "random", "walkers", "histogram", "draw", "gestures", "walk", "page")
MAX_POINTS = 2_000  # of the data and of the samples
TRUTH_STEPS = 2**16 - 1
NOT_ON_THIS_PAGE = ("history", "checks")  # it has neither to miss


def write_explorer(folder: Path | str, *, run: Any = None, dataset: Any = None) -> Path:
    """Write ``explore.html`` into a run folder and return its path.

    What cannot be shown is named on the page, never an error: samples or data that are missing, and
    a model of one dimension, of more than 2,000 columns, of whole numbers, under a condition, or
    one that does not load. Then the page holds no map.

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
    page = render_explorer(collect(folder, run=run, dataset=dataset))
    return write_page(folder, "explore.html", page)


def render_explorer(record: RunRecord) -> str:
    """The page as text; see :func:`write_explorer`."""
    import basin

    plane, found, walk, unshown = None, (), None, []
    try:
        _require_energy_of_numbers(record)
        walk, unshown = _attempt_walk(record)
        plane = plane_of(record)
        found = levels_on_plane(record, plane)
    except ValueError as error:
        plane = None
        unshown.append(f"No map of the energy: {error}.")
    scene = _scene(record, plane, found, walk)
    script = "(() => {\n" + '"use strict";\n' + "\n".join(map(_script, SCRIPTS)) + "})();"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return string.Template(_text("page.html")).substitute(
        version=escape(basin.__version__),
        title=escape(f"Basin explorer: {record.source}"),
        heading=escape(record.source),
        lead="".join(_lead(record, plane, walk)),
        notes="".join(f'<p class="note">{note}</p>' for note in _notes(record, unshown)),
        walk="" if walk is None else WALK,
        hidden="" if plane is not None else " hidden",
        explanation="".join(_explanation(record, plane, found)),
        footer=f"Written by Basin {escape(basin.__version__)}. This file needs no network and no "
        "server; its one script is inside, in plain JavaScript.",
        style=_text("page.css"),
        script_hash=f"sha256-{digest}",
        scene=json.dumps(scene, allow_nan=False).replace("<", "\\u003c"),
        script=script,
    )


WALK = """<section class="walk" aria-labelledby="walk-title">
<h2 id="walk-title">From noise to images</h2>
<div class="rows">
<figure><canvas id="noisy" role="img" aria-label="The images at this noise level"></canvas>
<figcaption>x at the noise level below, on grey levels that hold the noise</figcaption></figure>
<figure><canvas id="expected" role="img" aria-label="The expected images without noise"></canvas>
<figcaption>E[X | x] = x + σ² s(x, σ): the image that the model expects beneath the noise
</figcaption></figure></div>
<div class="frame"><button type="button" class="primary" id="walk_play">Play</button>
<input type="range" id="frame" min="0" max="0" step="1" aria-label="Frame of the walk">
<output id="frame_out"></output></div>
</section>"""


def _require_energy_of_numbers(record: RunRecord) -> None:
    run = record.run
    if run is None:  # the record says why
        raise ValueError("explore needs the model of the run, which could not be loaded")
    if getattr(run, "num_states", None) is not None:
        raise ValueError(
            "explore needs a model of real numbers, got one of whole numbers, over which no "
            "Langevin walker can move; basin report shows its samples"
        )
    if record.data_config.get("is_conditional", False):
        raise ValueError(
            "explore needs an energy of x alone, got one of x under a condition; take "
            "run.energy.given(c) in Python"
        )


def _attempt_walk(record: RunRecord) -> tuple[ImageWalk | None, list[str]]:
    """The walk of images, where there is one to draw, and why not where one would expect it."""
    if record.kind != "images":
        return None, []
    try:
        return image_walk(record), []
    except ValueError as error:
        return None, [f"No walk from noise: {error}."]


def _scene(
    record: RunRecord, plane: Plane | None, found: tuple[Level, ...], walk: ImageWalk | None
) -> dict[str, Any]:
    """What the script reads: numbers as base64, little-endian."""
    scene: dict[str, Any] = {"levels": None, "walk": None}
    if walk is not None:
        _, count, height, width, colours = walk.noisy.shape
        scene["walk"] = {
            "sigmas": walk.sigmas.tolist(),
            "noisy": _base64(walk.noisy, "u1"),
            "expected": _base64(walk.expected, "u1"),
            "count": count,
            "height": height,
            "width": width,
            "colours": colours,
        }
    if plane is None:
        return scene
    sigmas = [level.sigma for level in found]
    return {
        **scene,
        "levels": [_level(level) for level in found],
        "own": sigmas.index(record.sigma) if record.sigma in sigmas else 0,
        "margin": MARGIN,
        "names": list(plane.names),
        "ticks": [list(tick) for tick in plane.ticks],
        "data": _points(plane, record.data),
        "samples": _points(plane, record.samples),
    }


def _level(level: Level) -> dict[str, Any]:
    truth = None
    if level.truth is not None:
        lowest, top = float(level.truth.min()), float(level.truth.max())
        step = (top - lowest) / TRUTH_STEPS or 1.0
        values = np.rint((level.truth - lowest) / step)
        truth = {"lowest": lowest, "step": step, "values": _base64(values, "<u2")}
    return {
        "sigma": level.sigma,
        "low": list(level.low),
        "spacing": level.spacing,
        "size": len(level.coefficients),
        "coefficients": _base64(level.coefficients, "<f4"),
        "truth": truth,
        "energyError": _finite(level.energy_error),
        "scoreError": _finite(level.score_error),
    }


def _points(plane: Plane, rows: np.ndarray | None) -> str | None:
    if rows is None or not len(rows):
        return None
    return _base64(plane.project(rows[:MAX_POINTS].astype(np.float64)), "<f4")


def _base64(array: np.ndarray, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(array, dtype=kind).tobytes()).decode()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _lead(record: RunRecord, plane: Plane | None, walk: ImageWalk | None) -> Iterator[str]:
    if plane is None and walk is None:
        yield "There is nothing here to walk on; below is why."
        return
    if plane is not None:
        yield "Drop walkers on the landscape of the energy and watch Langevin dynamics move them. "
    if record.sigma is not None:
        yield f"At σ = {format_setting(record.sigma)} the model is of the data blurred by that "
        yield "noise. "
    if plane is not None and plane.is_slice and plane.explained is not None:
        share = format_number(100 * sum(plane.explained), 2)
        yield f"The model has {record.dimension} dimensions; this is one plane through them, "
        yield f"along the two main directions of the data ({share} % of their variance)."


def _notes(record: RunRecord, more: list[str]) -> Iterator[str]:
    here = [missing for missing in record.missing if missing.about not in NOT_ON_THIS_PAGE]
    for sentence in (*(missing.sentence for missing in here), *more):
        yield f"Not shown. {escape_sentence(sentence)}"


def _explanation(record: RunRecord, plane: Plane | None, found: tuple[Level, ...]) -> Iterator[str]:
    if plane is None:
        return
    yield (
        "<p>The <b>energy</b> E(x) is low where x is likely: the model’s density is proportional "
        "to exp(−E(x)). The <b>score</b> s(x) = −∇E(x) points to where it gets more likely. "
        "<b>Langevin</b> follows the score with noise added, x ← x − ε∇E(x)/T + √(2ε) z, and "
        "after many steps its walkers are spread like exp(−E/T); with a large step ε they are "
        "off by a bias, which <b>MALA</b> takes away by refusing some of the steps. At a small "
        "<b>σ</b> the walkers hardly cross between far valleys. At a large σ there is one wide "
        "valley: “From noise” starts there and walks down the ladder.</p>"
    )
    yield (
        "<p>Click or tap to drop a tenth of the walkers (with shift: all); drag to move the map, "
        "on a phone with two fingers. <b>KL</b> compares the histogram of the walkers with the "
        "density beside it, both within the dashed square, in nats: 0 only if they are equal. At "
        "another temperature T it is that density to the power 1/T.</p>"
    )
    if any(level.truth is not None for level in found):
        yield (
            "<p>The true density is that of the data, blurred at the same σ; it is cut "
            f"{TRUTH_DEPTH:.0f} nats below its top.</p>"
        )
    else:
        yield "<p>The truth is not known here: the walkers are compared with the model itself.</p>"
    if plane.is_slice:
        yield (
            "<p><b>A slice is not a projection.</b> The map is the energy on the plane itself, so "
            "walkers reach the density of x given that it lies on that plane. Data and samples "
            "are projected onto it, and may lie where the slice is unlikely. Units: standard "
            "deviations of the standardised columns.</p>"
        )
    level = next((level for level in found if level.sigma == record.sigma), found[0])
    side = len(level.coefficients) - 1 - 2 * MARGIN
    yield (
        f"<p>The page holds the energy at {side} × {side} cells and {len(found)} noise "
        f"level{'s' if len(found) > 1 else ''}, with a cubic spline between; the score is exactly "
        "the spline’s. Largest error of its energy where walkers go (within 10 nats of the "
        f"lowest), of any level: {format_number(_worst(found, 'energy_error'), 2)} nats; of its "
        f"score, root mean square: {format_number(100 * _worst(found, 'score_error'), 2)} %. "
        "Outside the dashed square the model was not evaluated, and a bowl brings walkers "
        "back.</p>"
    )


def _worst(found: tuple[Level, ...], name: str) -> float:
    values = [getattr(level, name) for level in found]
    return max((value for value in values if math.isfinite(value)), default=math.nan)


def _script(name: str) -> str:
    return _text(f"{name}.js")


def _text(name: str) -> str:
    return resources.files("basin.report.explorer").joinpath(name).read_text("utf-8")
