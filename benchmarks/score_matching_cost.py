"""Time and memory of one training step of each score matching objective as d grows.

    python benchmarks/score_matching_cost.py [--dimensions 2 4 ... 256] [--batch 256] [--rounds 5]
        [--json FILE] [--plot FILE]

The work of all: the loss of one batch of standard normal rows on an MLP d-128-128-1 (silu) and the
gradient of its weights, one thread. Exact score matching with the exact trace and with one
Hutchinson probe, sliced (reduced, Rademacher), finite differences, plain denoising. They take turns
within every round, so that drifts of a shared machine hit all; times are the least of the rounds.

    kept      bytes of the tensors that the graph keeps for the backward pass
    peak      growth of the process at its peak, over the step (Linux)
    forecast  what ExactScoreMatching expects before it begins

A second table measures the ways to the same exact trace: one product after another or all in one
batched backward pass, on the graph of the closed-form score or of the energy, torch.func, and what
Basin does (blocks of 2,048 rows on the graph of the energy).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from functools import partial
from pathlib import Path

import torch

import basin
from basin.core.curvature import score_and_hessian_diagonal
from basin.core.gradients import energy_and_score, score
from basin.core.memory import bytes_kept
from basin.objectives import exact_trace_bytes

METHODS = {
    "exact trace": basin.objectives.ExactScoreMatching(),
    "Hutchinson": basin.objectives.ExactScoreMatching(num_probes=1),
    "sliced": basin.objectives.SlicedScoreMatching(),
    "finite differences": basin.objectives.FiniteDifferenceScoreMatching(),
    "denoising": basin.objectives.DenoisingScoreMatching(
        0.1, antithetic=False, posterior_mean=False, num_noised=None
    ),
}
_WARM_UP = 2  # the first passes ask the system for memory
COLOURS = dict(zip(METHODS, ("#b2182b", "#ef8a62", "#7b3294", "#1b7837", "#2166ac")))


class Step:
    """One objective on one batch; ``loss`` builds the graph, calling it takes the gradient too."""

    def __init__(self, objective, dimension, batch):
        self.energy = basin.energies.MLP(dimension, hidden=(128, 128))
        self.generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(batch, dimension, generator=self.generator)
        self.objective = objective
        self.state = objective.init(self.x, self.generator)

    def loss(self):
        loss = self.objective(self.energy, self.x, self.state, self.generator)
        self.state = loss.state
        return loss.value

    def __call__(self):
        self.energy.zero_grad()
        self.loss().backward()


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def status(field):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return 1024 * int(line.split()[1])
    return None


def peak_growth(name, dimension, batch):
    """How much a fresh process grows at its peak in a step; None where the system does not say."""
    torch.set_num_threads(1)
    Step(METHODS[name], dimension, 4)()  # what every process needs once
    step = Step(METHODS[name], dimension, batch)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    except OSError:
        return None
    before = status("VmRSS:")
    step()
    return (status("VmHWM:") - before) / 1e6


def in_fresh_process(function, *arguments):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def objectives(dimensions, batch, rounds):
    rows = []
    for dimension in dimensions:
        steps = {name: Step(objective, dimension, batch) for name, objective in METHODS.items()}
        for step in steps.values():
            step()
        times = {name: [] for name in steps}
        for _ in range(rounds):
            for name, step in steps.items():
                repeats = 2 if name == "exact trace" and dimension > 16 else 5
                times[name].append(min(seconds(step) for _ in range(repeats)))
        for name, step in steps.items():
            row = {
                "dimension": dimension,
                "method": name,
                "milliseconds": 1e3 * min(times[name]),
                "kept_megabytes": bytes_kept(step.loss) / 1e6,
                "peak_megabytes": in_fresh_process(peak_growth, name, dimension, batch),
            }
            if name == "exact trace":
                row["forecast_megabytes"] = exact_trace_bytes(step.energy, step.x) / 1e6
            rows.append(row)
            print(
                "  ".join(
                    f"{v:9.2f}" if isinstance(v, float) else f"{v!s:>20}" for v in row.values()
                )
            )
    return rows


def one_by_one(s, leaf):
    flat = s.flatten(1)
    products = (
        torch.autograd.grad(flat[:, i].sum(), leaf, create_graph=True)[0][:, i]
        for i in range(flat.shape[1])
    )
    return sum(products)


def all_at_once(s, leaf):
    d = leaf.shape[1]
    units = torch.eye(d)[:, None].expand(d, *leaf.shape)
    (found,) = torch.autograd.grad(s, leaf, units, create_graph=True, is_grads_batched=True)
    return torch.einsum("ini->n", found)


def through_graph(trace, closed_form):
    def loss(energy, x):
        leaf = x.clone().requires_grad_(True).view_as(x)
        if closed_form:
            s = score(energy, leaf, create_graph=True)
        else:
            s = energy_and_score(energy, leaf, create_graph=True)[1]
        return s.square().sum(1) + 2 * trace(s, leaf)

    return loss


def forward_over_reverse(energy, x):
    gradient = torch.func.grad(lambda rows: energy(rows).sum())

    def product(unit):
        return torch.func.jvp(gradient, (x,), (unit.expand_as(x),))[1]

    hessian = torch.func.vmap(product)(torch.eye(x.shape[1]))
    return gradient(x).square().sum(1) - 2 * torch.einsum("ini->n", hessian)


def ours(energy, x):
    s, diagonal = score_and_hessian_diagonal(energy, x)
    return s.square().sum(1) - 2 * diagonal.sum(1)


WAYS = {
    "one by one, closed-form score": through_graph(one_by_one, closed_form=True),
    "one by one, energy": through_graph(one_by_one, closed_form=False),
    "all at once, closed-form score": through_graph(all_at_once, closed_form=True),
    "all at once, energy": through_graph(all_at_once, closed_form=False),
    "torch.func, vmap of jvp of grad": forward_over_reverse,
    "Basin, in blocks": ours,
}


def take_step(loss, energy, x):
    energy.zero_grad()
    loss(energy, x).mean().backward()


def ways(dimensions, batch, rounds):
    rows = []
    for dimension in dimensions:
        energy = basin.energies.MLP(dimension, hidden=(128, 128))
        x = torch.randn(batch, dimension, generator=torch.Generator().manual_seed(0))
        times = {name: [] for name in WAYS}
        for _ in range(rounds + _WARM_UP):
            for name, loss in WAYS.items():
                times[name].append(seconds(partial(take_step, loss, energy, x)))
        row = {"dimension": dimension} | {n: 1e3 * min(t[_WARM_UP:]) for n, t in times.items()}
        rows.append(row)
        print(dimension, {name: round(t, 2) for name, t in row.items()}, flush=True)
    return rows


def plot(rows, batch, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6))
    for axis, field, label in (
        (axes[0], "milliseconds", "ms a step"),
        (axes[1], "peak_megabytes", "peak memory of a step, MB"),
    ):
        for name in METHODS:
            mine = [row for row in rows if row["method"] == name]
            x, y = [row["dimension"] for row in mine], [row[field] for row in mine]
            axis.plot(x, y, "o-", ms=3, lw=1.5, color=COLOURS[name], label=name)
        axis.set(xscale="log", yscale="log", xlabel="dimension", ylabel=label)
        axis.set_xticks(x, [str(d) for d in x])
        axis.minorticks_off()
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, fontsize=8)
    figure.suptitle(f"One training step, batch {batch}, MLP d-128-128-1, one thread", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--dimensions", type=int, nargs="+", default=[2, 4, 8, 16, 32, 64, 128, 256]
    )
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = {
        "torch": torch.__version__,
        "batch": arguments.batch,
        "objectives": objectives(arguments.dimensions, arguments.batch, arguments.rounds),
        "ways_to_the_exact_trace": ways(arguments.dimensions, arguments.batch, arguments.rounds),
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    if arguments.plot:
        plot(result["objectives"], arguments.batch, arguments.plot)


if __name__ == "__main__":
    main()
