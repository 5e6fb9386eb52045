"""Targets to start exactly at, with the law of one marginal: what every exact kernel must keep."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from helpers.curved_energies import Banana, Funnel, HalfLineGamma
from helpers.energies import AsymmetricMixture, DiagonalGaussian, log_gamma_energy
from helpers.statistics import GridLaw, normal_cdf

NUM_CHAINS = 20_000
_LOG_GAMMA = GridLaw(log_gamma_energy, -12.0, 5.0)


class Target(NamedTuple):
    """An energy, exact draws of it ``(n, generator)``, the law of the first coordinate."""

    energy: Any
    draw: Any
    cdf: Any


def _gaussian_draw(n: int, generator: torch.Generator) -> torch.Tensor:
    noise = torch.randn(n, 2, generator=generator)
    return noise / torch.tensor([1.0, 25.0]).sqrt() + torch.tensor([1.0, -2.0])


TARGETS = {
    "gaussian": Target(
        DiagonalGaussian([1.0, 25.0], [1.0, -2.0]), _gaussian_draw, normal_cdf(1.0, 1.0)
    ),
    "mixture": Target(AsymmetricMixture(), AsymmetricMixture().draw, AsymmetricMixture().cdf),
    "funnel": Target(Funnel(), Funnel().draw, Funnel().cdf),
    "banana": Target(Banana(), Banana().draw, Banana().cdf),
    "gamma": Target(HalfLineGamma(), HalfLineGamma().draw, HalfLineGamma().cdf),
    "log-gamma": Target(log_gamma_energy, _LOG_GAMMA.draw, _LOG_GAMMA.cdf),
}


def exact_start(name: str, generator: torch.Generator) -> torch.Tensor:
    """20,000 exact draws of a target."""
    return TARGETS[name].draw(NUM_CHAINS, generator)
