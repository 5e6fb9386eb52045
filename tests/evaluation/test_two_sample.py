"""Permuted labels and p-values: uniform under the null, ties included."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import kstest

from basin.evaluation.two_sample import permutation_p_value, permuted_labels, pooled
from helpers.statistics import THRESHOLD


def test_a_permutation_has_the_right_number_of_samples(generator):
    labels = permuted_labels(5, 7, 300, generator)
    assert bool((labels.sum(dim=1) == 5).all())
    share = labels.double().mean(dim=0)
    assert float((share - 5 / 12).abs().max()) < 3.9 * (5 / 12 * 7 / 12 / 300) ** 0.5


def p_values(levels, generator, *, breaks_ties=True):
    """Of statistics that are whole numbers 0 .. levels - 1, uniform ones."""
    found = []
    for _ in range(2000):
        drawn = torch.randint(levels, (100,), generator=generator).double()
        if breaks_ties:
            found.append(permutation_p_value(float(drawn[0]), drawn[1:], generator))
        else:
            found.append(float((drawn >= drawn[0]).double().mean()))
    return found


@pytest.mark.parametrize("levels", [3, 10_000])
def test_p_values_are_uniform(levels, generator):
    # On {1/100, ..., 1}: moved back by a uniform step to be uniform on [0, 1].
    steps = torch.rand(2000, generator=generator).numpy() / 100
    assert kstest(p_values(levels, generator) - steps, "uniform").pvalue > THRESHOLD


def test_counting_all_ties_is_a_mutant_that_fails(generator):
    found = p_values(3, generator, breaks_ties=False)
    assert kstest(found, "uniform").pvalue < THRESHOLD
    assert sum(p <= 0.05 for p in found) == 0


def test_small_values_are_extreme_where_asked_for(generator):
    null = torch.linspace(0, 1, 99).double()
    assert permutation_p_value(-1.0, null, generator, extreme="small") == 0.01
    assert permutation_p_value(-1.0, null, generator) == 1.0


def test_bad_arguments(generator):
    x = torch.randn(5, 2, generator=generator)
    with pytest.raises(ValueError, match=r"samples must have shape \(batch, 2\)"):
        pooled(x[:, :1], x)
    with pytest.raises(ValueError, match="held_out must be finite"):
        pooled(x, x * torch.nan)
    with pytest.raises(ValueError, match="must have 9 rows or more each, got 5 and 5"):
        pooled(x, x, fewest=9)
