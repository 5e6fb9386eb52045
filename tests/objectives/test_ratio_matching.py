"""Ratio matching against sums over every row.

J(θ) = D(θ) + C,    C = sum over pairs of neighbours of p(x) p(y) / (p(x) + p(y))
D(θ) = 1/2 sum_x p(x) sum_y [g(p(x)/p(y)) - g(pθ(x)/pθ(y))]^2 + the same with x and y exchanged
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from basin.core.discrete import energy_drops
from basin.energies import Ising
from basin.objectives import RatioMatching, ratio_matching
from helpers.discrete_laws import Table, neighbours

CASES = [(3, 2), (2, 3)]


def g(u):
    return 1 / (1 + u)


def squared_distance(table: Table, truth: Table) -> Tensor:
    """D, the paper's first definition, in probabilities alone."""
    law = truth.law().detach()
    return 0.5 * sum(
        law[truth.number[x]]
        * (
            (g(truth.ratio(x, y).detach()) - g(table.ratio(x, y))) ** 2
            + (g(truth.ratio(y, x).detach()) - g(table.ratio(y, x))) ** 2
        )
        for x in truth.rows
        for y in neighbours(x, truth.num_states)
    )


def constant(truth: Table) -> Tensor:
    law, number = truth.law().detach(), truth.number
    return 0.5 * sum(
        law[number[x]] * law[number[y]] / (law[number[x]] + law[number[y]])
        for x in truth.rows
        for y in neighbours(x, truth.num_states)
    )


def expected(function, table: Table, truth: Table) -> Tensor:
    loss = function(table, table.tensor(), num_states=table.num_states)
    return (truth.law().detach() * loss).sum()


def flipped(energy, x, *, num_states):
    """Mutant: g of the inverse ratio."""
    return torch.sigmoid(-energy_drops(energy, x, num_states)).square().flatten(1).sum(1)


def not_squared(energy, x, *, num_states):
    """Mutant: the square left out, which is no proper comparison."""
    return torch.sigmoid(energy_drops(energy, x, num_states)).flatten(1).sum(1)


def matches(function, d, k) -> bool:
    table, truth = Table(d, k, seed=1), Table(d, k, seed=2)
    found, distance = expected(function, table, truth), squared_distance(table, truth)
    gradients = [torch.autograd.grad(v, table.values)[0] for v in (found, distance)]
    is_equal = torch.allclose(found, distance + constant(truth), rtol=1e-12)
    return is_equal and torch.allclose(*gradients, atol=1e-12)


@pytest.mark.parametrize(("d", "k"), CASES)
def test_it_is_the_squared_distance_of_bounded_ratios(d, k):
    assert matches(ratio_matching, d, k)


@pytest.mark.parametrize(("d", "k"), CASES)
@pytest.mark.parametrize("mutant", [flipped, not_squared])
def test_mutants_are_not(mutant, d, k):
    assert not matches(mutant, d, k)


@pytest.mark.parametrize(("d", "k"), CASES)
def test_the_optimum_is_the_law_of_the_data(d, k):
    truth = Table(d, k, seed=2)
    table = Table(d, k).set_law(truth.law().detach())
    best = expected(ratio_matching, table, truth)
    (gradient,) = torch.autograd.grad(best, table.values)
    assert gradient.abs().max() < 1e-12
    assert float(best.detach()) == pytest.approx(float(constant(truth)))
    (gradient,) = torch.autograd.grad(expected(not_squared, table, truth), table.values)
    assert gradient.abs().max() > 1e-3  # the mutant has another optimum


def test_it_is_bounded_however_wrong_the_model():
    far = Ising(3, fields=200.0)
    x = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    torch.testing.assert_close(ratio_matching(far, x).detach(), torch.tensor([3.0, 0.0]))


@pytest.mark.statistical
@pytest.mark.parametrize(("d", "k"), CASES)
def test_some_coordinates_stand_for_all(d, k):
    table, x = Table(d, k), Table(d, k).draw(16)
    objective = RatioMatching(k, num_coordinates=1)
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([objective(table, x, None, generator).value.detach() for _ in range(400)])
    whole = ratio_matching(table, x, num_states=k).mean().detach()
    error = draws.std() / math.sqrt(len(draws))
    assert (draws.mean() - whole).abs() < 3.9 * error
    assert (draws.mean() / d - whole).abs() > 3.9 * error


@pytest.mark.statistical
def test_its_mean_over_draws_converges_to_the_sum():
    table, truth = Table(3, 2, seed=1), Table(3, 2, seed=2)
    loss = ratio_matching(table, truth.draw(20_000)).detach()
    error = loss.std() / math.sqrt(len(loss))
    true = (squared_distance(table, truth) + constant(truth)).detach()
    assert (loss.mean() - true).abs() < 3.9 * error
    assert (loss.mean() - squared_distance(table, truth).detach()).abs() > 3.9 * error


def test_a_flat_energy_loses_what_is_called_trivial():
    objective, x = RatioMatching(3), Table(2, 3).tensor()
    flat = Table(2, 3).set_law(torch.full((9,), 1 / 9).double())
    loss = objective(flat, x, objective.init(x, torch.Generator()), torch.Generator())
    assert float(loss.value.detach()) == float(loss.terms["trivial"]) == 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(num_states=0), "num_states must be a whole number of at least 2, got 0"),
        (dict(num_coordinates=-1), "num_coordinates must be a positive whole number, got -1"),
    ],
)
def test_a_bad_parameter_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        RatioMatching(**options)
