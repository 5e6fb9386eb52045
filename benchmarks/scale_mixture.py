"""A scale mixture of two Gaussians in d = 100: dual score matching tells its weights.

    python benchmarks/scale_mixture.py [--network radial] [--seeds 0] [--num_steps 4000] [--json F]

p = w N(0, I) + (1 - w) N(0, s^2 I), as in figure 1 of Guth, Kadkhodaie & Simoncelli 2025 (there
d = 1000). In high dimension the two live on shells of radius sqrt(d) and s sqrt(d) with nothing in
between, so the score at the data says nothing of w; the derivative in the noise level carries it
down from the levels at which the shells merge. For points of each component blurred by sigma,

    gap = log p_theta - log p_sigma        (log p_theta = -E - log Z)

is printed with its standard deviation. Dual score matching is normalised, so its gap has a level of
its own; the score-matched energy has no log Z. What both have is the difference of the two mean
gaps, the error of the log odds that the model gives the shells: zero when it knows the weights.
Trained with w and with 1 - w, one that is blind gives the same odds both times.

Networks: "radial", a function of the norm and the level alone, so that the objective is tested and
not the network; "default", Basin's own for any data (a network of 100 coordinates, which has to
find out that the norm is what matters).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import torch
from torch import Tensor, nn

import basin

SIGMA, NUM_TEST = 0.1, 4000


class ScaleMixture(basin.core.Density):
    """weight N(0, I) + (1 - weight) N(0, scale^2 I), blurred by N(0, sigma^2 I)."""

    is_smooth = True

    def __init__(self, dim: int, weight: float, scale: float, sigma: float = 0.0) -> None:
        self.dim, self.weight, self.scale, self.sigma = dim, weight, scale, sigma
        self.event_shape = (dim,)
        self.variances = torch.tensor([1.0, scale**2]).double() + sigma**2
        self.mode_weights = torch.tensor([weight, 1 - weight]).double()
        reach = 8 * math.hypot(scale, sigma)
        self.bounds = torch.tensor([[-reach, reach]] * dim)

    def component(self, k: int, n: int, generator: torch.Generator) -> Tensor:
        return self.variances[k].sqrt().float() * torch.randn(n, self.dim, generator=generator)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        wide = torch.rand(n, 1, generator=generator) >= self.weight
        z = torch.randn(n, self.dim, generator=generator)
        narrow, broad = self.variances.sqrt().float()
        return torch.where(wide, broad, narrow) * z

    def log_prob(self, x: Tensor) -> Tensor:
        square = x.double().square().sum(1, keepdim=True)
        log_parts = -square / (2 * self.variances) - 0.5 * self.dim * torch.log(
            2 * math.pi * self.variances
        )
        return torch.logsumexp(log_parts + self.mode_weights.log(), 1)

    def blurred(self, sigma: float) -> ScaleMixture:
        return ScaleMixture(self.dim, self.weight, self.scale, math.hypot(self.sigma, sigma))

    def mode_of(self, x: Tensor) -> Tensor:
        narrow, broad = (self.dim * self.variances).sqrt()
        return (x.norm(dim=1) > (narrow + broad) / 2).long()


class Radial(nn.Module):
    """E(x, sigma) of the norm: a Gaussian of the data's mean variance, and d times a network."""

    def __init__(self, truth: ScaleMixture, seed: int) -> None:
        super().__init__()
        self.event_shape = truth.event_shape
        self.dim = truth.dim
        self.variance = float(truth.mode_weights @ truth.variances)
        self.network = basin.energies.MLP(3, hidden=(64, 64), seed=seed)

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        sigma = torch.as_tensor(sigma).to(x)
        square, total = x.square().mean(1) + 1e-3, self.variance + sigma**2
        level = sigma.log().expand_as(square)
        features = torch.stack([2 * torch.log(square / total), 2 * square.log(), level], 1)
        gaussian = 0.5 * (square / total + torch.log(2 * math.pi * total))
        return self.dim * (gaussian + 0.1 * self.network(features))

    def at(self, sigma: float) -> nn.Module:
        return RadialAt(self, sigma)

    def base_law(self, sigma: float) -> tuple[Tensor, Tensor]:
        variance = (self.variance + sigma**2) * torch.eye(self.dim).double()
        return torch.zeros(self.dim).double(), variance


class RadialAt(nn.Module):
    """``Radial`` at one level."""

    def __init__(self, energy: Radial, sigma: float) -> None:
        super().__init__()
        self.energy, self.sigma = energy, sigma

    def forward(self, x: Tensor) -> Tensor:
        return self.energy(x, self.sigma)


def energy_for(name, network, truth, seed):
    if network == "radial":
        radial = Radial(truth, seed)
        return radial if name == "dual" else radial.at(SIGMA)
    if name == "dual":
        return basin.energies.NoiseConditional(truth.dim, seed=seed)
    return basin.energies.MLP(truth.dim, hidden=(256, 256, 256), confinement=0.1, seed=seed)


def train(name, network, truth, seed, num_steps):
    """The run, and log p of it up to a constant at SIGMA."""
    settings = dict(num_steps=num_steps, batch_size=512, seed=seed)
    energy = energy_for(name, network, truth, seed)
    if name == "dual":
        objective = basin.objectives.DualScoreMatching(sigma_min=SIGMA)
        run = basin.fit(energy, truth, objective, sigma=SIGMA, **settings)
        return run, run.log_prob
    run = basin.fit(energy, truth, basin.objectives.DenoisingScoreMatching(SIGMA), **settings)
    return run, lambda x: -run.energy(x)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dimension", type=int, default=100)
    parser.add_argument("--scale", type=float, default=4.0)
    parser.add_argument("--weights", type=float, nargs="+", default=[0.8, 0.2])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--num_steps", type=int, default=4000)
    parser.add_argument("--methods", nargs="+", default=["dual", "single"])
    parser.add_argument("--network", choices=["radial", "default"], default="radial")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    for seed in arguments.seeds:
        for name in arguments.methods:
            for weight in arguments.weights:
                truth = ScaleMixture(arguments.dimension, weight, arguments.scale)
                blurred = truth.blurred(SIGMA)
                start = time.perf_counter()
                run, log_prob = train(name, arguments.network, truth, seed, arguments.num_steps)
                elapsed = time.perf_counter() - start
                generator = torch.Generator().manual_seed(1)
                gaps = []
                with torch.no_grad():
                    for k in (0, 1):
                        x = blurred.component(k, NUM_TEST, generator)
                        gaps.append(log_prob(x).double() - blurred.log_prob(x))
                means, deviations = ([float(f(g)) for g in gaps] for f in (torch.mean, torch.std))
                row = {
                    "method": name,
                    "network": arguments.network,
                    "weight": weight,
                    "dimension": arguments.dimension,
                    "scale": arguments.scale,
                    "seed": seed,
                    "num_steps": arguments.num_steps,
                    "seconds": elapsed,
                    "mean_gap": means if name == "dual" else None,
                    "gap_standard_deviation": deviations,
                    "log_odds_error": means[0] - means[1],
                    "standard_error": math.hypot(*deviations) / NUM_TEST**0.5,
                    "model_log_odds": means[0] - means[1] + math.log(weight / (1 - weight)),
                    "true_log_odds": math.log(weight / (1 - weight)),
                    "log_z": None if run.log_z is None else run.log_z.to_json(),
                }
                rows.append(row)
                print(
                    f"{name:7} weight {weight} seed {seed}: log odds "
                    f"{row['model_log_odds']:+8.2f} (truth {row['true_log_odds']:+.2f}, error "
                    f"{row['log_odds_error']:+.2f} ± {row['standard_error']:.2f}), standard "
                    f"deviation of the gap {deviations[0]:.2f} and {deviations[1]:.2f}, "
                    f"mean gap {row['mean_gap']}, {elapsed:.0f} s",
                    flush=True,
                )
                if arguments.json:
                    arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
