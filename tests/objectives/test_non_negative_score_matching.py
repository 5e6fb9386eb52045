"""Non-negative score matching against closed forms on exponential and gamma data.

Gamma(k, rate b) data and E = r x - (q - 1) log x:
    x^2 E'^2 - 4 x E' - 2 x^2 E'' = r^2 x^2 - 2 r (q + 1) x + (q - 1)(q + 1)
with E x = k/b and E x^2 = k (k + 1)/b^2; its minimum -(k + 1) is at r = b, q = k.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

import basin
from basin.core.curvature import score_and_hessian_diagonal
from basin.objectives.exact_score_matching import exact_score_matching
from basin.objectives.non_negative_score_matching import (
    NonNegativeScoreMatching,
    non_negative_score_matching,
)
from helpers.quadratics import standard_errors

SHAPE, RATE = 2.0, 1.5


class Gamma(nn.Module):
    """E = sum rate x - (shape - 1) log x."""

    def __init__(self, shape=SHAPE, rate=RATE):
        super().__init__()
        self.shape = nn.Parameter(torch.tensor(shape).double())
        self.rate = nn.Parameter(torch.tensor(rate).double())

    def forward(self, x):
        return (self.rate * x - (self.shape - 1) * x.log()).flatten(1).sum(1)


def gamma_rows(n, shape=2, rate=RATE, seed=0, dim=1):
    """A whole number of exponential variables in each coordinate."""
    generator = torch.Generator().manual_seed(seed)
    parts = torch.rand(shape, n, dim, generator=generator, dtype=torch.float64)
    return -torch.log1p(-parts).sum(0) / rate


def closed_form(shape, rate, k=SHAPE, b=RATE):
    second = k * (k + 1) / b**2
    return rate**2 * second - 2 * rate * (shape + 1) * k / b + (shape - 1) * (shape + 1)


def unweighted_first(energy, x):
    """Mutant: the boundary term 2 x s with half its weight."""
    s, diagonal = score_and_hessian_diagonal(energy, x)
    return (x.square() * s.square() + 2 * x * s - 2 * x.square() * diagonal).sum(1)


def plus(energy, x):
    """Mutant: + the second derivative of E."""
    s, diagonal = score_and_hessian_diagonal(energy, x)
    return (x.square() * s.square() + 4 * x * s + 2 * x.square() * diagonal).sum(1)


@pytest.mark.statistical
@pytest.mark.parametrize(("shape", "rate"), [(SHAPE, RATE), (1.0, 1.0), (3.0, 0.5), (1.5, 4.0)])
def test_value_is_the_closed_form(shape, rate):
    losses = non_negative_score_matching(Gamma(shape, rate), gamma_rows(200_000))
    assert standard_errors(losses, closed_form(shape, rate)) < 3.9


@pytest.mark.statistical
@pytest.mark.parametrize("mutant", [unweighted_first, plus, exact_score_matching])
def test_mutants_miss_the_closed_form(mutant):
    losses = mutant(Gamma(3.0, 0.5), gamma_rows(200_000))
    assert standard_errors(losses, closed_form(3.0, 0.5)) > 3.9


@pytest.mark.statistical
def test_an_exponential_where_plain_score_matching_is_wrong():
    """E = r x on Exp(b): J = 2 (r/b)^2 - 4 r/b, least at r = b; plain: r^2, least at 0."""
    x = gamma_rows(200_000, shape=1)
    for rate in (0.7, RATE):
        losses = non_negative_score_matching(Gamma(1.0, rate), x)
        assert standard_errors(losses, 2 * (rate / RATE) ** 2 - 4 * rate / RATE) < 3.9
        plain = exact_score_matching(Gamma(1.0, rate), x)
        torch.testing.assert_close(plain, torch.full_like(plain, rate**2))


def mean_gradient(energy, num_probes=None, dim=1, num_batches=200):
    objective = NonNegativeScoreMatching(num_probes)
    generator = torch.Generator().manual_seed(3)
    gradients = []
    for seed in range(num_batches):
        value = objective(energy, gamma_rows(64, seed=seed, dim=dim), None, generator).value
        gradients.append(torch.stack(torch.autograd.grad(value, [energy.shape, energy.rate])))
    values = torch.stack(gradients)
    return values.mean(0), values.std(0) / num_batches**0.5


@pytest.mark.statistical
@pytest.mark.parametrize(("num_probes", "dim"), [(None, 1), (None, 6), (2, 3)])
def test_the_gradient_is_the_closed_forms(num_probes, dim):
    energy = Gamma(1.4, 2.0)
    exact = torch.autograd.grad(closed_form(energy.shape, energy.rate), [energy.shape, energy.rate])
    mean, error = mean_gradient(energy, num_probes, dim)
    assert ((mean - dim * torch.stack(exact)).abs() < 3.9 * error).all()


@pytest.mark.statistical
def test_the_optimum_is_the_data():
    mean, error = mean_gradient(Gamma())
    assert (mean.abs() < 3.9 * error).all()
    away, error = mean_gradient(Gamma(SHAPE, 1.2 * RATE))
    assert (away.abs() > 3.9 * error).any()


def test_units_do_not_matter():
    """x in other units, the energy with them: the same loss, as for log x."""
    energy, x = basin.energies.MLP(3, hidden=(8,)).double(), gamma_rows(20, dim=3)
    scale = torch.tensor([0.01, 1.0, 250.0]).double()
    torch.testing.assert_close(
        non_negative_score_matching(lambda y: energy(y / scale), x * scale),
        non_negative_score_matching(energy, x),
    )


@pytest.mark.statistical
def test_hutchinson_has_the_same_mean():
    energy, x = basin.energies.MLP(3, hidden=(8,)).double(), gamma_rows(1, dim=3)
    estimates = non_negative_score_matching(
        energy, x.expand(50_000, 3), num_probes=1, generator=torch.Generator().manual_seed(1)
    )
    assert standard_errors(estimates, non_negative_score_matching(energy, x).item()) < 3.9


def test_training_learns_a_density_that_does_not_vanish_at_zero():
    """An exponential: the score of a network is -b where there are data, zero included."""
    energy = basin.energies.MLP(1, hidden=(16,), activation="softplus")
    rows = gamma_rows(4000, shape=1, rate=1.0).float()
    basin.fit(energy, rows, NonNegativeScoreMatching(), num_steps=200, batch_size=256)
    found = basin.score(energy, torch.tensor([[0.3], [1.0], [2.0]]))
    assert (found + 1).abs().max() < 0.25


def test_numbers_below_zero_are_refused_and_counted():
    x = gamma_rows(5, dim=2)
    x[3, 1] = -0.25
    with pytest.raises(ValueError, match=r"got -0\.25 \(1 of 5 rows"):
        non_negative_score_matching(Gamma(), x)
    with pytest.raises(ValueError, match="zero or positive"):
        NonNegativeScoreMatching().init(x, torch.Generator())


def test_zero_itself_is_fine():
    energy = basin.energies.MLP(2, hidden=(8,))
    assert torch.equal(non_negative_score_matching(energy, torch.zeros(3, 2)), torch.zeros(3))


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="num_probes"):
        NonNegativeScoreMatching(0)
    with pytest.raises(ValueError, match="generator must be given"):
        non_negative_score_matching(Gamma(), gamma_rows(3), num_probes=1)
