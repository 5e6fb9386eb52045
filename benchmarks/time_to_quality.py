"""Processor time to KL 0.05 on the checkerboard blurred by 0.1: Basin's default beside plain DSM.

    python benchmarks/time_to_quality.py [--seeds 0 1] [--limit 10] [--num_steps 1000]

Basin trains with its defaults (dual score matching) for that many steps. torchebm and ebmkit train
by denoising score matching at sigma 0.1, what they have, each in its own way with Adam 1e-3 and
batches of 1,024, on MLP 2-128-128-1; a plain loop likewise. Each is looked at now and then, by
quadrature on the same grid, outside its own time; one thread. Who has not arrived after ``limit``
times Basin's own time is stopped: the ratio is then at least that.

Results go to benchmarks/results/time_to_quality.json, and from there to docs/speed.md.
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

RESULTS = Path(__file__).resolve().parent / "results/time_to_quality.json"
GOOD, SIGMA, BATCH, NUM_POINTS = 0.05, 0.1, 1024, 204
STEPS_A_LOOK = 250


def kl(energy):
    truth = basin.datasets.Checkerboard().blurred(SIGMA)
    return basin.evaluation.kl_to_truth(energy, truth, num_points=NUM_POINTS).value


def ours(seed, num_steps):
    """Seconds to the first look that is good enough, and the KL there."""
    started, looking, found = time.process_time(), 0.0, []

    def look(energy, record):
        nonlocal looking
        before = time.process_time()
        found.append((before - started - looking, kl(energy.at(SIGMA))))
        looking += time.process_time() - before

    basin.fit(
        basin.energies.NoiseConditional(2, seed=seed),
        basin.datasets.Checkerboard(),
        num_steps=num_steps,
        evaluate_every=num_steps // 20,
        on_evaluation=look,
        seed=seed,
    )
    return next((pair for pair in found if pair[1] <= GOOD), (None, found[-1][1]))


def theirs(thunk, module, limit):
    """The same for a thunk that trains ``module`` by some steps a call."""
    taken = 0.0
    while taken < limit:
        before = time.process_time()
        thunk()
        taken += time.process_time() - before
        reached = kl(module)
        if reached <= GOOD:
            return taken, reached
    return None, reached


def peers(seed):
    rows = basin.datasets.Checkerboard().sample(51_200, torch.Generator().manual_seed(seed))
    torch.manual_seed(seed)

    def network():
        return work.PlainMLP(basin.energies.MLP(2, (128, 128), "softplus", seed=seed))

    plain = network()
    loss = partial(work.plain_denoising, plain, SIGMA)
    found = {"plain": (work.torch_loop(loss, plain, work.loaded(rows, BATCH), STEPS_A_LOOK), plain)}
    if work.library("torchebm"):
        inner = network()
        module = work.for_torchebm(inner)
        kind = work.library("torchebm.losses").DenoisingScoreMatching
        their = kind(module, noise_scale=SIGMA)
        batches = work.indexed(rows, BATCH)
        found["torchebm"] = (work.torch_loop(their, module, batches, STEPS_A_LOOK), inner)
    if work.library("ebm"):
        module = network()
        kit = work.library("ebm").DenoisingScoreMatching(SIGMA)
        found["ebmkit"] = (
            work.ebmkit_trainer(module, kit, rows, BATCH, STEPS_A_LOOK),
            module,
        )
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--limit", type=float, default=10.0)
    parser.add_argument("--num_steps", type=int, default=1000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    basin.fit(basin.energies.NoiseConditional(2), basin.datasets.Checkerboard(), num_steps=20)
    runs = []
    for seed in arguments.seeds:
        seconds, value = ours(seed, arguments.num_steps)
        run = {"seed": seed, "basin": {"seconds": seconds, "kl": value}}
        limit = arguments.limit * (seconds or 30.0)
        for name, (thunk, module) in peers(seed).items():
            seconds, value = theirs(thunk, module, limit)
            run[name] = {"seconds": seconds, "kl": value}
        run["limit"] = limit
        runs.append(run)
        print(run, flush=True)
        RESULTS.write_text(json.dumps(runs, indent=1) + "\n")
    print("median", statistics.median(r["basin"]["seconds"] or float("inf") for r in runs))


if __name__ == "__main__":
    main()
