"""Frames a second of the landscape explorer with 2,000 walkers, and what our code costs of each.

    python benchmarks/explorer_frames.py [RUN] [--seconds 8] [--speed 2] [--walkers 2000]
        [--pixels 1280 900] [--ratio 1] [--json FILE]

RUN is a run folder that holds explore.html; without one, a model of two moons after one step is
used, on which a frame does the same work. Energy, contours, data and walkers are shown; Langevin,
MALA, and MALA while a mouse drags the map, which is then drawn anew in every frame. Playwright
(pip install playwright) starts a headless Chromium, Debian's where there is one:

    interval  time between two calls of requestAnimationFrame: what a person sees
    ours      performance.now() around our callback: steps, histogram, divergence, drawing
    steps     of the walkers in one frame: as many as were asked for, unless time ran out
    parts     self time by function, from the browser's sampling profiler, in ms a frame

A headless Chromium has no GPU: it composes the page on the processor, beside our script. So the
intervals of a shared machine are an upper bound, and `ours` is what the page itself answers for: at
60 frames a second a frame has 16.7 ms.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import shutil
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path

import basin
from basin.report import write_explorer

LAYERS = "ecdw"  # energy, contours, data, walkers
CASES = {  # is_mala, is_dragged
    "Langevin": (False, False),
    "MALA": (True, False),
    "MALA, map dragged": (True, True),
}
PROFILER_INTERVAL = 200  # microseconds between two samples
STEPS = "() => window.basin.explorer.steps()"
# Before the page's own script: every callback of an animation frame is timed.
WATCH = """{
  const ask = window.requestAnimationFrame.bind(window);
  window.seenFrames = [];
  window.requestAnimationFrame = (call) => ask((now) => {
    const start = performance.now();
    call(now);
    window.seenFrames.push([now, performance.now() - start]);
  });
}"""


def main():
    arguments = parsed()
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as aside, sync_playwright() as playwright:
        page = Path(arguments.run) / "explore.html" if arguments.run else example(Path(aside))
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        found = {
            name: measured(browser, page.resolve(), *case, arguments)
            for name, case in CASES.items()
        }
        version = browser.version
        browser.close()
    print(
        f"Chromium {version}, {arguments.walkers} walkers, {arguments.speed} steps a frame, "
        f"{arguments.ratio:g} device pixels a pixel"
    )
    print(
        "| walkers | frames a second | interval, ms: median | 95 % | ours: median | 95 % | steps |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, row in found.items():
        numbers = (row["frames_a_second"], *row["interval"], *row["ours"], row["steps"])
        print(f"| {name} | " + " | ".join(f"{number:.1f}" for number in numbers) + " |")
    for name, row in found.items():
        parts = ", ".join(f"{part} {ms:.2f}" for part, ms in row["parts"].items())
        print(f"{name}, ms a frame by function: {parts}")
    if arguments.json:
        settings = {key: value for key, value in vars(arguments).items() if key != "json"}
        content = {"chromium": version, "settings": settings, "cases": found}
        Path(arguments.json).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--speed", type=int, default=2)
    parser.add_argument("--walkers", type=int, default=2000)
    parser.add_argument("--pixels", type=int, nargs=2, default=(1280, 900))
    parser.add_argument("--ratio", type=float, default=1.0, help="2 on most phones and laptops")
    parser.add_argument("--json")
    return parser.parse_args()


def example(folder):
    """A page of a model that took one step: as much work a frame as any."""
    density = basin.datasets.TwoMoons()
    objective = basin.objectives.DualScoreMatching()
    energy = basin.energies.NoiseConditional(2, hidden=(32, 32))
    basin.fit(energy, density, objective=objective, num_steps=1, out=folder / "run", seed=0)
    return write_explorer(folder / "run", dataset=density)


def measured(browser, path, is_mala, is_dragged, arguments):
    width, height = arguments.pixels
    context = browser.new_context(
        viewport={"width": width, "height": height}, device_scale_factor=arguments.ratio
    )
    context.add_init_script(WATCH)
    page = context.new_page()
    mala = str(is_mala).lower()
    link = f"#num_walkers={arguments.walkers}&speed={arguments.speed}&mala={mala}&layers={LAYERS}"
    page.goto(path.as_uri() + link)
    page.locator("#play").click()
    page.wait_for_timeout(1000)  # until the browser has compiled what is hot
    wait = dragged if is_dragged else waited
    page.evaluate("() => { window.seenFrames = []; }")
    before = page.evaluate(STEPS)
    wait(page, arguments.seconds)
    steps = page.evaluate(STEPS) - before
    frames = page.evaluate("() => window.seenFrames")
    parts = profiled(context.new_cdp_session(page), page, lambda: wait(page, arguments.seconds))
    context.close()
    starts = [start for start, _ in frames]
    intervals = [after - before for before, after in itertools.pairwise(starts)]
    return {
        "frames_a_second": 1000 * len(intervals) / (starts[-1] - starts[0]),
        "interval": median_and_high(intervals),
        "ours": median_and_high([cost for _, cost in frames]),
        "steps": steps / len(frames),
        "parts": parts,
    }


def waited(page, seconds):
    page.wait_for_timeout(1000 * seconds)


def dragged(page, seconds):
    """A hand that goes round in circles, with a new place every few milliseconds."""
    box = page.locator("#walkers").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.down()
    begin = time.monotonic()
    while (passed := time.monotonic() - begin) < seconds:
        along = (math.cos(2 * passed), math.sin(2 * passed))
        page.mouse.move(*(m + 0.2 * box["width"] * a for m, a in zip(middle, along, strict=True)))
    page.mouse.up()


def median_and_high(values):
    return statistics.median(values), statistics.quantiles(values, n=20)[-1]


def profiled(session, page, wait):
    """Milliseconds a frame in each function of ours, largest first; apart from the timing above."""
    session.send("Profiler.enable")
    session.send("Profiler.setSamplingInterval", {"interval": PROFILER_INTERVAL})
    page.evaluate("() => { window.seenFrames = []; }")
    session.send("Profiler.start")
    wait()
    profile = session.send("Profiler.stop")["profile"]
    frames = page.evaluate("() => window.seenFrames.length")
    names = {node["id"]: node["callFrame"]["functionName"] for node in profile["nodes"]}
    spent = Counter()
    for node, microseconds in zip(profile["samples"], profile["timeDeltas"], strict=True):
        spent[names[node]] += microseconds / 1000 / frames
    idle = {"(idle)", "(program)", "(root)"}  # no function of the page
    return {name: ms for name, ms in spent.most_common(14) if name not in idle}


if __name__ == "__main__":
    main()
