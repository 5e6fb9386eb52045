"""One training step of plain denoising score matching, Basin's loop beside a plain loop.

    python benchmarks/denoising_score_matching_step.py [--rounds 9] [--steps 500] [--threads 1]

The work of both: checkerboard rows in memory, MLP 2-128-128-1 softplus, sigma 0.1, Adam 1e-3, one
noise a row. The plain loop is a course notebook's: a DataLoader over a TensorDataset, default Adam,
the score by autograd with create_graph and a second backward pass. The two take turns within every
round, so that drifts of a shared machine hit both; the ratio is taken round by round.

The aim (issue 2): at least 1.8 times faster at batch 100.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from functools import partial
from pathlib import Path

import speed_work as work
import torch

import basin

SIGMA, NUM_ROWS = 0.1, 50_000


def milliseconds(run):
    """Of one step of what ``run()`` does and counts."""
    start = time.perf_counter()
    steps = run()
    return 1e3 * (time.perf_counter() - start) / steps


def plain_loop(x, batch, steps):
    """Milliseconds a step of the notebook's loop."""
    net = work.PlainMLP(work.our_mlp(2))
    loss = partial(work.plain_denoising, net, SIGMA)
    return milliseconds(work.torch_loop(loss, net, work.loaded(x, batch), steps))


def basin_loop(x, batch, steps):
    """Milliseconds a step of ``basin.fit``'s loop, all of its bookkeeping included."""
    objective = basin.objectives.DenoisingScoreMatching(
        SIGMA, antithetic=False, posterior_mean=False, num_noised=None
    )
    return milliseconds(work.our_training(work.our_mlp(2), objective, x, batch, steps))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    x = basin.datasets.Checkerboard().sample(NUM_ROWS, torch.Generator().manual_seed(0))
    results = []
    for number in arguments.threads:
        torch.set_num_threads(number)
        for batch in (100, 1024):
            plain_loop(x, batch, 50), basin_loop(x, batch, 50)
            pairs = [
                (plain_loop(x, batch, arguments.steps), basin_loop(x, batch, arguments.steps))
                for _ in range(arguments.rounds)
            ]
            plain, ours = (statistics.median(times) for times in zip(*pairs, strict=True))
            ratios = sorted(first / second for first, second in pairs)
            row = {
                "batch": batch,
                "threads": number,
                "plain_ms": plain,
                "basin_ms": ours,
                "ratio": statistics.median(ratios),
                "ratio_range": [ratios[0], ratios[-1]],
            }
            results.append(row)
            print(
                f"batch {batch:5} threads {number}: plain {plain:.3f} ms, basin {ours:.3f} ms, "
                f"plain/basin {row['ratio']:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})",
                flush=True,
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
