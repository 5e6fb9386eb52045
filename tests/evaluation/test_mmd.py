"""MMD: against the definition, its false alarms under the null, planted errors found."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from basin.evaluation.mmd import mmd


def _by_definition(x: Tensor, y: Tensor, bandwidth: float) -> float:
    """The unbiased statistic for one kernel, in three double sums."""

    def k(a: Tensor, b: Tensor) -> Tensor:
        return torch.exp(-torch.cdist(a, b).square() / (2 * bandwidth**2))

    n, m = len(x), len(y)
    xx, yy = k(x, x), k(y, y)
    return float(
        (xx.sum() - xx.trace()) / (n * (n - 1))
        + (yy.sum() - yy.trace()) / (m * (m - 1))
        - 2 * k(x, y).mean()
    )


def _normal(n: int, dim: int, generator: torch.Generator) -> Tensor:
    return torch.randn(n, dim, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("block", [7, 4096])
def test_the_definition(block: int, generator: torch.Generator) -> None:
    x, y = _normal(40, 3, generator), _normal(30, 3, generator) + 0.5
    found = mmd(x, y, generator, bandwidths=(0.5, 2.0), num_permutations=20, block=block)
    median = float(torch.pdist(torch.cat([x, y])).median())
    assert found.details["bandwidth"] == pytest.approx(median)
    truth = sum(_by_definition(x, y, c * median) for c in (0.5, 2.0)) / 2
    assert found.value == pytest.approx(truth, abs=1e-10)


def test_gaussians_in_closed_form(generator: torch.Generator) -> None:
    """E k between N(0, I) and N(m, I): (h²/(h²+2))^{d/2} exp(-m²/(2(h²+2)))."""
    shift, dim = 0.6, 2
    x, y = _normal(2000, dim, generator), _normal(2000, dim, generator)
    x = x + shift / math.sqrt(dim)
    found = mmd(x, y, generator, bandwidths=(1.0,), num_permutations=50)
    square = found.details["bandwidth"] ** 2
    scale = (square / (square + 2)) ** (dim / 2)
    truth = 2 * scale * (1 - math.exp(-(shift**2) / (2 * (square + 2))))
    assert abs(found.value - truth) < 4 * (found.standard_error or 0)
    assert (found.standard_error or 1) < 0.2 * truth
    assert found.p_value == pytest.approx(1 / 51)


def test_the_floor_is_the_value_of_two_halves_of_the_held_out_rows() -> None:
    x, y = (_normal(30, 2, torch.Generator().manual_seed(s)) for s in (1, 2))
    found = mmd(x, y, torch.Generator().manual_seed(3), bandwidths=(1.0,), num_permutations=1)
    replay = torch.Generator().manual_seed(3)
    torch.randperm(60, generator=replay)  # the part that gives the median
    order = torch.randperm(30, generator=replay)
    truth = _by_definition(y[order[:15]], y[order[15:]], found.details["bandwidth"])
    assert found.floor == pytest.approx(truth, abs=1e-10)


def _false_alarms(repetitions: int, generator: torch.Generator) -> int:
    alarms = 0
    for _ in range(repetitions):
        x, y = _normal(60, 2, generator), _normal(50, 2, generator)
        found = mmd(x, y, generator, num_permutations=99)
        alarms += (found.p_value or 0) <= 0.05
    return alarms


def test_false_alarms_quickly(generator: torch.Generator) -> None:
    assert _false_alarms(100, generator) <= 5 + 3.9 * math.sqrt(100 * 0.05 * 0.95)


@pytest.mark.slow
def test_false_alarms_at_five_per_cent(generator: torch.Generator) -> None:
    repetitions = 1000
    spread = math.sqrt(repetitions * 0.05 * 0.95)
    assert abs(_false_alarms(repetitions, generator) - 0.05 * repetitions) < 3.9 * spread


def test_the_biased_statistic_is_a_mutant_that_fails(generator: torch.Generator) -> None:
    """Under the null the unbiased statistic is zero on average; with the diagonals it is not."""
    values, mutants = [], []
    for _ in range(60):
        x, y = _normal(40, 2, generator), _normal(40, 2, generator)
        found = mmd(x, y, generator, bandwidths=(1.0,), num_permutations=2)
        values.append(found.value)
        mutants.append(found.value * 39 / 40 + 2 / 40)
    sample = torch.tensor(values)
    error = float(sample.std()) / math.sqrt(len(values))
    assert abs(float(sample.mean())) < 3.9 * error
    assert abs(float(torch.tensor(mutants).mean())) > 3.9 * error


@pytest.mark.parametrize("fault", ["scale", "shift", "missing mode"])
def test_planted_faults_are_found(fault: str, generator: torch.Generator) -> None:
    data = _normal(500, 2, generator) + 4 * (torch.arange(500) % 2)[:, None]
    fake = _normal(500, 2, generator) + 4 * (torch.arange(500) % 2)[:, None]
    if fault == "scale":
        fake = 1.3 * fake
    elif fault == "shift":
        fake = fake + 0.4
    else:
        fake = _normal(500, 2, generator)
    found = mmd(fake, data, generator, num_permutations=200)
    assert found.p_value == pytest.approx(1 / 201)
    assert found.value > found.details["null_95"]


def test_same_seed_same_value_and_inputs_untouched() -> None:
    x, y = (torch.randn(50, 1, 4, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    copies = x.clone(), y.clone()
    assert mmd(x, y) == mmd(x, y)
    assert torch.equal(x, copies[0])
    assert torch.equal(y, copies[1])


def test_bad_arguments(generator: torch.Generator) -> None:
    x = _normal(10, 2, generator)
    with pytest.raises(ValueError, match=r"x must have shape \(batch, 3\)"):
        mmd(x, _normal(10, 3, generator), generator)
    with pytest.raises(ValueError, match="median distance must be positive"):
        mmd(torch.ones(10, 2), torch.ones(10, 2), generator)
    with pytest.raises(ValueError, match="y must be finite"):
        mmd(x, x * torch.nan, generator)
    with pytest.raises(ValueError, match="two samples and four held-out rows"):
        mmd(x[:1], x, generator)
