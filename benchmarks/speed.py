"""Speed beside a plain loop, torchebm, ebmkit and a compiled JAX scan, on the same work.

    pip install -e .[peers]
    python benchmarks/speed.py [--items denoising_100 langevin_mlp ...] [--rounds 5] [--threads 2]
    python benchmarks/speed.py --page_only

Within a round all libraries take turns, in another order each round, so that drifts of a shared
machine hit all of them; ratios are taken round by round, and their medians and ranges shown. What
is compiled is compiled before the clock starts: how long that takes stands in a column of its own,
for who has a short job must pay it. Items that are sampled are counted in chain-steps, those that
are meant for their effective draws in the smallest effective sample size over the coordinates.

Results go to benchmarks/results/speed.json, item by item, and from there to docs/speed.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import speed_work as work
import torch

from basin.mcmc import effective_sample_size

ROOT = Path(__file__).resolve().parent.parent
QUALITY = ROOT / "benchmarks/results/time_to_quality.json"
GROWTH = ROOT / "benchmarks/results/growth.json"
RESULTS, PAGE = ROOT / "benchmarks/results/speed.json", ROOT / "docs/speed.md"
PEERS = ("torchebm", "ebmkit")
TARGETS = {
    "gaussian": "50-dimensional Gaussian",
    "funnel": "ten-dimensional funnel",
    "logistic": "logistic regression with 20 columns",
}


class Item(NamedTuple):
    """What is done, its unit, and the aims: times the faster peer's speed, share of JAX's time.

    ``operations``: of the large matrix products or convolutions of one unit.
    """

    make: Callable[[], dict]
    words: str
    unit: str
    of_peers: float | None = None
    of_jax: float | None = None
    counts_draws: bool = False
    operations: float | None = None


# Multiply-adds are two operations; a score is two passes over the weights, its training step six.
MLP_2_128_128_1 = 2 * (2 * 128 + 128 * 128 + 128)
MLP_64_256_256_1 = 2 * (64 * 256 + 256 * 256 + 256)
CONVOLUTIONS = 2 * 9 * (32 * 14**2 + 32 * 64 * 7**2 + 64 * 128 * 4**2 + 128 * 176 * 2**2)

ITEMS = {
    **{
        f"denoising_{batch}": Item(
            partial(work.denoising, batch, steps),
            f"denoising score matching, batch {batch:,}",
            "steps",
            of_peers,
            of_jax,
            operations=batch * 6 * MLP_2_128_128_1,
        )
        for batch, steps, of_peers, of_jax in ((100, 300, 3.0, 1.3), (1024, 100, 2.0, 1.15))
    },
    **{
        f"{kind}_{dim}": Item(
            partial(work.score_matching, kind, dim, steps),
            f"{kind} score matching, d = {dim}, batch 256",
            "steps",
            2.0,
        )
        for kind, dim, steps in (
            ("exact", 2, 60),
            ("exact", 16, 12),
            ("exact", 64, 3),
            ("sliced", 2, 60),
            ("sliced", 16, 60),
            ("sliced", 64, 60),
        )
    },
    "langevin_mlp": Item(
        partial(work.langevin, "mlp", 10_000, 40),
        "Langevin, 10,000 chains, MLP",
        "chain-steps",
        1.5,
        1.0,
        operations=2 * MLP_2_128_128_1,
    ),
    "langevin_mixture": Item(
        partial(work.langevin, "mixture", 10_000, 80),
        "Langevin, 10,000 chains, eight modes",
        "chain-steps",
        1.5,
        1.0,
    ),
    "langevin_short": Item(
        partial(work.langevin, "mlp", 100, 400),
        "Langevin, 100 chains, MLP",
        "chain-steps",
        4.0,
        operations=2 * MLP_2_128_128_1,
    ),
    **{
        f"hmc_{target}": Item(
            partial(work.hamiltonian, target, 100),
            f"HMC, 100 chains, {name}",
            "effective draws" if target != "funnel" else "chain-steps",
            3.0,
            counts_draws=target != "funnel",
        )
        for target, name in TARGETS.items()
    },
    **{
        f"nuts_{target}": Item(
            partial(work.no_u_turn, target, 60 if target != "funnel" else 20),
            f"NUTS, 20 chains, {name}",
            "effective draws" if target != "funnel" else "chain-steps",
            5.0,
            counts_draws=target != "funnel",
        )
        for target, name in TARGETS.items()
    },
    "persistent_digits": Item(
        partial(work.persistent, 20),
        "PCD on digits, 20 Langevin steps an update",
        "steps",
        2.0,
        # twenty scores; energies of both batches, and two passes for their gradients
        operations=128 * (20 * 2 + 2 * 3) * MLP_64_256_256_1,
    ),
    "conv_denoising": Item(
        partial(work.convolutional, 6),
        "denoising, convolutions on 28 x 28, batch 64",
        "steps",
        1.2,
        operations=64 * 6 * CONVOLUTIONS,
    ),
    "conv_langevin": Item(
        partial(work.langevin, "conv", 64, 10),
        "Langevin, convolutions on 28 x 28, 64 chains",
        "chain-steps",
        1.2,
        operations=2 * CONVOLUTIONS,
    ),
}


def measure(item, rounds):
    """Units a second of each library, round by round, and the seconds before the clock."""
    started = time.perf_counter()
    thunks = item.make()
    made = time.perf_counter() - started
    before = {}
    for name, thunk in thunks.items():  # compiles, fills caches
        started = time.perf_counter()
        thunk()
        before[name] = time.perf_counter() - started
    speeds = {name: [] for name in thunks}
    names = list(thunks)
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            started = time.perf_counter()
            units = thunks[name]()
            seconds = time.perf_counter() - started
            if item.counts_draws:
                units = float(effective_sample_size(thunks[name].draws).min())
            speeds[name].append(units / seconds)
    return {"speeds": speeds, "seconds_to_make_all": made, "seconds_of_first_call": before}


def ratio(first, second):
    """Median and range of first over second, round by round."""
    ratios = sorted(a / b for a, b in zip(first, second, strict=True))
    return statistics.median(ratios), ratios[0], ratios[-1]


def start_up(rounds):
    """Seconds of whole commands, interleaved, over ``import torch``."""
    commands = {
        "import torch": [sys.executable, "-c", "import torch"],
        "import torch, basin": [sys.executable, "-c", "import torch, basin"],
        "import basin": [sys.executable, "-c", "import basin"],
        "basin --help": [sys.executable, "-m", "basin", "--help"],
        "basin --version": [sys.executable, "-m", "basin", "--version"],
        "basin train --help": [sys.executable, "-m", "basin", "train", "--help"],
    }
    seconds = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def load():
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {"items": {}}


def save(results):
    order = {name: place for place, name in enumerate(ITEMS)}
    results["items"] = dict(sorted(results["items"].items(), key=lambda pair: order[pair[0]]))
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    PAGE.write_text(page(results))


def cell(ours, theirs):
    if ours is None or theirs is None:
        return "-"
    middle, low, high = ratio(ours, theirs)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def share(item, speeds, best):
    """Of the time, what the products would take at the speed of a large one."""
    if item.operations is None or best is None:
        return "-"
    return f"{item.operations * statistics.median(speeds) / best['operations_a_second']:.2f}"


def row(name, found, limits):
    item, speeds = ITEMS[name], found["speeds"]
    eager, compiled = speeds["basin"], speeds.get("basin, compiled")
    peers = [speeds[peer] for peer in PEERS if peer in speeds]
    faster = max(peers, key=statistics.median) if peers else None
    limit = speeds.get("jax", speeds.get("blackjax"))
    best = max((s for s in (eager, compiled) if s), key=statistics.median)
    verdicts = []
    if item.of_peers and faster:
        reached = ratio(best, faster)[0] >= item.of_peers
        verdicts.append(f"≥ {item.of_peers:g} peer: {'yes' if reached else 'no'}")
    if item.of_jax and limit:
        reached = ratio(limit, best)[0] <= item.of_jax
        verdicts.append(f"≤ {item.of_jax:g} JAX: {'yes' if reached else 'no'}")
    number = statistics.median(eager)
    return (
        f"| {item.words} | {number:,.4g} {item.unit}/s | "
        f"{cell(eager, speeds.get('plain'))} | {cell(eager, faster)} | "
        f"{cell(compiled, faster)} | {cell(best, limit)} | {share(item, best, limits)} | "
        f"{'; '.join(verdicts)} |"
    )


def page(results):
    limits = json.loads(GROWTH.read_text())["limits"] if GROWTH.exists() else None
    lines = [
        "# Speed",
        "",
        "Written by `python benchmarks/speed.py` from `benchmarks/results/speed.json`. The first",
        "lines of the script say how it is measured; `benchmarks/speed_work.py` holds the work.",
        "Every number is a ratio of speeds taken in turn on one machine, median and range of the",
        "rounds: above one Basin is the faster. *plain* is a notebook's loop, *peer* the faster of",
        "torchebm 0.8.9 and ebmkit 0.16.0, *JAX* a compiled scan (BlackJAX for HMC and NUTS).",
        "*compiled* is `compile=True`, its compiling left out; *best* the faster of Basin's two.",
        "All have the same number of threads; JAX's is set by `PJRT_NPROC`, as its own flags for",
        "that do nothing any more.",
        "",
        "*products* is the share of Basin's time that its matrix products and convolutions would",
        "take at the speed of a large one (below): what is left to win is the rest, which holds",
        "the activations, too. Where an aim is not reached that share is high, or JAX's scan,",
        "which has no Python in it, is near: products are the same in all libraries. The tree of",
        "NUTS, whose length depends on the numbers, cannot be one graph: its first two doublings",
        "are, then halves of up to four points, and longer ones grow by such pieces, with a look",
        "in between. Compiled loops use as many threads as torch is set to when they are compiled:",
        "on a machine that others use set one, as waiting for the second was seen to take many",
        "times as long as the work.",
        "",
        "`basin.fit(compile=True)`, `basin train --compile true` and `basin.sample(compile=True)`",
        "put the step into one graph of operations, with the random numbers drawn outside, and",
        "have PyTorch's compiler make machine code of it (`basin/core/graph.py`); of training the",
        "gradient, its clipping, Adam and the average are all in it, and small steps are five to a",
        "graph. The first time on a machine that takes from ten seconds to a minute, later about",
        "five seconds a run, as PyTorch finds again what it has compiled: it is for long runs.",
        "Warm-up of samplers is not compiled.",
        '`compile="auto"`, the default of training, compiles where a count of operations says that',
        "the run takes five minutes or more; the choice stands in `config.json`, and a resumed run",
        "keeps it. Random numbers are the same, results differ by rounding; in one mode runs",
        "repeat to the bit.",
        "",
        f"Machine: {results.get('machine', '')}, {results.get('threads', '')} threads, PyTorch "
        f"{results.get('torch', '')}.",
        "",
        "| work | eager | eager : plain | eager : peer | compiled : peer | best : JAX | products "
        "| aims |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *(row(name, found, limits) for name, found in results["items"].items()),
    ]
    if "start_up" in results:
        lines += [
            "",
            "## Start-up",
            "",
            "Median seconds of whole commands, taken in turn "
            "(aim: at most 0.3 s over `import torch`; the last two rows but one without torch).",
            "",
            "| command | seconds |",
            "| --- | --- |",
            *(f"| `{name}` | {value:.2f} |" for name, value in results["start_up"].items()),
        ]
    if QUALITY.exists():
        lines += quality(json.loads(QUALITY.read_text()))
    if GROWTH.exists():
        lines += growth(json.loads(GROWTH.read_text()))
    return "\n".join(lines) + "\n"


def quality(runs):
    """The section that ``time_to_quality.py`` measured."""

    def shown(run, name):
        found = run[name]
        if found["seconds"] is None:
            return f"not in {run['limit']:.0f} (KL {found['kl']:.3f})"
        return f"{found['seconds']:.1f}"

    names = [name for name in ("basin", "plain", "torchebm", "ebmkit") if name in runs[0]]
    return [
        "",
        "## Time to a given quality",
        "",
        "`python benchmarks/time_to_quality.py`: processor seconds to KL 0.05 nats on the",
        "checkerboard blurred by 0.1, one thread. Basin by its defaults, the others by denoising",
        "score matching at sigma 0.1. Who had not arrived after ten times Basin's seconds was",
        "stopped.",
        "",
        f"| seed | {' | '.join(names)} |",
        "| --- " * (len(names) + 1) + "|",
        *(f"| {run['seed']} | {' | '.join(shown(run, name) for name in names)} |" for run in runs),
    ]


def growth(results):
    """The section that ``growth.py`` measured."""
    best = results["limits"]
    return [
        "",
        "## How cost grows",
        "",
        "`python benchmarks/growth.py`, whose first lines say how: a step of denoising score",
        "matching (batch 1,024, MLP 2-128-128-1) and of Langevin (1,000 chains), one size varied",
        f"at a time. This machine at best: {best['operations_a_second'] / 1e9:.0f} billion "
        f"operations a second in a large product, {best['bytes_a_second'] / 1e9:.1f} GB/s, "
        f"{results['threads']} thread(s).",
        "The dashed line is what the products of a step would take at that speed.",
        "",
        "![Milliseconds a step against each size](images/growth.png)",
        "",
        "| size | from, to | ms at the last | slope | slope of kept bytes | share of the best "
        "product's speed at the last | bound by |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(
            f"| {axis} | {found['points'][0]['size']:,}, {found['points'][-1]['size']:,} | "
            f"{found['points'][-1]['milliseconds']:.3g} | {found['slope']:.2f} | "
            f"{found['slope_of_kept_bytes']:.2f} | {found['share_of_best_product']:.2f} | "
            f"{found['bound']} |"
            for axis, found in results["axes"].items()
        ),
        "",
        "Rows are drawn by random places, so a table of 10^8 rows on disk trains as fast as its",
        "pages come: `benchmarks/memory_mapped_training.py`, in [measured](measured.md).",
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--items", nargs="+", choices=[*ITEMS, "start_up"], default=None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--page_only", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    # XLA counts the machine's cores for itself, whatever XLA_FLAGS says of threads: left alone it
    # took two of them beside one of everybody else's.
    os.environ["PJRT_NPROC"] = str(arguments.threads)
    results = load()
    names = [] if arguments.page_only else arguments.items or [*ITEMS, "start_up"]
    for name in names:
        if name == "start_up":
            results["start_up"] = start_up(arguments.rounds)
            print(results["start_up"], flush=True)
            continue
        found = measure(ITEMS[name], arguments.rounds)
        results["items"][name] = {"rounds": arguments.rounds, **found}
        shown = {n: f"{statistics.median(s):.4g}" for n, s in found["speeds"].items()}
        print(name, shown, f"made in {found['seconds_to_make_all']:.0f} s", flush=True)
        results |= {"torch": torch.__version__, "threads": arguments.threads}
        results["machine"] = f"{platform.machine()}, {platform.system()}"
        save(results)
    save(results)


if __name__ == "__main__":
    main()
