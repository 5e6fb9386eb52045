"""Effective draws a second and an energy evaluation: Gibbs, block Gibbs, Gibbs with gradients.

    python benchmarks/discrete_samplers.py [--rounds 2] [--chains 32] [--sweeps 50] [--json FILE]

Targets: Ising spins on square lattices with open edges, without a field, and a restricted Boltzmann
machine of 20 hidden units that is trained here on the mushrooms table (112 binary columns, the
published split) by persistent contrastive divergence with block Gibbs; its log Z is summed over
the hidden states, so its mean test log probability is exact.

Effective sample sizes (bulk, rank-normalised) are of the magnetisation, the mean of a row, and of
the energy. Every kernel gets about as many single-coordinate draws: a Gibbs step is d of them, a
step with gradients one. "Gibbs, energies only" hides the closed-form conditionals of the Ising
energy, and is what any other energy of whole numbers gets. Chains start at exact draws (machine)
or after 100 sweeps (lattices). The kernels take turns within a round; times are this process's own
seconds of one thread, so that other work on the machine counts as little as may be, and medians of
the rounds are given with the range. An evaluation is one row given to the energy, and the gradient
of a row counts as one more (a forward and a backward pass); so does each half of block Gibbs (a
product with W). Closed-form conditionals are counted as the K energies that they stand for.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch

import basin
from basin.mcmc import effective_sample_size
from basin.samplers import BlockGibbs, Gibbs, GibbsWithGradients

MUSHROOMS = Path(__file__).resolve().parents[2] / "shared/data/binary/binary_mushrooms.npz"
NUM_DRAWS = 50  # of each chain, kept for the effective sample size


def lattice(side, coupling):
    place = torch.cartesian_prod(torch.arange(side), torch.arange(side))
    distance = (place[:, None] - place[None]).abs().sum(-1)
    return basin.energies.Ising(side**2, coupling * (distance == 1).double())


def trained_machine(num_steps):
    """The machine, and its mean log probabilities of training and test rows, in nats."""
    archive = np.load(MUSHROOMS)
    train, test = (torch.from_numpy(archive[name]).float() for name in ("train", "test"))
    energy = basin.energies.RestrictedBoltzmannMachine(112, num_hidden=20)
    run = basin.fit(
        energy,
        train,
        basin.objectives.PersistentContrastiveDivergence(
            BlockGibbs(), 2, num_chains=100, buffer_size=100, reinitialise=0.0, restart_at_data=0.0
        ),
        num_steps=num_steps,
        batch_size=100,
        learning_rate=0.005,
        ema_decay=0.99,
    )
    print(run.log_z, flush=True)
    return run.energy, [float(run.log_prob(rows).mean()) for rows in (train, test)]


class Counted:
    """The energy, counting rows; hides everything but the energy itself."""

    def __init__(self, energy):
        self.function, self.rows = energy, 0

    def __call__(self, x):
        self.rows += len(x)
        return self.function(x)


def one_run(energy, kernel, x0, num_steps, seed):
    """Effective sizes of both statistics, seconds, and the share of accepted steps."""
    start = time.process_time()
    chains = basin.sample(
        energy, kernel, x0, num_steps=num_steps, thin=num_steps // NUM_DRAWS, seed=seed
    )
    seconds = time.process_time() - start
    with torch.no_grad():
        energies = energy(chains.pooled()).view(chains.num_chains, -1)
    both = torch.stack([chains.positions.mean(-1), energies], dim=-1)
    return effective_sample_size(both).tolist(), seconds, chains.acceptance_rate


def evaluations_per_step(energy, kernel, x0):
    """Rows a chain and step, from a short run; a gradient counts as one more."""
    if isinstance(kernel, BlockGibbs):
        return 2.0
    counted = Counted(energy)
    basin.sample(counted, kernel, x0, num_steps=5)
    first = len(x0) if isinstance(kernel, GibbsWithGradients) else 0  # that of init
    rows = (counted.rows - first) / (5 * len(x0))
    return 2 * rows if isinstance(kernel, GibbsWithGradients) else rows


def compare(name, energy, x0, rounds, num_sweeps):
    """All kernels on one target, interleaved."""
    d = x0.shape[1]
    hidden_form = lambda x: energy(x)  # noqa: E731 - only the energy, no closed forms
    cases = {"Gibbs": (energy, Gibbs(), num_sweeps)}
    if hasattr(energy, "conditional_energies"):
        cases["Gibbs, energies only"] = (hidden_form, Gibbs(), num_sweeps)
    cases["GibbsWithGradients"] = (energy, GibbsWithGradients(), num_sweeps * d)
    if BlockGibbs.fits(energy):
        cases["BlockGibbs"] = (energy, BlockGibbs(), num_sweeps)
    found = {case: [] for case in cases}
    for seed in range(rounds):
        for case, (function, kernel, num_steps) in cases.items():
            found[case].append(one_run(function, kernel, x0, num_steps, seed))
    rows = []
    for case, (_, kernel, num_steps) in cases.items():
        evaluations = evaluations_per_step(energy, kernel, x0) * num_steps * len(x0)
        row = {"target": name, "dimension": d, "kernel": case, "steps": num_steps}
        row |= {"acceptance_rate": found[case][0][2], "evaluations": evaluations}
        row["seconds"] = statistics.median(seconds for _, seconds, _ in found[case])
        for i, statistic in enumerate(("magnetisation", "energy")):
            sizes = [both[i] for both, _, _ in found[case]]
            rates = sorted(both[i] / seconds for both, seconds, _ in found[case])
            row[statistic] = {
                "effective_sample_size": statistics.median(sizes),
                "per_second": statistics.median(rates),
                "per_second_range": [rates[0], rates[-1]],
                "per_thousand_evaluations": 1e3 * statistics.median(sizes) / evaluations,
            }
        rows.append(row)
        of = row["magnetisation"]
        print(
            f"{name:22} {case:22} ESS {of['effective_sample_size']:8.0f}  {row['seconds']:7.2f} s  "
            f"{of['per_second']:8.1f} a second  {of['per_thousand_evaluations']:8.3f} a thousand "
            f"evaluations  (energy: {row['energy']['per_second']:8.1f} a second)",
            flush=True,
        )
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--chains", type=int, default=32)
    parser.add_argument("--sweeps", type=int, default=NUM_DRAWS)
    parser.add_argument("--training_steps", type=int, default=3000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    for side, coupling in ((6, 0.2), (6, 0.3), (10, 0.3)):
        energy = lattice(side, coupling)
        x0 = basin.sample(energy, Gibbs(), arguments.chains, num_steps=100, keep="last").last
        name = f"ising {side}x{side} J={coupling}"
        results += compare(name, energy, x0, arguments.rounds, arguments.sweeps)
    machine, (train, test) = trained_machine(arguments.training_steps)
    print(f"machine: {train:.3f} nats a training row, {test:.3f} a test row", flush=True)
    x0 = machine.sample(arguments.chains, torch.Generator().manual_seed(0))
    results += compare("mushrooms rbm 112-20", machine, x0, arguments.rounds, arguments.sweeps)
    record = {
        "command": f"python benchmarks/discrete_samplers.py --rounds {arguments.rounds} "
        f"--chains {arguments.chains} --sweeps {arguments.sweeps} "
        f"--training_steps {arguments.training_steps}",
        "torch": torch.__version__,
        "machine_log_likelihood": {"train": train, "test": test},
        "results": results,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
