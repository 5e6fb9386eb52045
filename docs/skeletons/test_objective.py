"""My objective against a closed form, and a mutant that must fail."""

from __future__ import annotations

import math

import torch

from basin.energies import Gaussian
from basin.objectives import my_objective  # type: ignore[attr-defined]

SIGMA, NUM_ROWS = 0.5, 200_000


def standard_errors_from_truth(energy, generator) -> float:
    """Distance of the mean loss from its known value, in standard errors.

    Data N(0, 1) in one dimension and an energy x^2 / 2: with y = x + sigma z,
    E (z / sigma - y)^2 = 1 / sigma^2 - 2 + 1 + sigma^2.
    """
    x = torch.randn(NUM_ROWS, 1, generator=generator)
    loss = my_objective(energy, x, sigma=SIGMA, generator=generator).detach()
    truth = 1 / SIGMA**2 - 1 + SIGMA**2
    return float((loss.mean() - truth) / loss.std()) * math.sqrt(NUM_ROWS)


def test_the_value_on_a_gaussian(generator):
    assert abs(standard_errors_from_truth(Gaussian([0.0], [[1.0]]), generator)) < 3.9  # p = 1e-4


def test_the_wrong_sign_is_seen(generator):
    """The mutant."""
    assert abs(standard_errors_from_truth(lambda x: -0.5 * x.square().sum(1), generator)) > 10
