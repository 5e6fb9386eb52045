"""How likely held-out digits are: dual score matching beside a Gaussian, a mixture and a KDE.

    python benchmarks/digits_likelihood.py [--num_steps 4000] [--seed 0] [--json FILE]

scikit-learn's digits, 64 pixels, 1,437 for training, 360 held out (validation and test), in units
of their common scale. All four are densities of the digits blurred by N(0, sigma^2 I), measured by
the mean of log p_sigma over held-out digits blurred likewise, in nats per dimension:

    Gaussian     mean and full covariance of the training part, blurred
    mixture      20 Gaussians with full covariances, where the fourth starts, blurred
    KDE          a Gaussian around each training digit; its width by leaving one out
    dual         -E(x, sigma) - log Z

The first three are normalised. For the fourth log Z is estimated twice: by the tie at the top of
the ladder, as in a run (one value for all levels), and at each level by importance sampling from
the mixture. The second is unbiased for Z and its effective sample size is printed: below a hundred
it says little, and the tie is taken.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import torch

import basin
from basin.energies import NoiseConditional, NoisedGaussianMixture, Standardised

SIGMAS = (0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 2.0)
NUM_NOISES, NUM_DRAWS, ENOUGH = 10, 20_000, 100


def kde(train, width):
    def log_prob(y, sigma, leave_out=False):
        variance, dim = width**2 + sigma**2, train.shape[1]
        parts = []
        for start in range(0, len(y), 1000):
            square = torch.cdist(y[start : start + 1000], train).square()
            if leave_out:
                rows = torch.arange(len(square))
                square[rows, rows + start] = math.inf
            parts.append(torch.logsumexp(-square / (2 * variance), 1))
        count = len(train) - leave_out
        constant = math.log(count) + 0.5 * dim * math.log(2 * math.pi * variance)
        return torch.cat(parts) - constant

    return log_prob


def best_width(train):
    widths = torch.logspace(-1.5, 0.5, 41).tolist()
    scores = [float(kde(train, w)(train, 0.0, leave_out=True).mean()) for w in widths]
    return widths[scores.index(max(scores))]


def fitted(dim, num_components, train):
    energy = NoisedGaussianMixture(dim, num_components).double()
    energy.fit(train, torch.Generator().manual_seed(0))
    return energy


def importance_sampled_log_z(energy, base, sigma, generator):
    """log mean exp(E_base - E) over draws of the base, its standard error and effective size."""
    draws = base.sample_base(NUM_DRAWS, generator, sigma)
    with torch.no_grad():
        log_weights = torch.cat(
            [base(x, sigma) - energy(x.float().reshape(-1, *energy.event_shape), sigma).double()
             for x in draws.split(5000)]
        )  # fmt: skip
    effective = float(1 / torch.softmax(log_weights, 0).square().sum())
    log_z = float(torch.logsumexp(log_weights, 0)) - math.log(len(log_weights))
    return log_z, math.sqrt(max(0.0, 1 / effective - 1 / NUM_DRAWS)), effective


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--num_steps", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    digits = basin.datasets.load("digits")
    model = NoiseConditional(digits.event_shape, seed=arguments.seed)
    start = time.perf_counter()
    run = basin.fit(
        Standardised(model, digits.shift, digits.scale),
        digits,
        num_steps=arguments.num_steps,
        seed=arguments.seed,
    )
    seconds = time.perf_counter() - start
    energy, tie = run.energy.energy, run.log_z

    def rows(x):
        return run.energy.standardise(x.float()).flatten(1).double()

    train = rows(digits.train.take(0, digits.train.num_rows))
    held_out = rows(torch.cat([digits.validation, digits.test]))
    dim = train.shape[1]
    width = best_width(train)
    gaussian, mixture = fitted(dim, 1, train), fitted(dim, 20, train)
    density = kde(train, width)
    print(f"{run.config['training_ended']}, {seconds:.0f} s; KDE width {width:.3f}; tie {tie}")
    found = []
    for sigma in SIGMAS:
        generator = torch.Generator().manual_seed(1)
        noise = torch.randn(NUM_NOISES, *held_out.shape, generator=generator, dtype=torch.float64)
        y = (held_out + sigma * noise).flatten(0, 1)
        log_z, error, effective = importance_sampled_log_z(energy, mixture, sigma, generator)
        with torch.no_grad():
            of_dual = -energy(y.float().reshape(-1, *energy.event_shape), sigma).double()
        values = {
            "gaussian": -gaussian(y, sigma),
            "mixture": -mixture(y, sigma),
            "kde": density(y, sigma),
            "dual": of_dual - (log_z if effective >= ENOUGH else tie.log_z),
        }
        # Noises of one digit go together: the digits are what was drawn at random.
        by_digit = {name: v.view(NUM_NOISES, -1).mean(0) / dim for name, v in values.items()}
        row = {
            "sigma": sigma,
            "nats_per_dimension": {name: float(v.mean()) for name, v in by_digit.items()},
            "standard_error": {
                name: float(v.std() / len(held_out) ** 0.5) for name, v in by_digit.items()
            },
            "dual_minus_mixture_standard_error": float(
                (by_digit["dual"] - by_digit["mixture"]).std() / len(held_out) ** 0.5
            ),
            "log_z": log_z,
            "log_z_standard_error": error,
            "log_z_effective_sample_size": effective,
            "tie": tie.to_json(),
            "training_seconds": seconds,
        }
        found.append(row)
        shown = "  ".join(f"{name} {v:+.3f}" for name, v in row["nats_per_dimension"].items())
        print(
            f"sigma {sigma:4}: {shown} nats a dimension; log Z {log_z:+.2f} ± {error:.2f} "
            f"(effective {effective:.0f}), by the tie {tie.log_z:+.2f}",
            flush=True,
        )
        if arguments.json:
            arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
