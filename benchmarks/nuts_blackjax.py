"""NUTS and HMC beside BlackJAX's: effective draws per gradient and per second.

    python -m venv peers && peers/bin/pip install -e . jax blackjax
    export OMP_NUM_THREADS=1
    export XLA_FLAGS="--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    peers/bin/python benchmarks/nuts_blackjax.py [--rounds 5] [--chains 4] [--num_warmup 500]
        [--num_steps 1000] [--json benchmarks/results/nuts_blackjax.json]

The work of both: 4 chains in float32 from the same starting law, Stan's windows of the same
length with a diagonal metric and a target acceptance of 0.8, then draws with what was adapted. They
take turns within every round, each with its own seed, so that drifts of a shared machine hit both.

    per gradient   smallest bulk ESS over the coordinates (or over their squares about the mean),
                   over the gradients of the draws, all chains; warm-up left out for both
    per second     the same over the processor time of the draws; JAX's compilation left out
    ratio          Basin's over BlackJAX's: of the geometric means over the rounds, with the factor
                   of one standard error

BlackJAX adapts each chain alone, Basin pools them. Basin doubles paths chain by chain in eager
PyTorch; BlackJAX compiles the whole run, and its chains wait for the longest path. One thread.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import torch

import basin
from basin.mcmc import effective_sample_size

GERMAN = Path(__file__).resolve().parents[2] / "shared" / "data" / "uci" / "german.data-numeric"


class Target(NamedTuple):
    """The same density twice, and the scale of a starting law N(0, scale^2)."""

    dim: int
    energy: Any
    log_density: Any
    scale: float


class Result(NamedTuple):
    """What one run gave."""

    draws: np.ndarray
    gradients: int
    seconds: float
    step_size: float
    divergences: int


def correlated_gaussian(dim=50, condition=100.0):
    """N(0, S), eigenvalues from 1 to 100 evenly in the logarithm, axes at random."""
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    precision = (axes / np.geomspace(1.0, condition, dim)) @ axes.T
    ours = torch.tensor(precision, dtype=torch.float32)
    theirs = jnp.asarray(precision, jnp.float32)
    return Target(
        dim,
        lambda x: 0.5 * ((x @ ours) * x).sum(1),
        lambda x: -0.5 * x @ theirs @ x,
        3.0,
    )


def funnel(dim=10, width=3.0):
    """Neal's: v ~ N(0, 3^2), the nine others N(0, e^v)."""

    def energy(x):
        v, rest = x[:, 0], x[:, 1:]
        return (
            0.5 * (v / width).square()
            + 0.5 * (dim - 1) * v
            + 0.5 * rest.square().sum(1) * (-v).exp()
        )

    def log_density(x):
        v, rest = x[0], x[1:]
        return -(
            0.5 * (v / width) ** 2 + 0.5 * (dim - 1) * v + 0.5 * jnp.sum(rest**2) * jnp.exp(-v)
        )

    return Target(dim, energy, log_density, 1.0)


def german_credit():
    """Logistic regression, 24 standardised columns and an intercept, weights N(0, 1)."""
    table = np.loadtxt(GERMAN)
    x = (table[:, :-1] - table[:, :-1].mean(0)) / table[:, :-1].std(0)
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    signed = x * np.where(table[:, -1:] == 2, 1.0, -1.0)  # the sign of the label in the rows
    ours, theirs = torch.tensor(signed, dtype=torch.float32), jnp.asarray(signed, jnp.float32)

    def energy(w):
        logits = w @ ours.mT
        return torch.nn.functional.softplus(-logits).sum(1) + 0.5 * w.square().sum(1)

    def log_density(w):
        return -jnp.sum(jax.nn.softplus(-theirs @ w)) - 0.5 * jnp.sum(w**2)

    return Target(x.shape[1], energy, log_density, 0.1)


TARGETS = {
    "correlated Gaussian, d = 50": correlated_gaussian,
    "funnel, d = 10": funnel,
    "German credit, d = 25": german_credit,
}
HMC_STEPS = 10
KERNELS = {
    "NUTS": (basin.samplers.NUTS(), blackjax.nuts, {}),
    "HMC": (
        # With its jitter, which BlackJAX has not: on a target with a coordinate whose period is
        # the path's, the step size that warm-up finds decides about everything without it.
        basin.samplers.HMC(num_leapfrog_steps=HMC_STEPS),
        blackjax.hmc,
        {"num_integration_steps": HMC_STEPS},
    ),
}


def starts(target, seed, chains):
    return target.scale * np.random.default_rng(seed).standard_normal((chains, target.dim))


def run_basin(target, kernel, x0, seed, num_warmup, num_steps):
    generator = torch.Generator().manual_seed(seed)
    options = {"seed": generator, "on_divergence": "count"}
    x0 = torch.tensor(x0, dtype=torch.float32)
    warm = basin.sample(target.energy, kernel, x0, num_steps=1, num_warmup=num_warmup, **options)
    begin = time.process_time()
    chains = basin.sample(target.energy, warm.kernel, warm.last, num_steps=num_steps, **options)
    seconds = time.process_time() - begin
    gradients = int(chains.info["num_gradient_evaluations"].sum())
    draws = chains.positions.double().numpy()
    return Result(draws, gradients, seconds, chains.kernel.step_size, chains.num_divergent)


def compiled_blackjax(target, algorithm, extra, chains, num_warmup, num_steps):
    """Warm-up and sampling as two compiled functions."""
    warm_up = blackjax.window_adaptation(algorithm, target.log_density, **extra)

    @jax.jit
    @jax.vmap
    def adapt(key, x):
        (state, parameters), _ = warm_up.run(key, x, num_warmup)
        return state, {
            "step_size": parameters["step_size"],
            "inverse_mass_matrix": parameters["inverse_mass_matrix"],
        }

    @jax.jit
    @jax.vmap
    def draw(key, state, parameters):
        step = algorithm(target.log_density, **parameters, **extra).step

        def one(state, key):
            state, info = step(key, state)
            return state, (state.position, info.num_integration_steps, info.is_divergent)

        return jax.lax.scan(one, state, jax.random.split(key, num_steps))[1]

    def run(x0, seed):
        first, second = jax.random.split(jax.random.key(seed))
        state, parameters = adapt(jax.random.split(first, chains), jnp.asarray(x0, jnp.float32))
        keys = jax.random.split(second, chains)
        jax.block_until_ready((state, parameters))
        begin = time.process_time()
        positions, steps, divergent = jax.block_until_ready(draw(keys, state, parameters))
        seconds = time.process_time() - begin
        draws = np.asarray(positions, np.float64)
        step_size = float(parameters["step_size"].mean())
        return Result(draws, int(steps.sum()), seconds, step_size, int(divergent.sum()))

    return run


def measured(result):
    """Effective draws of the worst coordinate and of the worst square, per gradient and second."""
    draws = torch.tensor(result.draws)
    squares = (draws - draws.flatten(0, 1).mean(0)).square()
    row = {"gradients": result.gradients, "seconds": result.seconds}
    row |= {"step_size": result.step_size, "divergences": result.divergences}
    for name, values in (("means", draws), ("squares", squares)):
        smallest = float(effective_sample_size(values).min())
        row[f"smallest_ess_{name}"] = smallest
        row[f"{name}_per_gradient"] = smallest / result.gradients
        row[f"{name}_per_second"] = smallest / result.seconds
    return row


def ratio(rows, field):
    """Basin's over BlackJAX's, and the factor of one standard error."""
    logs = {peer: np.log([row[field] for row in rows[peer]]) for peer in rows}
    error = np.sqrt(sum(values.var(ddof=1) / len(values) for values in logs.values()))
    return float(np.exp(logs["basin"].mean() - logs["blackjax"].mean())), float(np.exp(error))


def compare(target, kernel, arguments):
    ours, algorithm, extra = KERNELS[kernel]
    work = (arguments.num_warmup, arguments.num_steps)
    theirs = compiled_blackjax(target, algorithm, extra, arguments.chains, *work)
    theirs(starts(target, 0, arguments.chains), 0)  # compiles
    rows: dict[str, list] = {"basin": [], "blackjax": []}
    for seed in range(1, arguments.rounds + 1):
        x0 = starts(target, seed, arguments.chains)
        runs = {"basin": partial(run_basin, target, ours, x0, seed, *work)}
        runs["blackjax"] = partial(theirs, x0, seed)
        for peer, run in runs.items():
            rows[peer].append(measured(run()))
            print(peer, {k: round(v, 5) for k, v in rows[peer][-1].items()}, flush=True)
    fields = [
        f"{name}_per_{unit}" for name in ("means", "squares") for unit in ("gradient", "second")
    ]
    ratios = {field: ratio(rows, field) for field in fields}
    return {"rows": rows, "ratios": ratios}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--chains", type=int, default=4)
    parser.add_argument("--num_warmup", type=int, default=500)
    parser.add_argument("--num_steps", type=int, default=1000)
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--kernels", nargs="+", default=list(KERNELS), choices=list(KERNELS))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {
        "versions": {
            "torch": torch.__version__,
            "jax": jax.__version__,
            "blackjax": blackjax.__version__,
            "python": platform.python_version(),
        },
        "settings": {
            name: getattr(arguments, name)
            for name in ("rounds", "chains", "num_warmup", "num_steps")
        },
        "comparisons": {},
    }
    for name in arguments.targets:
        target = TARGETS[name]()
        for kernel in arguments.kernels:
            found = compare(target, kernel, arguments)
            result["comparisons"][f"{kernel}, {name}"] = found
            shown = {k: f"{v:.3g} (x/ {e:.2g})" for k, (v, e) in found["ratios"].items()}
            print(f"{kernel}, {name}: {shown}", flush=True)
            if arguments.json:  # after each, so that a long run that is stopped leaves what it has
                arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
