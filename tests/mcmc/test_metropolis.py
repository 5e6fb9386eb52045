"""The accept step: right frequencies, and nothing non-finite accepted or hidden."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from basin.mcmc.metropolis import metropolis, select


@pytest.mark.parametrize("log_acceptance", [-3.0, -0.5, 0.0, 2.0])
def test_accepts_with_the_stated_probability(log_acceptance, generator):
    n = 100_000
    decision = metropolis(torch.full((n,), log_acceptance), generator)
    probability = min(1.0, math.exp(log_acceptance))
    assert torch.allclose(decision.acceptance_probability, torch.tensor(probability))
    count = int(decision.is_accepted.sum())
    assert stats.binomtest(count, n, probability).pvalue > 1e-4
    assert not decision.is_divergent.any()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_rejected_and_counted(bad, generator):
    decision = metropolis(torch.tensor([bad, 0.0]), generator)
    assert decision.is_divergent.tolist() == [True, False]
    assert decision.is_accepted.tolist() == [False, True]
    assert decision.acceptance_probability.tolist() == [0.0, 1.0]


def test_select_takes_whole_rows_and_no_nan_from_the_other_side():
    mask = torch.tensor([True, False])
    accepted = torch.tensor([[1.0, 1.0], [math.nan, math.nan]])
    rejected = torch.tensor([[math.nan, 2.0], [3.0, 4.0]])
    assert select(mask, accepted, rejected).tolist() == [[1.0, 1.0], [3.0, 4.0]]
