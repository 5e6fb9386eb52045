"""Concrete score matching against sums over every row.

c(x)_y = p(y)/p(x) - 1       plain       J(θ) = E_p ||cθ - c||^2 - E_p ||c||^2
                             denoising   the same gradient with p_q, the corrupted law, for p
"""

from __future__ import annotations

import importlib
import math

import pytest
import torch
from torch import Tensor

from basin.core.discrete import energy_drops
from basin.objectives import (
    ConcreteScoreMatching,
    concrete_score_matching,
    denoising_concrete_score_matching,
)
from helpers.discrete_laws import Table, corrupted_law, neighbours

CASES = [(3, 2), (2, 3)]
RATE = 0.15


def squared_error(table: Table, law: Tensor) -> Tensor:
    """E_p ||cθ - c||^2 by the definition."""
    number = table.number
    return sum(
        law[number[x]] * (table.ratio(y, x) - law[number[y]] / law[number[x]]) ** 2
        for x in table.rows
        for y in neighbours(x, table.num_states)
    )


def constant(table: Table, law: Tensor) -> Tensor:
    """E_p ||c||^2."""
    number = table.number
    return sum(
        law[number[x]] * (law[number[y]] / law[number[x]] - 1) ** 2
        for x in table.rows
        for y in neighbours(x, table.num_states)
    )


def expected(function, table: Table, law: Tensor) -> Tensor:
    return (law * function(table, table.tensor(), num_states=table.num_states)).sum()


def without_the_cross_term(energy, x, *, num_states):
    """Mutant: the term of the rows whose neighbour x is, dropped: r^2 - 1."""
    return (torch.exp(2 * energy_drops(energy, x, num_states)) - 1).flatten(1).sum(1)


def flipped(energy, x, *, num_states):
    """Mutant: r upside down."""
    drops = -energy_drops(energy, x, num_states)
    return (torch.exp(2 * drops) - 2 * torch.exp(-drops) + 1).flatten(1).sum(1)


def matches(function, d, k) -> bool:
    table, law = Table(d, k, seed=1), Table(d, k, seed=2).law().detach()
    found, error = expected(function, table, law), squared_error(table, law)
    gradients = [torch.autograd.grad(v, table.values)[0] for v in (found, error)]
    is_equal = torch.allclose(found, error - constant(table, law), rtol=1e-12)
    return is_equal and torch.allclose(*gradients, atol=1e-12)


@pytest.mark.parametrize(("d", "k"), CASES)
def test_it_is_the_squared_error_of_the_concrete_score(d, k):
    assert matches(concrete_score_matching, d, k)


@pytest.mark.parametrize(("d", "k"), CASES)
@pytest.mark.parametrize("mutant", [without_the_cross_term, flipped])
def test_mutants_are_not(mutant, d, k):
    assert not matches(mutant, d, k)


@pytest.mark.parametrize(("d", "k"), CASES)
def test_the_optimum_is_the_law_of_the_data(d, k):
    law = Table(d, k, seed=2).law().detach()
    table = Table(d, k).set_law(law)
    best = expected(concrete_score_matching, table, law)
    assert float(best.detach()) == pytest.approx(-float(constant(table, law)))
    (gradient,) = torch.autograd.grad(best, table.values)
    assert gradient.abs().max() < 1e-12
    x = table.tensor()
    hessian = torch.autograd.functional.hessian(
        lambda values: (
            law * concrete_score_matching(table.with_values(values), x, num_states=k)
        ).sum(),
        table.values.detach(),
    )
    curvature = torch.linalg.eigvalsh(hessian)
    assert curvature[0].abs() < 1e-9  # adding a constant to E changes nothing
    assert curvature[1] > 1e-3


def test_without_corruption_it_has_no_lower_bound_on_a_finite_table():
    """Why the default is corrupted: a neighbour that never occurs is rewarded for ever."""
    x = torch.tensor([[0.0]])
    losses = [
        concrete_score_matching(lambda y, h=h: h * y.sum(1), x).item() for h in (1.0, 5.0, 20.0)
    ]
    assert losses[0] > losses[1] > losses[2]
    assert losses[2] < -1e8
    generator = torch.Generator().manual_seed(0)
    many = x.repeat(1000, 1)
    noisy = [
        denoising_concrete_score_matching(
            lambda y, h=h: h * y.sum(1), many, corruption=0.1, generator=generator
        ).mean()
        for h in (0.0, math.log(9), 20.0)
    ]
    assert noisy[1] < noisy[0] < noisy[2]  # least at the corrupted law, p(1)/p(0) = 1/9


def mean_gradient(objective, table: Table, truth: Table, num_batches=200, batch=64):
    """Mean gradient over fresh batches, with its standard error."""
    generator = torch.Generator().manual_seed(3)
    gradients = []
    for seed in range(num_batches):
        loss = objective(table, truth.draw(batch, seed=seed), None, generator)
        gradients.append(torch.autograd.grad(loss.value, table.values)[0])
    values = torch.stack(gradients)
    return values.mean(0), values.std(0) / math.sqrt(num_batches)


def exact_gradient(table: Table, truth: Table) -> Tensor:
    return torch.autograd.grad(squared_error(table, corrupted_law(truth, RATE)), table.values)[0]


VARIANTS = {
    "single draw": dict(posterior_mean=False),
    "posterior mean": dict(posterior_mean=True),
    "posterior mean, one coordinate": dict(posterior_mean=True, num_coordinates=1),
}


@pytest.mark.statistical
@pytest.mark.parametrize(("d", "k"), CASES)
@pytest.mark.parametrize("name", VARIANTS)
def test_denoising_has_the_gradient_of_the_corrupted_law(name, d, k):
    table, truth = Table(d, k, seed=1), Table(d, k, seed=2)
    objective = ConcreteScoreMatching(k, RATE, **VARIANTS[name])
    mean, error = mean_gradient(objective, table, truth)
    assert ((mean - exact_gradient(table, truth)).abs() < 3.9 * error).all()
    of_data = torch.autograd.grad(squared_error(table, truth.law().detach()), table.values)[0]
    assert ((mean - of_data).abs() > 3.9 * error).any()  # it is not about the data themselves


@pytest.mark.statistical
@pytest.mark.parametrize(("d", "k"), CASES)
def test_the_optimum_of_denoising_is_the_corrupted_law(d, k):
    truth = Table(d, k, seed=2)
    table = Table(d, k).set_law(corrupted_law(truth, RATE))
    mean, error = mean_gradient(ConcreteScoreMatching(k, RATE), table, truth)
    assert (mean.abs() < 3.9 * error).all()


def test_averaged_targets_lose_variance():
    table, truth = Table(3, 2, seed=1), Table(3, 2, seed=2)
    averaged, single = (
        mean_gradient(ConcreteScoreMatching(2, RATE, posterior_mean=mean), table, truth)[1]
        for mean in (True, False)
    )
    assert averaged.square().sum() < 0.85 * single.square().sum()


@pytest.mark.statistical
@pytest.mark.parametrize("name", ["upside down", "without the source"])
def test_mutants_of_the_targets_are_caught(name, monkeypatch):
    module = importlib.import_module("basin.objectives.concrete_score_matching")
    right = module._targets

    def upside_down(y, x, corruption, num_states, posterior_mean):
        return 1 / right(y, x, corruption, num_states, False)

    def without_source(y, x, corruption, num_states, posterior_mean):
        """Each corrupted row's own source left out of its reference batch."""
        return torch.cat(
            [
                right(y[i : i + 1], x.roll(-1 - i, 0)[:-1], corruption, num_states, True)
                for i in range(len(y))
            ]
        )

    mutants = {"upside down": upside_down, "without the source": without_source}
    monkeypatch.setattr(module, "_targets", mutants[name])
    table, truth = Table(3, 2, seed=1), Table(3, 2, seed=2)
    mean, error = mean_gradient(ConcreteScoreMatching(2, RATE), table, truth, 200, batch=8)
    assert ((mean - exact_gradient(table, truth)).abs() > 3.9 * error).any()


def test_a_flat_energy_loses_what_is_called_trivial():
    x = Table(2, 3).tensor()
    flat = Table(2, 3).set_law(torch.full((9,), 1 / 9).double())
    objective = ConcreteScoreMatching(3)
    generator = torch.Generator().manual_seed(0)
    loss = objective(flat, x, objective.init(x, generator), generator)
    assert float(loss.value.detach()) == pytest.approx(float(loss.terms["trivial"]))
    plain = ConcreteScoreMatching(3, corruption=0)(flat, x, None, generator)
    assert float(plain.value.detach()) == pytest.approx(0, abs=1e-12)
    assert "trivial" not in plain.terms


def test_it_says_what_it_learns():
    assert "with probability 0.1" in ConcreteScoreMatching(corruption=0.1).explain(None)
    assert "no lower bound" in ConcreteScoreMatching(corruption=0).explain(None)


@pytest.mark.parametrize("corruption", [-0.1, 0.5, 1.0, float("nan")])
def test_a_bad_corruption_is_named(corruption):
    with pytest.raises(ValueError, match=r"corruption must be .*below 0\.5 for 2 states"):
        ConcreteScoreMatching(corruption=corruption)
    with pytest.raises(ValueError, match=r"corruption must be .*below 0\.5 for 2 states"):
        denoising_concrete_score_matching(
            Table(2, 2), torch.zeros(1, 2), corruption=corruption, generator=torch.Generator()
        )


def test_words_are_no_corruption():
    with pytest.raises(TypeError, match="corruption must be a number, got 'much'"):
        ConcreteScoreMatching(corruption="much")
