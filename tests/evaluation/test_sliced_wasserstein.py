"""Sliced Wasserstein: one dimension by SciPy, Gaussians in closed form, p-values, its error."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import kstest, wasserstein_distance

from basin.evaluation import sliced_wasserstein
from helpers.statistics import THRESHOLD


def normal(n, dim, generator):
    return torch.randn(n, dim, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("m", [12, 30, 41])
def test_one_dimension_is_the_wasserstein_distance(m, generator):
    x, y = normal(30, 1, generator), normal(m, 1, generator) + 0.4
    found = sliced_wasserstein(x, y, generator, order=1, num_permutations=1)
    assert found.value == pytest.approx(wasserstein_distance(x[:, 0], y[:, 0]))
    assert found.details["num_directions"] == 1


def test_order_two_in_one_dimension_pairs_sorted_rows(generator):
    x, y = normal(30, 1, generator), 2 * normal(30, 1, generator)
    found = sliced_wasserstein(x, y, generator, num_permutations=1)
    sorted_x, sorted_y = x[:, 0].sort().values, y[:, 0].sort().values
    assert found.value == pytest.approx(float((sorted_x - sorted_y).square().mean().sqrt()))
    twice = sliced_wasserstein(x.repeat(2, 1), y, generator, num_permutations=1)
    assert twice.value == pytest.approx(found.value)


def test_a_shifted_gaussian_in_closed_form(generator):
    """W_2 along θ is |θ'm|, whose mean square is |m|² / d."""
    dim, shift = 5, 3.0
    x, y = normal(1000, dim, generator), normal(1000, dim, generator)
    x[:, 0] += shift
    found = sliced_wasserstein(x, y, generator, num_directions=100, num_permutations=2)
    truth = shift / math.sqrt(dim)
    assert abs(found.value - truth) < 3.9 * found.standard_error
    assert found.standard_error < 0.15 * truth
    assert abs(found.value - shift) > 3.9 * found.standard_error  # the mutant: no mean over θ


@pytest.mark.parametrize("order", [1, 2])
def test_the_standard_error_is_the_spread_of_the_values(order, generator):
    found = []
    for _ in range(60):
        x, y = normal(150, 2, generator) + 1, 1.5 * normal(100, 2, generator)
        found.append(sliced_wasserstein(x, y, generator, order=order, num_permutations=2))
    spread = float(torch.tensor([estimate.value for estimate in found]).std())
    stated = sum(estimate.standard_error for estimate in found) / len(found)
    assert 0.7 * spread < stated < 1.4 * spread  # the spread of 60 is known to 9%


def test_p_values_are_uniform_under_the_null(generator):
    found = []
    for _ in range(200):
        x, y = normal(20, 2, generator), normal(15, 2, generator)
        one = sliced_wasserstein(x, y, generator, num_directions=5, num_permutations=99)
        found.append(one.p_value - float(torch.rand((), generator=generator)) / 100)
    assert kstest(found, "uniform").pvalue > THRESHOLD


def test_the_floor_is_what_a_perfect_model_gets(generator):
    perfect = [
        sliced_wasserstein(
            normal(40, 2, generator),
            normal(40, 2, generator),
            generator,
            num_directions=10,
            num_permutations=50,
        )
        for _ in range(40)
    ]
    values = torch.tensor([one.value for one in perfect])
    floors = torch.tensor([one.floor for one in perfect])
    gap = values.square() - floors.square()
    assert abs(float(gap.mean())) < 3.9 * float(gap.std()) / math.sqrt(40)
    x, y, z = (normal(40, 2, generator) for _ in range(3))
    found = sliced_wasserstein(x + 3, y, torch.Generator().manual_seed(1), second_held_out=z)
    alone = sliced_wasserstein(z, y, torch.Generator().manual_seed(1))
    assert found.floor == pytest.approx(alone.value)
    assert found.details["floor_from"] == "second held-out rows"


def test_planted_faults_are_found(generator):
    x, y = normal(200, 3, generator), normal(200, 3, generator)
    for fake in (1.6 * x, x + 0.6, x * torch.tensor([0.3, 1, 1])):
        found = sliced_wasserstein(fake, y, generator, num_permutations=99)
        assert found.p_value == 0.01
        assert found.value > found.details["null_95"] > found.floor


def test_bad_arguments(generator):
    x = normal(10, 2, generator)
    with pytest.raises(ValueError, match="order must be 1 or 2, got 3"):
        sliced_wasserstein(x, x, generator, order=3)
    with pytest.raises(ValueError, match="num_directions must be a positive whole number"):
        sliced_wasserstein(x, x, generator, num_directions=0)
