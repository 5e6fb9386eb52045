"""Every objective on scikit-learn's handwritten digits: does it come through three minutes?

    python benchmarks/digits_objectives.py [--seconds 180] [--objective ...] [--processes 2]
                                           [--json FILE]

64 pixels in units of their common scale (whole numbers 0 and 1 for the discrete objectives), the
objectives' defaults, the network that `basin train` would take, as many steps as fit the time. What
is printed is how the run ended, its verdict, the held-out loss at the end relative to the trivial
predictor where there is one, and what `basin.evaluation.mmd` says of 200 samples (the sampler that
the run would use; for chains that do not mix that judges the sampler as well).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from pathlib import Path

import torch

import basin
import objectives as table
from basin.core.types import Objective
from basin.energies import Standardised

SEED, NUM_SAMPLES = 0, 200


def kinds():
    found = {name: getattr(basin.objectives, name) for name in basin.objectives.__all__}
    return {
        name: kind
        for name, kind in found.items()
        if isinstance(kind, type)
        and issubclass(kind, Objective)
        and not name.endswith("Penalty")
        and kind().support in ("real", "discrete")  # of some it depends on the kernel
    }


def make_energy(objective, digits):
    if objective.support == "discrete":
        return basin.energies.CategoricalMLP(digits.event_shape, seed=SEED)
    if objective.needs_noise_level:
        inner = basin.energies.NoiseConditional(digits.event_shape, seed=SEED)
    else:
        inner = basin.energies.MLP(digits.event_shape, seed=SEED)
    return Standardised(inner, digits.shift, digits.scale)


def measure(name, seconds):
    torch.set_num_threads(1)
    kind = kinds()[name]
    discrete = kind.support == "discrete"
    digits = basin.datasets.load("binarised_digits" if discrete else "digits")
    recipe = table.RECIPES.get(name, {})
    row = {"objective": name, "seconds": seconds}

    def fit(steps, **settings):
        energy = make_energy(kind(), digits)
        return basin.fit(
            energy, digits, kind(), seed=SEED, num_steps=steps, patience=None, **settings, **recipe
        )

    try:
        per_step = table.time_of_a_step(lambda steps: fit(steps, evaluate_every=steps), seconds)
        run = fit(max(50, int(seconds / per_step)))
    except (basin.training.TrainingDiverged, ValueError, RuntimeError) as error:
        return {**row, "failed": f"{type(error).__name__}: {str(error)[:300]}"}
    last = [record for record in run.history if "validation" in record or "held_out" in record]
    row |= {
        "num_steps": run.history[-1]["step"],
        "training_seconds": run.history[-1]["seconds"],
        "ended": run.config["training_ended"],
        "verdict": run.config["verdict"]["word"],
        "last": {k: v for k, v in (last or run.history)[-1].items() if isinstance(v, float | int)},
    }
    samples = run.sample(NUM_SAMPLES, seed=SEED)
    found = basin.evaluation.mmd(samples.float(), digits.validation.float())
    return {**row, "mmd": found.value, "mmd_p_value": found.p_value}


def _one(job):
    return measure(*job)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--objective", nargs="+", default=list(kinds()))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    if arguments.json and arguments.json.is_file():  # goes on where it was stopped
        rows = json.loads(arguments.json.read_text())
    done = {row["objective"] for row in rows}
    jobs = [(name, arguments.seconds) for name in arguments.objective if name not in done]
    with multiprocessing.get_context("spawn").Pool(arguments.processes, maxtasksperchild=1) as pool:
        for row in pool.imap(_one, jobs):
            rows.append(row)
            shown = row.get("failed") or (
                f"{row['num_steps']} steps in {row['training_seconds']:.0f} s, {row['verdict']}, "
                f"MMD {row['mmd']:.4f}, p {row['mmd_p_value']:.3f}; {row['ended']}"
            )
            print(f"{row['objective']:40} {shown}", flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
