"""Precision and recall: nested balls by their volumes, lost modes, p-values under the null."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import kstest

from basin.evaluation import precision, recall
from helpers.statistics import THRESHOLD


def normal(n, dim, generator):
    return torch.randn(n, dim, generator=generator, dtype=torch.float64)


def in_a_ball(n, radius, generator, dim=2):
    direction = torch.nn.functional.normalize(normal(n, dim, generator), dim=1)
    share = torch.rand(n, 1, generator=generator, dtype=torch.float64)
    return radius * share ** (1 / dim) * direction


def test_the_definition_on_a_line(generator):
    """k = 1, data 0, 1, 10: radii 1, 1, 9; samples -0.5, 5, 30, 30.5: radii 5.5, 5.5, 0.5, 0.5."""
    data = torch.tensor([[0.0], [1.0], [10.0]])
    samples = torch.tensor([[-0.5], [5.0], [30.0], [30.5]])
    found = precision(samples, data, generator, k=1, num_permutations=1)
    assert found.value == 2 / 4  # -0.5 is within 1 of 0, 5 within 9 of 10
    assert recall(samples, data, generator, k=1, num_permutations=1).value == 1.0
    far = torch.tensor([[5.0], [5.5], [30.0], [30.5]])
    assert recall(far, data, generator, k=1, num_permutations=1).value == 0.0


@pytest.mark.parametrize("data_are_inside", [True, False])
def test_nested_balls(data_are_inside, generator):
    """Uniform in discs of radius 1 and 2: of the wide set a quarter lies in the narrow one's."""
    narrow, wide = in_a_ball(600, 1.0, generator), in_a_ball(600, 2.0, generator)
    if data_are_inside:
        of_wide, of_narrow, rows = precision, recall, (wide, narrow)
    else:
        of_wide, of_narrow, rows = recall, precision, (narrow, wide)
    quarter = of_wide(*rows, generator, num_permutations=19)
    whole = of_narrow(*rows, generator, num_permutations=1)
    # Balls reach over the edge by a radius of about √(3 / 600): (1 + 0.07)² / 4 at most.
    error = math.sqrt(0.25 * 0.75 / 600)
    assert 0.25 - 3.9 * error < quarter.value < (1 + math.sqrt(3 / 600)) ** 2 / 4 + 3.9 * error
    assert whole.value > 0.95
    assert quarter.p_value == 0.05


def test_a_lost_mode_lowers_the_recall_alone(generator):
    data = normal(300, 2, generator) + 8 * (torch.arange(300) % 2)[:, None]
    samples = normal(300, 2, generator)
    found = recall(samples, data, generator, num_permutations=99)
    assert 0.4 < found.value < 0.55
    assert found.p_value == 0.01
    assert precision(samples, data, generator, num_permutations=99).p_value > 0.01


def test_samples_beside_the_data_lower_the_precision_alone(generator):
    """The other mutant of swapping the two."""
    samples = normal(300, 2, generator) + 8 * (torch.arange(300) % 2)[:, None]
    data = normal(300, 2, generator)
    assert precision(samples, data, generator, num_permutations=99).p_value == 0.01
    assert recall(samples, data, generator, num_permutations=99).p_value > 0.01


@pytest.mark.parametrize("check", [precision, recall])
def test_p_values_are_uniform_under_the_null(check, generator):
    found = []
    for _ in range(100):
        x, y = normal(25, 2, generator), normal(20, 2, generator)
        p = check(x, y, generator, num_permutations=29).p_value
        found.append(p - float(torch.rand((), generator=generator)) / 30)
    assert kstest(found, "uniform").pvalue > THRESHOLD


@pytest.mark.parametrize("check", [precision, recall])
def test_the_floor_is_what_a_perfect_model_gets(check, generator):
    gaps = []
    for _ in range(60):
        x, y = normal(40, 2, generator), normal(40, 2, generator)
        found = check(x, y, generator, num_permutations=20)
        gaps.append(found.value - found.floor)
    gap = torch.tensor(gaps)
    assert abs(float(gap.mean())) < 3.9 * float(gap.std()) / math.sqrt(len(gaps))
    second = normal(40, 2, generator)
    found = check(x + 9, y, generator, num_permutations=1, second_held_out=second)
    assert found.value == 0
    assert found.floor == check(second, y, generator, num_permutations=1).value > 0.5


def test_bad_arguments(generator):
    x = normal(10, 2, generator)
    with pytest.raises(ValueError, match="k must be a positive whole number"):
        precision(x, x, generator, k=0)
    with pytest.raises(ValueError, match="11 rows or more each, got 10 and 10"):
        recall(x, x, generator, k=10)
