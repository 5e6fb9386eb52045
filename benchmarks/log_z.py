"""log Z against the truth: how often intervals hold it, how wide they are, their cost.

    python benchmarks/log_z.py [--cases gaussian_10 many_well_32] [--repetitions 200]
                               [--ebmkit FOLDER] [--shared FOLDER] [--page_only]

Every case is repeated 200 times; 177 or more must hold the truth (fewer have p < 1e-4 at 95%). The
repetitions are independent walks of one batch, twenty for each pilot, so that ten pilots are seen.
ebmkit's ``ais_log_z`` (same base, its default HMC kernel, 64 chains, the better of its two
schedules) gets as many energy calls as sequential Monte Carlo here, pilots counted; a call is one
energy of one row, with or without its gradient. Its interval is log Z ± 1.96 of its stated error.
An estimate that is refused holds nothing.

The published restricted Boltzmann machine (``rbm_mnist``, needs --shared) is annealed once.
Results go to benchmarks/results/log_z.json, case by case, and from there to docs/log_z.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from scipy import integrate

import basin
from basin.energies import Gaussian, GaussianMixture, RestrictedBoltzmannMachine
from basin.partition import (
    LogZNotEstimated,
    anneal_particles,
    bennett_acceptance_ratio,
    choose_schedule,
    forward_annealing,
    log_z_of_weights,
    reverse_annealing,
)
from basin.paths import Geometric, JointGeometric
from basin.samplers import HMC, MALA, BlockGibbs

ROOT = Path(__file__).resolve().parent.parent
RESULTS, PAGE = ROOT / "benchmarks/results/log_z.json", ROOT / "docs/log_z.md"
BLOCK = 20  # repetitions that share a pilot
PARTICLES, ISLANDS, MOVES = 512, 16, 5
# Each of the 16 wells is a choice that a particle makes at a high temperature and keeps, so islands
# are larger. Hamiltonian paths cross for longer: an island of 256 particles has a relative variance
# of 0.17, one of 512 that moves by five steps of MALA 0.61, and takes three times as long.
OTHERWISE = {"many_well_32": (HMC(num_leapfrog_steps=5), 2, 4096)}  # kernel, moves, particles
CHAINS, STEPS_A_STAGE = 64, 10  # of annealed importance sampling, in each direction
QUANTILE = 1.959964


class Counted:
    """Counts rows; hands on what a case has."""

    def __init__(self, energy):
        self.energy, self.calls = energy, 0

    def __call__(self, x):
        self.calls += len(x)
        return self.energy(x)


class ManyWell:
    """Sixteen independent double wells, x1^4 - 6 x1^2 - x1 / 2 + x2^2 / 2 each: 2^16 modes."""

    num_pairs = 16

    def __call__(self, x):
        first, second = x[:, 0::2], x[:, 1::2]
        well = first.pow(4) - 6 * first.square() - 0.5 * first
        return (well + 0.5 * second.square()).sum(1)

    @property
    def log_z(self):
        """By quadrature of one well: 16 (log 11784.5093 + log(2 pi) / 2) = 164.69568."""
        mass, _ = integrate.quad(lambda u: math.exp(-(u**4) + 6 * u**2 + 0.5 * u), -5, 5)
        return self.num_pairs * (math.log(mass) + 0.5 * math.log(2 * math.pi))

    def sample(self, n, generator):
        grid = torch.linspace(-4, 4, 20_001, dtype=torch.float64)
        law = torch.softmax(-(grid**4) + 6 * grid**2 + 0.5 * grid, 0).cumsum(0).numpy()
        u = torch.rand(n * self.num_pairs, generator=generator).double().numpy()
        first = torch.from_numpy(np.interp(u, law, grid.numpy())).view(n, self.num_pairs)
        second = torch.randn(n, self.num_pairs, generator=generator)
        return torch.stack([first.float(), second], 2).flatten(1)


def gaussian(dim):
    """Condition number 100 in random directions; the base is as wide as its widest direction."""
    generator = torch.Generator().manual_seed(dim)
    turn, _ = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))
    variances = torch.logspace(0, 2, dim, dtype=torch.float64)
    target = Gaussian(torch.zeros(dim), turn @ torch.diag(variances) @ turn.T)
    return target, 10.0, dim


def two_modes():
    """Ten standard deviations apart, weights .8 and .2."""
    target = GaussianMixture([[-5.0, 0.0], [5.0, 0.0]], torch.eye(2), [0.8, 0.2])
    return target, 5.0, 2


def eight_modes():
    """In ten dimensions, means N(0, 16 I), standard deviation 1."""
    means = 4 * torch.randn(8, 10, generator=torch.Generator().manual_seed(0))
    weights = torch.tensor([0.3, 0.2, 0.15, 0.1, 0.1, 0.07, 0.05, 0.03])
    return GaussianMixture(means, torch.eye(10), weights / weights.sum()), 5.0, 10


CASES = {
    "gaussian_2": lambda: gaussian(2),
    "gaussian_10": lambda: gaussian(10),
    "gaussian_50": lambda: gaussian(50),
    "gaussian_100": lambda: gaussian(100),
    "two_modes_2": two_modes,
    "eight_modes_10": eight_modes,
    "many_well_32": lambda: (ManyWell(), 2.0, 32),
}


def summary(found, truth, calls, seconds):
    """``found``: for each repetition (lower, upper, log_z), or None where refused."""
    answers = [one for one in found if one is not None]
    held = sum(lower <= truth <= upper for lower, upper, _ in answers)
    widths = [upper - lower for lower, upper, _ in answers]
    errors = [value - truth for _, _, value in answers]
    return {
        "repetitions": len(found),
        "held": held,
        "refused": len(found) - len(answers),
        "median_width": float(np.median(widths)) if widths else None,
        "mean_error": float(np.mean(errors)) if errors else None,
        "root_mean_square_error": float(np.sqrt(np.mean(np.square(errors)))) if errors else None,
        "energy_calls": calls,
        "seconds": seconds,
    }


def answer(estimate):
    try:
        found = estimate()
    except LogZNotEstimated:
        return None
    return found.lower, found.upper, found.log_z


def by_smc(path, kernel, truth, counted, repetitions, seed, moves=MOVES, num_particles=PARTICLES):
    """Sequential Monte Carlo; each repetition has 16 islands of 32 particles, or of more."""
    start, found, pilots = time.perf_counter(), [], 0
    counted.calls = 0
    for block in range(repetitions // BLOCK):
        generator = torch.Generator().manual_seed(seed + block)
        before = counted.calls
        schedule = choose_schedule(path, kernel, num_moves=moves, generator=generator)
        pilots += counted.calls - before
        particles = anneal_particles(
            path,
            kernel,
            num_particles=BLOCK * num_particles,
            num_islands=BLOCK * ISLANDS,
            schedule=schedule,
            generator=generator,
        )
        for islands in particles.log_z_at[-1].split(ISLANDS):
            found.append(
                answer(
                    lambda islands=islands: log_z_of_weights(
                        islands,
                        method="",
                        raise_what="",
                        minimum_effective_sample_size=ISLANDS / 2,
                    )
                )
            )
    # every repetition would have needed a pilot of its own
    each = pilots / (repetitions // BLOCK) + (counted.calls - pilots) / repetitions
    return summary(found, truth, round(each), time.perf_counter() - start)


def by_ais(path, kernel, truth, counted, repetitions, seed, draw=None):
    """Annealed importance sampling forward, or with exact draws in both directions."""
    start, found, pilots = time.perf_counter(), [], 0
    log_z_base = float(path(0.0).log_z)
    counted.calls = 0
    for block in range(repetitions // BLOCK):
        generator = torch.Generator().manual_seed(seed + block)
        before = counted.calls
        pilot = choose_schedule(path, kernel, num_moves=2, conditional_ess=0.9, generator=generator)
        schedule = pilot.with_num_times(STEPS_A_STAGE * (len(pilot.stages) - 1), 1)
        pilots += counted.calls - before
        up = forward_annealing(path, schedule, BLOCK * CHAINS, generator).log_weights
        if draw is None:
            for weights in up.split(CHAINS):
                found.append(
                    answer(lambda w=weights: log_z_of_weights(w, method="", raise_what=""))
                )
            continue
        draws = draw(BLOCK * CHAINS, generator)
        down = reverse_annealing(path, schedule, draws, generator).log_weights
        for forward, reverse in zip(up.split(CHAINS), down.split(CHAINS), strict=True):
            found.append(
                answer(
                    lambda f=forward, r=reverse: bennett_acceptance_ratio(
                        f - log_z_base, r + log_z_base, log_z_base=log_z_base
                    )
                )
            )
    each = pilots / (repetitions // BLOCK) + (counted.calls - pilots) / repetitions
    return summary(found, truth, round(each), time.perf_counter() - start)


def by_ebmkit(target, dim, scale, truth, calls, repetitions, schedule):
    """Its forward AIS: all repetitions are chains of one run, then taken 64 at a time."""
    import ebm

    start = time.perf_counter()
    torch.manual_seed(0)
    num_temps = max(2, calls // (7 * CHAINS))  # one weight and six energies of HMC a temperature
    counted, found = Counted(target), []
    for _ in range(repetitions // BLOCK):
        result = ebm.ais_log_z(
            counted,
            (dim,),
            base_scale=scale,
            n_temps=num_temps,
            n_chains=BLOCK * CHAINS,
            schedule=schedule,
        )
        for weights in result.log_weights.split(CHAINS):
            log_z = float(torch.logsumexp(weights, 0)) - math.log(CHAINS)
            error = float((weights - log_z).exp().std()) / math.sqrt(CHAINS)  # as it states it
            found.append((log_z - QUANTILE * error, log_z + QUANTILE * error, log_z))
    each = round(counted.calls / repetitions)
    return summary(found, truth, each, time.perf_counter() - start)


def run_case(name, repetitions, has_ebmkit):
    target, scale, dim = CASES[name]()
    base = Gaussian(torch.zeros(dim), scale**2 * torch.eye(dim))
    counted = Counted(target)
    path, truth = Geometric(base, counted), float(target.log_z)
    kernel, moves, particles = OTHERWISE.get(name, (MALA(), MOVES, PARTICLES))
    rows = {"smc": by_smc(path, kernel, truth, counted, repetitions, 1000, moves, particles)}
    yield truth, rows
    if has_ebmkit:
        yield from add_ebmkit(name, rows, repetitions)
    rows["ais, forward"] = by_ais(path, MALA(), truth, counted, repetitions, 2000)
    yield truth, rows
    rows["ais, both directions"] = by_ais(
        path, MALA(), truth, counted, repetitions, 3000, target.sample
    )
    yield truth, rows


def add_ebmkit(name, rows, repetitions):
    """Its rows, with as many energy calls as sequential Monte Carlo took."""
    target, scale, dim = CASES[name]()
    truth, calls = float(target.log_z), rows["smc"]["energy_calls"]
    for schedule in ("linear", "geometric"):
        found = by_ebmkit(target, dim, scale, truth, calls, repetitions, schedule)
        rows[f"ebmkit, {schedule}"] = found
        yield truth, rows


def run_trained_machines(repetitions, shared):
    """RBMs with 20 hidden units, trained here on mushrooms (112 binary columns)."""
    with np.load(shared / "binary" / "binary_mushrooms.npz") as file:
        train = torch.from_numpy(file["train"]).float()
    machine = RestrictedBoltzmannMachine(train.shape[1], num_hidden=20)
    objective = basin.objectives.PseudoLikelihood()
    settings = {"num_steps": 600, "batch_size": 100, "learning_rate": 1e-2, "progress": False}
    machine = basin.fit(machine, train, objective, seed=0, **settings).energy
    truth = machine.log_z
    counted = Counted(machine)

    class Path(JointGeometric):
        """Counts what is asked of it."""

        def along(self, x):
            counted.calls += len(x)
            return super().along(x)

    path = Path(machine, JointGeometric.log_odds(train))
    rows = {"smc": by_smc(path, BlockGibbs(), truth, counted, repetitions, 1000)}
    yield truth, rows
    rows["ais, forward"] = by_ais(path, BlockGibbs(), truth, counted, repetitions, 2000)
    yield truth, rows

    def draw(n, generator):
        return hidden_first(machine, n, generator)

    rows["ais, both directions"] = by_ais(
        path, BlockGibbs(), truth, counted, repetitions, 3000, draw
    )
    yield truth, rows


def hidden_first(machine, n, generator):
    """Exact draws: hidden units by enumeration, visible ones given them."""
    other = RestrictedBoltzmannMachine(machine.num_hidden, num_hidden=len(machine.visible_bias))
    with torch.no_grad():
        other.weight.copy_(machine.weight.T)
        other.visible_bias.copy_(machine.hidden_bias)
        other.hidden_bias.copy_(machine.visible_bias)
        hidden = other.sample(n, generator)
        return torch.bernoulli(other.hidden_probability(hidden), generator=generator)


def run_published_machine(shared, num_times, num_chains):
    """CD25-500 on MNIST: log Z 451.29 ± 0.23 and -86.35 nats a test image, as published."""
    from scipy.io import loadmat

    parameters = np.load(shared / "rbm" / "rbm_mnist_cd25_500_params.npz")
    images = loadmat(shared / "rbm" / "randomly_binarized_mnist.mat")
    train, test = (torch.from_numpy(images[k].T.copy()).float() for k in ("x_trn", "x_tst"))
    machine = RestrictedBoltzmannMachine(784, num_hidden=500)
    with torch.no_grad():
        machine.weight.copy_(torch.from_numpy(parameters["W"]).T)
        machine.visible_bias.copy_(torch.from_numpy(parameters["vbias"]).flatten())
        machine.hidden_bias.copy_(torch.from_numpy(parameters["hbias"]).flatten())
    path = JointGeometric(machine, JointGeometric.log_odds(train))
    generator = torch.Generator().manual_seed(0)
    start = time.perf_counter()
    pilot = choose_schedule(
        path,
        BlockGibbs(),
        num_particles=128,
        num_moves=1,
        conditional_ess=0.9,
        generator=generator,
    )
    schedule = pilot.with_num_times(num_times, 1)
    forward = forward_annealing(path, schedule, num_chains, generator)
    found = forward.log_z()
    with torch.no_grad():
        mean = float((-machine(test)).double().mean())
    return {
        "pilot_stages": len(pilot.stages) - 1,
        "num_times": num_times,
        "num_chains": num_chains,
        "log_z": found.to_json(),
        "standard_deviation_of_log_weights": float(forward.log_weights.std()),
        "test_log_likelihood": mean - found.log_z,
        "mean_unnormalised": mean,
        "seconds": time.perf_counter() - start,
    }


def load():
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {"cases": {}}


def save(found):
    """Adds to what is there by now, as another process may run other cases."""
    results = load()
    results["cases"].update(found.pop("cases", {}))
    results.update(found)
    order = {name: place for place, name in enumerate([*CASES, "rbm_mushrooms"])}
    results["cases"] = dict(sorted(results["cases"].items(), key=lambda case: order[case[0]]))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    PAGE.write_text(page(results))


def page(results):
    lines = [
        "# log Z against the truth",
        "",
        "Written by `python benchmarks/log_z.py` from `benchmarks/results/log_z.json`; the first",
        "lines of the script say what is compared. *held*: repetitions whose 95% interval holds",
        "the truth; 177 of 200 is the least that chance allows. *refused*: repetitions without an",
        "answer, which hold nothing. *width*: median of upper minus lower end. *calls*: energies",
        "(with or without gradient) for one repetition, pilot included. Reverse walks start from",
        "exact draws of the target, which a user seldom has. The machine was shared: seconds are",
        "no measure and are left out.",
        "",
        "In many_well_32 each of 16 wells is a choice that a particle keeps from a high",
        "temperature on: sequential Monte Carlo takes 4,096 particles there (512 elsewhere) that",
        "move by Hamiltonian paths, and annealing forward, with 64 chains, is refused.",
        "",
        "| target | true log Z | method | held | refused | width, nats | RMS error, nats | calls |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, case in results["cases"].items():
        for method, row in case["methods"].items():
            width, error = (
                "" if row[key] is None else f"{row[key]:.3f}"
                for key in ("median_width", "root_mean_square_error")
            )
            lines.append(
                f"| {name} | {case['truth']:.5f} | {method} | {row['held']} of "
                f"{row['repetitions']} | {row['refused']} | {width} | {error} | "
                f"{row['energy_calls']:,} |"
            )
    published = results.get("rbm_mnist")
    if published:
        found = published["log_z"]
        lines += [
            "",
            "## The published restricted Boltzmann machine (MNIST, CD25, 500 hidden units)",
            "",
            f"`python benchmarks/log_z.py --cases rbm_mnist --num_times {published['num_times']} "
            f"--num_chains {published['num_chains']}`:",
            "annealed from the data's base rates by block Gibbs, temperatures from a pilot.",
            "",
            "| | log Z | 95% interval | test log-likelihood | ESS |",
            "| --- | --- | --- | --- | --- |",
            f"| here | {found['log_z']:.2f} ± {found['standard_error']:.2f} | "
            f"{found['lower']:.2f} to {found['upper']:.2f} | "
            f"{published['test_log_likelihood']:.2f} | {found['effective_sample_size']:.0f} of "
            f"{published['num_chains']} |",
            "| published (Burda et al. 2015, 100,000 temperatures) | | | -86.35 | |",
            "| the same by numpy, 100 chains, 5,000 temperatures | 451.29 ± 0.23 | | -86.36 | |",
        ]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    names = [*CASES, "rbm_mushrooms", "rbm_mnist"]
    parser.add_argument("--cases", nargs="+", choices=names, default=list(CASES))
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--ebmkit", type=Path, help="folder that holds the package ebm")
    parser.add_argument(
        "--only_ebmkit", action="store_true", help="add its rows to cases that have been run"
    )
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--num_times", type=int, default=2000)
    parser.add_argument("--num_chains", type=int, default=100)
    parser.add_argument("--page_only", action="store_true")
    arguments = parser.parse_args()
    if arguments.ebmkit:
        sys.path.insert(0, str(arguments.ebmkit))
    for name in [] if arguments.page_only else arguments.cases:
        if name == "rbm_mnist":
            found = run_published_machine(
                arguments.shared, arguments.num_times, arguments.num_chains
            )
            print(found, flush=True)
            save({"rbm_mnist": found})
            continue
        if arguments.only_ebmkit:
            case = add_ebmkit(name, load()["cases"][name]["methods"], arguments.repetitions)
        elif name == "rbm_mushrooms":
            case = run_trained_machines(arguments.repetitions, arguments.shared)
        else:
            case = run_case(name, arguments.repetitions, arguments.ebmkit is not None)
        for truth, rows in case:
            print(name, list(itertools.islice(reversed(rows.items()), 1)), flush=True)
            save({"cases": {name: {"truth": truth, "methods": rows}}})
    save({})


if __name__ == "__main__":
    main()
