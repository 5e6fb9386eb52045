"""Energy distance: its definition, Gaussians in closed form, p-values uniform under the null."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import kstest, norm

from basin.evaluation import energy_distance
from helpers.statistics import THRESHOLD


def normal(n, dim, generator):
    return torch.randn(n, dim, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("block", [7, 1024])
def test_the_definition(block, generator):
    x, y = normal(20, 3, generator), normal(15, 3, generator) + 0.5
    found = energy_distance(x, y, generator, num_permutations=5, block=block)
    within = [torch.cdist(a, a).sum() / (len(a) * (len(a) - 1)) for a in (x, y)]
    truth = 2 * torch.cdist(x, y).mean() - sum(within)
    assert found.value == pytest.approx(float(truth), abs=1e-9)


def truth_in_one_dimension(shift):
    """D² of N(0, 1) and N(m, 1): E|N(m, 2)| has the mean of a folded normal."""
    root = math.sqrt(2)
    folded = 2 / math.sqrt(math.pi) * math.exp(-(shift**2) / 4)
    folded += shift * (1 - 2 * norm.cdf(-shift / root))
    return 2 * (folded - 2 / math.sqrt(math.pi))


def test_gaussians_in_closed_form(generator):
    x, y = normal(1500, 1, generator) + 0.8, normal(1500, 1, generator)
    found = energy_distance(x, y, generator, num_permutations=20)
    truth = truth_in_one_dimension(0.8)
    assert abs(found.value - truth) < 3.9 * found.standard_error
    assert found.standard_error < 0.15 * truth
    # The mutant: the same without the factor 2 before the mean across.
    assert abs(found.value - truth / 2) > 3.9 * found.standard_error


def test_it_equals_twice_the_integral_of_squared_differences(generator):
    """One dimension: 2 ∫ (F - G)² dx is the V-statistic, with the diagonals in."""
    x, y = normal(30, 1, generator), normal(40, 1, generator) + 1
    found = energy_distance(x, y, generator, num_permutations=1)
    with_diagonals = [torch.cdist(a, a).mean() for a in (x, y)]
    v_statistic = float(2 * torch.cdist(x, y).mean() - sum(with_diagonals))
    grid = torch.cat([x, y]).flatten().sort().values
    gap = [(a <= grid[:-1]).double().mean(dim=0) for a in (x, y)]
    integral = 2 * float(((gap[0] - gap[1]).square() * grid.diff()).sum())
    assert v_statistic == pytest.approx(integral)
    assert found.value < v_statistic


def test_p_values_are_uniform_under_the_null(generator):
    found = []
    for _ in range(200):
        x, y = normal(20, 2, generator), normal(15, 2, generator)
        p = energy_distance(x, y, generator, num_permutations=99).p_value
        found.append(p - float(torch.rand((), generator=generator)) / 100)
    assert kstest(found, "uniform").pvalue > THRESHOLD


@pytest.mark.parametrize("fault", ["scale", "shift", "missing mode"])
def test_planted_faults_are_found(fault, generator):
    data = normal(300, 2, generator) + 4 * (torch.arange(300) % 2)[:, None]
    fake = normal(300, 2, generator) + 4 * (torch.arange(300) % 2)[:, None]
    if fault == "scale":
        fake = 1.5 * fake
    fake = fake + 0.8 if fault == "shift" else fake
    fake = normal(300, 2, generator) if fault == "missing mode" else fake
    found = energy_distance(fake, data, generator, num_permutations=199)
    assert found.p_value == 1 / 200
    assert found.value > found.details["null_95"]


def test_same_seed_same_value_and_inputs_untouched():
    x, y = (torch.randn(30, 1, 4, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    copies = x.clone(), y.clone()
    assert energy_distance(x, y) == energy_distance(x, y)
    assert torch.equal(x, copies[0])
    assert torch.equal(y, copies[1])
