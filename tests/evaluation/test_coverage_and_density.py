"""Coverage and density: their means for a perfect model in closed form, modes lost and squeezed."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import kstest

from basin.evaluation import coverage, density_of_samples
from helpers.statistics import THRESHOLD


def normal(n, dim, generator):
    return torch.randn(n, dim, generator=generator, dtype=torch.float64)


def test_the_definition_on_a_line(generator):
    """k = 1, data 0, 1, 10: radii 1, 1, 9."""
    data = torch.tensor([[0.0], [1.0], [10.0]])
    samples = torch.tensor([[-0.5], [5.0], [30.0]])
    # 0 and 10 are covered; -0.5 is in one ball, 5 in one, 30 in none.
    assert coverage(samples, data, generator, k=1, num_permutations=1).value == 2 / 3
    assert density_of_samples(samples, data, generator, k=1, num_permutations=1).value == 2 / 3


@pytest.mark.parametrize(("dim", "n", "m", "k"), [(1, 20, 30, 3), (3, 30, 15, 5)])
@pytest.mark.parametrize("check", [coverage, density_of_samples])
def test_the_floor_is_the_mean_of_a_perfect_model(check, dim, n, m, k, generator):
    found = [
        check(normal(n, dim, generator), normal(m, dim, generator), k=k, num_permutations=1)
        for _ in range(300)
    ]
    values = torch.tensor([one.value for one in found])
    error = 3.9 * float(values.std()) / math.sqrt(len(values))
    assert abs(float(values.mean()) - found[0].floor) < error
    if check is coverage:  # the mutant: the row itself among its neighbours
        mutant = 1 - math.prod((m - j) / (n + m - j) for j in range(k))
        assert abs(float(values.mean()) - mutant) > error or abs(mutant - found[0].floor) < error


def test_the_floor_of_coverage_in_numbers():
    """n = m = 2, k = 1: uncovered when the nearest of 3 others is the one held-out row."""
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.4], [5.0]])
    assert coverage(x, y, k=1, num_permutations=1).floor == pytest.approx(2 / 3)


def test_a_lost_mode_lowers_the_coverage_alone(generator):
    data = normal(300, 2, generator) + 8 * (torch.arange(300) % 2)[:, None]
    samples = normal(300, 2, generator)
    found = coverage(samples, data, generator, num_permutations=99)
    assert abs(found.value - 0.5) < 0.05
    assert found.p_value == 0.01
    assert density_of_samples(samples, data, generator, num_permutations=99).p_value > 0.01


def test_density_sees_samples_that_stray_and_coverage_those_that_crowd(generator):
    data, samples = normal(300, 2, generator), normal(300, 2, generator)
    astray = density_of_samples(2 * samples, data, generator, num_permutations=99)
    assert astray.value < 0.8
    assert astray.p_value == 0.01
    assert density_of_samples(0.3 * samples, data, generator, num_permutations=99).p_value > 0.01
    assert coverage(0.3 * samples, data, generator, num_permutations=99).p_value == 0.01


@pytest.mark.parametrize("check", [coverage, density_of_samples])
def test_p_values_are_uniform_under_the_null(check, generator):
    found = []
    for _ in range(100):
        x, y = normal(25, 2, generator), normal(20, 2, generator)
        p = check(x, y, generator, num_permutations=29).p_value
        found.append(p - float(torch.rand((), generator=generator)) / 30)
    assert kstest(found, "uniform").pvalue > THRESHOLD
