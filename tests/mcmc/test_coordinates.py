"""Coordinates of a cloud: there and back, and a kernel in them leaves the law alone."""

from __future__ import annotations

import pytest
import torch

import basin
from basin.mcmc.coordinates import Coordinates
from basin.samplers import MALA
from basin.sampling import sample
from helpers.energies import AsymmetricMixture
from helpers.statistics import assert_different_law, assert_same_law


def gaussian_scores(x, covariance):
    return -(x @ torch.linalg.inv(covariance))


@pytest.mark.parametrize("n", [7, 500], ids=["diagonal", "dense"])
@pytest.mark.parametrize("shape", [(3,), (2, 2)])
def test_there_and_back(n, shape, generator):
    x, s = torch.randn(2, n, *shape, generator=generator, dtype=torch.float64) * 3 + 1
    coordinates = Coordinates.of(x, s)
    assert coordinates.factor.ndim == (1 if n == 7 else 2)
    assert torch.allclose(coordinates.back(coordinates.into(x)), x, atol=1e-10)


def test_a_gaussian_is_round_in_them(generator):
    """L L' is its covariance, up to the error of the estimate; weights count."""
    covariance = torch.tensor([[4.0, 3.8], [3.8, 4.0]], dtype=torch.float64)
    x = torch.randn(4000, 2, generator=generator, dtype=torch.float64)
    x = x @ torch.linalg.cholesky(covariance).T
    coordinates = Coordinates.of(x, gaussian_scores(x, covariance))
    found = coordinates.factor @ coordinates.factor.T
    assert torch.allclose(found, covariance, rtol=0.15)
    y_scores = gaussian_scores(x, covariance) @ coordinates.factor
    assert torch.allclose(y_scores.T @ y_scores / 4000, torch.eye(2).double(), atol=1e-6)
    half = torch.cat([torch.full((2000,), 1 / 2000), torch.zeros(2000)]).double()
    weighted = Coordinates.of(x, gaussian_scores(x, covariance), half)
    alone = Coordinates.of(x[:2000], gaussian_scores(x[:2000], covariance))
    assert torch.allclose(weighted.factor, alone.factor, atol=1e-9)


def test_far_modes_give_the_width_of_a_mode(generator):
    """Not that of the cloud: N(-50, 1) and N(50, 1)."""
    side = 100 * (torch.rand(2000, 1, generator=generator) < 0.5) - 50.0
    x = side + torch.randn(2000, 1, generator=generator)
    assert float(Coordinates.of(x, side - x).factor) == pytest.approx(1.0, rel=0.1)


def test_the_score_is_that_of_the_energy_seen(generator):
    energy = AsymmetricMixture()
    x = energy.draw(300, generator).double()
    coordinates = Coordinates.of(x, basin.score(energy, x))
    seen = coordinates.energy(energy)
    y = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    by_hand = basin.score(lambda y: seen(y), y)
    assert torch.allclose(basin.score(seen, y), by_hand, atol=1e-10)


def test_flat_directions_and_points_outside_a_support(generator):
    x = torch.randn(100, 2, generator=generator)
    s = -x * torch.tensor([1.0, 0.0])
    s[0] = float("nan")
    factor = Coordinates.of(x, s).factor
    assert bool(torch.isfinite(factor).all())
    flat = Coordinates.of(x, torch.zeros_like(x))
    assert torch.equal(flat.factor, torch.ones(2))


@pytest.mark.statistical
def test_a_kernel_in_coordinates_leaves_the_law_alone(generator):
    """Exact start, 20,000 chains; the mutant forgets to map back."""
    energy = AsymmetricMixture()
    x = energy.draw(20_000, generator)
    factor = torch.tensor([[1.5, 0.0], [0.7, 0.5]])
    coordinates = Coordinates(torch.tensor([1.0, -2.0]), factor, torch.linalg.inv(factor))
    moved = sample(
        coordinates.energy(energy),
        MALA(0.3),
        coordinates.into(x),
        num_steps=10,
        keep="last",
        seed=generator,
    ).last
    assert_same_law(coordinates.back(moved)[:, 0], energy.cdf)
    assert_different_law(moved[:, 0], energy.cdf)
