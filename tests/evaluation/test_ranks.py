"""The area under the ROC curve against its definition and SciPy's Mann-Whitney test."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from basin.evaluation.ranks import rank_against


@pytest.mark.parametrize("is_tied", [False, True])
def test_against_scipy(is_tied: bool, generator: torch.Generator) -> None:
    a = torch.randn(80, generator=generator, dtype=torch.float64)
    b = torch.randn(60, generator=generator, dtype=torch.float64) + 0.3
    if is_tied:
        a, b = a.round(), b.round()
    found = rank_against(a, b)
    options = {"use_continuity": False, "method": "asymptotic"}
    two = stats.mannwhitneyu(a.numpy(), b.numpy(), alternative="two-sided", **options)
    less = stats.mannwhitneyu(a.numpy(), b.numpy(), alternative="less", **options)
    assert found.area == pytest.approx(1 - two.statistic / (80 * 60))
    assert found.p_value == pytest.approx(two.pvalue)
    assert found.p_value_smaller == pytest.approx(less.pvalue)


def test_the_standard_error_is_the_spread_of_the_area(generator: torch.Generator) -> None:
    areas, errors = [], []
    for _ in range(300):
        found = rank_against(
            torch.randn(50, generator=generator), 2 * torch.randn(40, generator=generator) + 1
        )
        areas.append(found.area)
        errors.append(found.standard_error)
    spread = float(torch.tensor(areas).std())
    assert spread == pytest.approx(sum(errors) / 300, rel=0.2)
    truth = 0.5 * math.erfc(-1 / math.sqrt(5) / math.sqrt(2))
    assert abs(sum(areas) / 300 - truth) < 3.9 * spread / math.sqrt(300)


def test_equal_numbers_everywhere() -> None:
    found = rank_against(torch.ones(5), torch.ones(4))
    assert found.area == 0.5
    assert found.p_value == 1.0


def test_one_number_is_too_few() -> None:
    with pytest.raises(ValueError, match="two numbers or more, got 1 and 4"):
        rank_against(torch.ones(1), torch.ones(4))
