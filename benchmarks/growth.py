"""How cost grows: a training step and a sampling step against every size, and what bounds them.

    python benchmarks/growth.py [--axes batch width dimension chains rows] [--threads 1]

The middle point is denoising score matching of an MLP 2-128-128-1 at batch 1,024 and Langevin with
1,000 chains on it; one size varies at a time. For each point: milliseconds a step (the fastest of
five looks: others use the machine too), the multiply-adds of its matrix products counted by
PyTorch's FlopCounterMode, and the bytes that the backward pass keeps. Beside them what this machine
does at best, measured in the same run: a large matrix product, and a sum over memory too large for
the caches. The share of a point is its operations over what the best product would do meanwhile.

    flat          the time hardly grows with the size (slope below 0.3): it is no cost here
    arithmetic    at least half of the time is what the products need at the machine's best
    memory        neither: elementwise operations and what they read and write

Results go to benchmarks/results/growth.json and docs/images/growth.png, and from there by
``python benchmarks/speed.py --page_only`` to docs/speed.md.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import matplotlib as mpl
import speed_work as work
import torch
from torch.utils.flop_counter import FlopCounterMode

import basin
from basin.core.memory import bytes_kept

mpl.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/results/growth.json"
PICTURE = ROOT / "docs/images/growth.png"
MIDDLE = {"batch": 1024, "width": 128, "dimension": 2, "chains": 1000, "rows": 50_000}
AXES = {
    "batch": (16, 64, 256, 1024, 4096, 16_384),
    "width": (16, 32, 64, 128, 256, 512, 1024),
    "dimension": (2, 8, 32, 128, 512),
    "chains": (10, 100, 1000, 10_000, 100_000),
    "rows": (1000, 10_000, 100_000, 1_000_000, 10_000_000),
}
LOOKS, SECONDS_A_LOOK = 5, 0.15
FLAT, HALF = 0.3, 0.5


def fastest(thunk):
    """Seconds of one call: the fastest mean of five looks."""
    thunk()
    started = time.perf_counter()
    thunk()
    calls = max(1, int(SECONDS_A_LOOK / (time.perf_counter() - started)))
    found = []
    for _ in range(LOOKS):
        started = time.perf_counter()
        for _ in range(calls):
            thunk()
        found.append((time.perf_counter() - started) / calls)
    return min(found)


def limits():
    """Operations a second of a large product, bytes a second of a sum over 400 MB."""
    a, long = torch.randn(1024, 1024), torch.randn(10**8)
    return {
        "operations_a_second": 2 * 1024**3 / fastest(lambda: a @ a),
        "bytes_a_second": 4 * 10**8 / fastest(long.sum),
    }


def training_step(sizes):
    """One step of the loop on a table, and a function whose graph is the step's."""
    dim = sizes["dimension"]
    rows = torch.randn(sizes["rows"], dim, generator=torch.Generator().manual_seed(0))
    energy = work.our_mlp(dim, sizes["width"])
    objective = basin.objectives.DenoisingScoreMatching(
        0.1, antithetic=False, posterior_mean=False, num_noised=None
    )
    generator = torch.Generator().manual_seed(0)
    batch = rows[: sizes["batch"]]
    state = objective.init(rows[:1000], generator)
    step = work.our_training(energy, objective, rows, sizes["batch"], 1)
    return step, lambda: objective(energy, batch, state, generator).value


def sampling_step(sizes):
    energy = work.our_mlp(sizes["dimension"], sizes["width"])
    kernel, generator = basin.samplers.Langevin(0.01), torch.Generator().manual_seed(0)
    x = torch.randn(sizes["chains"], sizes["dimension"], generator=generator)
    with torch.no_grad():
        state = kernel.init(energy, x, generator)

    def step():
        with torch.no_grad():
            kernel.step(energy, state, generator)

    return step, None


def operations(thunk):
    with FlopCounterMode(display=False) as counter:
        thunk()
    return counter.get_total_flops()


def along(axis):
    points = []
    for size in AXES[axis]:
        sizes = {**MIDDLE, axis: size, **({"batch": min(1024, size)} if axis == "rows" else {})}
        step, loss = (sampling_step if axis == "chains" else training_step)(sizes)
        seconds = fastest(step)
        points.append(
            {
                "size": size,
                "milliseconds": 1e3 * seconds,
                "operations": operations(step),
                "kept_bytes": 0 if loss is None else bytes_kept(loss),
            }
        )
        print(axis, points[-1], flush=True)
    return points


def slope(points, key="milliseconds"):
    """Of the logarithms, over the upper half of the sizes."""
    upper = [p for p in points[len(points) // 2 :] if p[key] > 0]
    if len(upper) < 2:
        return 0.0
    x = [math.log(p["size"]) for p in upper]
    y = [math.log(p[key]) for p in upper]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    over = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return over / sum((a - mean_x) ** 2 for a in x)


def summary(points, best):
    last = points[-1]
    share = last["operations"] / (1e-3 * last["milliseconds"]) / best["operations_a_second"]
    grows = slope(points)
    bound = "flat" if grows < FLAT else "arithmetic" if share >= HALF else "memory"
    return {
        "slope": grows,
        "slope_of_kept_bytes": slope(points, "kept_bytes"),
        "share_of_best_product": share,
        "bound": bound,
    }


def draw(results):
    axes = list(results["axes"])
    figure, panels = plt.subplots(1, len(axes), figsize=(3.1 * len(axes), 2.9), squeeze=False)
    for panel, axis in zip(panels[0], axes, strict=True):
        points = results["axes"][axis]["points"]
        sizes = [p["size"] for p in points]
        panel.loglog(sizes, [p["milliseconds"] for p in points], "o-", label="ms a step")
        best = results["limits"]["operations_a_second"]
        least = [1e3 * p["operations"] / best for p in points]
        panel.loglog(sizes, least, "--", label="its products at best")
        panel.set_xlabel(axis)
        panel.set_title(f"slope {results['axes'][axis]['slope']:.2f}", fontsize=10)
        panel.grid(alpha=0.3)
    panels[0, 0].set_ylabel("milliseconds a step")
    panels[0, 0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--axes", nargs="+", choices=list(AXES), default=list(AXES))
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = {"axes": {}}
    if RESULTS.exists():
        results = json.loads(RESULTS.read_text())
    results |= {"limits": limits(), "threads": arguments.threads}
    for axis in arguments.axes:
        points = along(axis)
        results["axes"][axis] = {"points": points, **summary(points, results["limits"])}
        print(axis, {k: v for k, v in results["axes"][axis].items() if k != "points"}, flush=True)
    results["axes"] = {axis: results["axes"][axis] for axis in AXES if axis in results["axes"]}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    draw(results)


if __name__ == "__main__":
    main()
