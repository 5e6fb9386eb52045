"""A posterior's energy is a sum over rows, and its stochastic score is unbiased for its score."""

from __future__ import annotations

import math

import pytest
import torch

import basin
from basin.energies import Posterior

ROWS = torch.tensor([[0.5, 1.0], [2.0, -1.0], [0.0, 3.0]], dtype=torch.float64)
X = torch.tensor([[0.3, -0.2], [1.0, 2.0]], dtype=torch.float64)


def prior(x):
    return x.pow(4).sum(dim=1)


def row_energy(x, rows):
    """Logistic regression of the second column on the first, an intercept and a slope."""
    logit = x[:, :1] + x[:, 1:] * rows[..., 0]
    return torch.nn.functional.softplus(logit) - rows[..., 1] * logit


def by_hand(x):
    total = prior(x)
    for row in ROWS:
        logit = x[:, 0] + x[:, 1] * row[0]
        total = total + torch.log1p(logit.exp()) - row[1] * logit
    return total


def test_it_is_the_sum_over_rows():
    posterior = Posterior(prior, row_energy, ROWS)
    torch.testing.assert_close(posterior(X), by_hand(X))
    torch.testing.assert_close(basin.score(posterior, X), basin.score(by_hand, X))


@pytest.mark.statistical
@pytest.mark.parametrize("centre", [None, torch.tensor([0.5, 0.5], dtype=torch.float64)])
def test_the_stochastic_score_is_unbiased(centre, generator):
    posterior, n = Posterior(prior, row_energy, ROWS, centre), 50_000
    x = X[:1].expand(n, 2)
    estimates = posterior.stochastic_score(x, 2, generator)
    truth = basin.score(by_hand, X[:1])[0]
    deviations = (estimates.mean(dim=0) - truth) / estimates.std(dim=0) * math.sqrt(n)
    assert float(deviations.abs().max()) < 4.1  # two coordinates
    mutant = (estimates.mean(dim=0) / 2 - truth) / estimates.std(dim=0) * math.sqrt(n)
    assert float(mutant.abs().max()) > 10  # as if rows were not scaled up


def test_the_control_variate_vanishes_at_its_centre(generator):
    centre = X[0]
    posterior = Posterior(prior, row_energy, ROWS, centre)
    estimates = posterior.stochastic_score(X[:1].expand(20, 2), 1, generator)
    torch.testing.assert_close(estimates, basin.score(by_hand, X[:1]).expand(20, 2))


def test_each_chain_has_its_own_rows(generator):
    estimates = Posterior(prior, row_energy, ROWS).stochastic_score(
        X[:1].expand(50, 2), 1, generator
    )
    assert len({tuple(row.tolist()) for row in estimates}) == len(ROWS)


def test_a_wrong_shape_is_named():
    posterior = Posterior(prior, lambda x, rows: row_energy(x, rows).sum(dim=1), ROWS)
    with pytest.raises(ValueError, match=r"shape \(2, 3\), got \(2,\)"):
        posterior(X)
    with pytest.raises(ValueError, match="rows must be finite"):
        Posterior(prior, row_energy, torch.tensor([[1.0, math.nan]]))
    with pytest.raises(ValueError, match="one at least"):
        Posterior(prior, row_energy, torch.zeros(0, 2))
