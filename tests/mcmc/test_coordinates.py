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


@pytest.mark.parametrize("n", [7, 500], ids=["diagonal", "dense"])
@pytest.mark.parametrize("shape", [(3,), (2, 2)])
def test_there_and_back(n, shape, generator):
    x = torch.randn(n, *shape, generator=generator, dtype=torch.float64) * 3 + 1
    coordinates = Coordinates.of(x)
    assert coordinates.factor.ndim == (1 if n == 7 else 2)
    assert torch.allclose(coordinates.back(coordinates.into(x)), x, atol=1e-12)


def test_the_cloud_is_round_in_them_with_its_weights(generator):
    mix = torch.tensor([[2.0, 0.0], [1.9, 0.1]], dtype=torch.float64)
    x = torch.randn(2000, 2, generator=generator, dtype=torch.float64) @ mix.T
    weights = torch.rand(2000, generator=generator, dtype=torch.float64)
    weights = weights / weights.sum()
    y = Coordinates.of(x, weights).into(x)
    covariance = (y * weights[:, None]).T @ y
    assert torch.allclose(covariance, torch.eye(2, dtype=torch.float64), atol=1e-10)


def test_the_score_is_that_of_the_energy_seen(generator):
    energy = AsymmetricMixture()
    coordinates = Coordinates.of(energy.draw(300, generator).double())
    seen = coordinates.energy(energy)
    y = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    by_hand = basin.score(lambda y: seen(y), y)
    assert torch.allclose(basin.score(seen, y), by_hand, atol=1e-10)


def test_a_column_that_never_moves_can_still_move(generator):
    x = torch.randn(100, 2, generator=generator) * torch.tensor([1.0, 0.0])
    factor = Coordinates.of(x).factor
    assert bool(torch.isfinite(factor).all())
    assert bool((torch.atleast_2d(factor).diagonal() > 0).all()) or factor.ndim == 1


@pytest.mark.statistical
def test_a_kernel_in_coordinates_leaves_the_law_alone(generator):
    """Exact start, 20,000 chains; the mutant forgets to map back."""
    energy = AsymmetricMixture()
    x = energy.draw(20_000, generator)
    coordinates = Coordinates(torch.tensor([1.0, -2.0]), torch.tensor([[1.5, 0.0], [0.7, 0.5]]))
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
