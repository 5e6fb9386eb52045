"""Exact Wasserstein: one dimension by sorting, moved sets, Gaussians, p-values, POT missing."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from scipy.stats import kstest, wasserstein_distance

from basin.evaluation import sliced_wasserstein, wasserstein
from helpers.statistics import THRESHOLD

pytest.importorskip("ot", reason="needs the extra 'transport'")


def normal(n, dim, generator):
    return torch.randn(n, dim, generator=generator, dtype=torch.float64)


def test_one_dimension_is_sorting(generator):
    x, y = normal(30, 1, generator), normal(41, 1, generator) + 0.4
    one = wasserstein(x, y, generator, order=1, num_permutations=1)
    assert one.value == pytest.approx(wasserstein_distance(x[:, 0], y[:, 0]))
    two = wasserstein(x, y, generator, num_permutations=1)
    assert two.value == pytest.approx(sliced_wasserstein(x, y, num_permutations=1).value)


@pytest.mark.parametrize("order", [1, 2])
def test_a_moved_set_is_as_far_as_it_was_moved(order, generator):
    x, move = normal(40, 3, generator), torch.tensor([1.0, -2.0, 2.0])
    found = wasserstein(x + move, x, generator, order=order, num_permutations=1)
    assert found.value == pytest.approx(3.0)


def test_gaussians_in_closed_form(generator):
    """W_2² = |m|² + d (s - 1)² between N(0, I) and N(m, s² I), and a bias of the floor's kind."""
    x, y = normal(300, 2, generator), normal(300, 2, generator)
    found = wasserstein(3 * x + 4, y, generator, num_permutations=2)
    truth = math.sqrt(2 * 16 + 2 * 4)
    assert abs(found.value - truth) < 3.9 * found.standard_error
    assert found.standard_error < 0.1 * truth
    # The mutant: the squared distance taken for the distance.
    assert abs(found.value**2 - truth) > 3.9 * found.standard_error


def test_the_standard_error_is_the_spread_of_the_values(generator):
    found = []
    for _ in range(60):
        x, y = normal(60, 2, generator) + 2, 1.5 * normal(50, 2, generator)
        found.append(wasserstein(x, y, generator, num_permutations=2))
    spread = float(torch.tensor([estimate.value for estimate in found]).std())
    stated = sum(estimate.standard_error for estimate in found) / len(found)
    assert 0.7 * spread < stated < 1.4 * spread


def test_p_values_are_uniform_under_the_null(generator):
    found = []
    for _ in range(100):
        x, y = normal(12, 2, generator), normal(10, 2, generator)
        p = wasserstein(x, y, generator, num_permutations=49).p_value
        found.append(p - float(torch.rand((), generator=generator)) / 50)
    assert kstest(found, "uniform").pvalue > THRESHOLD


def test_planted_faults_are_found_and_the_floor_is_of_second_rows(generator):
    x, y, z = (normal(60, 2, generator) for _ in range(3))
    found = wasserstein(x + 1, y, generator, num_permutations=99, second_held_out=z)
    assert found.p_value == 0.01
    assert found.floor == pytest.approx(wasserstein(z, y, generator, num_permutations=1).value)
    assert found.floor < found.value


def test_without_pot_the_error_says_what_to_install(monkeypatch, generator):
    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(ImportError, match=r"pip install 'basin\[transport\]'"):
        wasserstein(normal(5, 2, generator), normal(5, 2, generator))
