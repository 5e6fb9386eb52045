"""What the defaults reach where the truth is known: KL, log Z and mode weights of each toy density.

    python benchmarks/toy_densities.py [--density checkerboard ...] [--seeds 0 1 2 3 4]
                                       [--recipe default|plain|course] [--json FILE]

`default` is `basin.fit` as it comes (dual score matching, fresh draws, sigma 0.1). `plain` is
denoising score matching at sigma 0.1 with posterior-mean targets, SiLU 3x128. `course` is the
lesson's recipe (50,000 steps: give it time). KL and log Z are by quadrature, mode weights by
quadrature of the model and by the share of 8,000 samples.

The aims (issue 2), sigma 0.1: checkerboard KL <= 0.02, |log Z error| <= 0.05, at most 90 s of
training on 2 cores, for seeds 0 to 4; the others KL <= 0.05, |log Z error| <= 0.1, mode weights
within 0.02.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import torch

import basin
from basin.datasets import load

SIGMA, NUM_SAMPLES = 0.1, 8000
DENSITIES = (
    "checkerboard",
    "standard_gaussian",
    "eight_gaussians",
    "two_spirals",
    "rings",
    "two_moons",
    "pinwheel",
    "swiss_roll",
    "two_blobs",
)
MEASURES = ("kl_to_truth", "log_z_error", "fisher_divergence", "mode_weights_of_energy")


def train(recipe, density, seed):
    if recipe == "default":
        energy = basin.energies.NoiseConditional(2, seed=seed)
        return basin.fit(energy, density, seed=seed)
    if recipe == "plain":
        energy = basin.energies.MLP(2, hidden=(128, 128, 128), seed=seed)
        objective = basin.objectives.DenoisingScoreMatching(SIGMA)
        return basin.fit(energy, density, objective, seed=seed)
    energy = basin.energies.MLP(2, hidden=(128, 128), activation="softplus", seed=seed)
    objective = basin.objectives.DenoisingScoreMatching(
        SIGMA, antithetic=False, posterior_mean=False, num_noised=None
    )
    return basin.fit(
        energy,
        density,
        objective,
        num_steps=50_000,
        batch_size=100,
        learning_rate=1e-3,
        learning_rate_schedule="constant",
        warmup_steps=0,
        adam_betas=(0.9, 0.999),
        gradient_clip=None,
        ema_decay=None,
        evaluate_every=10_000,
        seed=seed,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--density", nargs="+", default=DENSITIES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--recipe", choices=["default", "plain", "course"], default="default")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    print(f"load average {os.getloadavg()[0]:.1f}, {torch.get_num_threads()} threads")
    for name in arguments.density:
        for seed in arguments.seeds:
            dataset = load(name)
            start = time.perf_counter()
            run = train(arguments.recipe, dataset.density, seed)
            seconds = time.perf_counter() - start
            samples = run.sample(NUM_SAMPLES, seed=seed)
            found = basin.training.evaluate(run, dataset, samples=samples, seed=seed)
            row = {"density": name, "recipe": arguments.recipe, "seed": seed, "seconds": seconds}
            for measure in (*MEASURES, "mode_weights"):
                row[measure] = found[measure]["value"] if measure in found else None
            rows.append(row)
            shown = "  ".join(
                f"{measure} {row[measure]:.4f}"
                for measure in row
                if isinstance(row[measure], float)
            )
            print(f"{name:18} seed {seed}  {shown}", flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
