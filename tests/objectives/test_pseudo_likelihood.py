"""Pseudo-likelihood against sums over every row, and its estimate of couplings against its error.

J(θ) = - sum_x p(x) sum_i log pθ(x_i | rest)        least at pθ = p, where it is
       sum_i H(X_i | rest)
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import basin
from basin.core.discrete import energy_drops
from basin.energies import Ising
from basin.objectives import PseudoLikelihood, pseudo_likelihood
from helpers.discrete_laws import Table

CASES = [(3, 2), (2, 3)]


def conditional(law: Tensor, table: Table, row, i) -> Tensor:
    """p(x_i | rest) from a whole law."""
    same_rest = [
        number
        for number, other in enumerate(table.rows)
        if all(a == b for j, (a, b) in enumerate(zip(row, other, strict=True)) if j != i)
    ]
    return law[table.number[row]] / law[same_rest].sum()


def closed_form(table: Table, truth: Tensor) -> Tensor:
    law = table.law()
    return -sum(
        p * sum(conditional(law, table, row, i).log() for i in range(len(row)))
        for p, row in zip(truth, table.rows, strict=True)
    )


def expected(function, table: Table, truth: Tensor) -> Tensor:
    """The loss of every row, weighted by its probability."""
    return (truth * function(table, table.tensor(), num_states=table.num_states)).sum()


def flipped(energy, x, *, num_states):
    """Mutant: E(y) - E(x)."""
    drops = -energy_drops(energy, x, num_states)
    own = torch.zeros_like(drops[..., :1])
    return torch.logsumexp(torch.cat([own, drops], -1), -1).sum(1)


def without_itself(energy, x, *, num_states):
    """Mutant: the row itself left out of the sum over values."""
    return torch.logsumexp(energy_drops(energy, x, num_states), -1).sum(1)


def matches(function, d, k) -> bool:
    table, truth = Table(d, k, seed=1), Table(d, k, seed=2).law().detach()
    found, true = expected(function, table, truth), closed_form(table, truth)
    gradients = [torch.autograd.grad(v, table.values)[0] for v in (found, true)]
    return torch.allclose(found, true, rtol=1e-12) and torch.allclose(*gradients, atol=1e-12)


@pytest.mark.parametrize(("d", "k"), CASES)
def test_value_and_gradient_are_the_closed_form(d, k):
    assert matches(pseudo_likelihood, d, k)


@pytest.mark.parametrize(("d", "k"), CASES)
@pytest.mark.parametrize("mutant", [flipped, without_itself])
def test_mutants_miss_the_closed_form(mutant, d, k):
    assert not matches(mutant, d, k)


@pytest.mark.parametrize(("d", "k"), CASES)
def test_the_optimum_is_the_law_of_the_data(d, k):
    truth = Table(d, k, seed=2).law().detach()
    table = Table(d, k).set_law(truth)
    best = expected(pseudo_likelihood, table, truth)
    (gradient,) = torch.autograd.grad(best, table.values)
    assert gradient.abs().max() < 1e-12
    entropy = -sum(
        p * conditional(truth, table, row, i).log()
        for p, row in zip(truth, table.rows, strict=True)
        for i in range(d)
    )
    assert float(best.detach()) == pytest.approx(float(entropy))
    away = expected(pseudo_likelihood, Table(d, k, seed=5), truth)
    assert away > best + 0.01


@pytest.mark.statistical
@pytest.mark.parametrize(("d", "k"), CASES)
def test_some_coordinates_stand_for_all(d, k):
    """The mean over draws of the coordinates is the whole sum; without its factor it is not."""
    table, x = Table(d, k), Table(d, k).draw(16)
    objective = PseudoLikelihood(k, num_coordinates=1)
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([objective(table, x, None, generator).value.detach() for _ in range(400)])
    whole = pseudo_likelihood(table, x, num_states=k).mean().detach()
    error = draws.std() / math.sqrt(len(draws))
    assert (draws.mean() - whole).abs() < 3.9 * error
    assert (draws.mean() / d - whole).abs() > 3.9 * error


COUPLINGS = torch.tensor(
    [
        [0.0, 0.5, -0.4, 0.0],
        [0.5, 0.0, 0.3, 0.2],
        [-0.4, 0.3, 0.0, -0.1],
        [0.0, 0.2, -0.1, 0.0],
    ]
).double()
FIELDS = torch.tensor([0.3, -0.2, 0.1, 0.0]).double()


def pairs_and_fields(parameters: Tensor):
    """The energy of six couplings and four fields, written out."""
    row, column = torch.triu_indices(4, 4, offset=1)

    def energy(x: Tensor) -> Tensor:
        s = 2 * x - 1
        return -(s[:, row] * s[:, column]) @ parameters[:6] - s @ parameters[6:]

    return energy


def estimate(function, n=20_000):
    """Newton's method on the mean loss; z-scores of all ten parameters by the sandwich formula."""
    truth = Ising(4, COUPLINGS, FIELDS).double()
    x = truth.sample(n, torch.Generator().manual_seed(0)).double()
    true = torch.cat([truth.pair_weights, truth.unit_weights]).detach()
    kinds, seen = x.unique(dim=0, return_counts=True)  # 16 rows stand for all
    share = seen.double() / n

    def loss(parameters: Tensor) -> Tensor:
        return function(pairs_and_fields(parameters), kinds, num_states=2)

    found = torch.zeros_like(true)
    for _ in range(12):
        hessian = torch.autograd.functional.hessian(lambda p: share @ loss(p), found)
        each = torch.autograd.functional.jacobian(loss, found)
        found = found - torch.linalg.solve(hessian, share @ each)
    assert (share @ each).abs().max() < 1e-9
    inverse = torch.linalg.inv(hessian)
    covariance = inverse @ (each.T @ (share[:, None] * each)) @ inverse / n
    return (found - true) / covariance.diagonal().sqrt()


@pytest.mark.statistical
def test_couplings_are_found_within_their_standard_error():
    scores = estimate(pseudo_likelihood)
    assert scores.abs().max() < 3.9
    assert scores.square().sum() / len(scores) > 0.1  # the stated error is not too large either


@pytest.mark.statistical
def test_the_mutant_finds_other_couplings():
    assert estimate(flipped).abs().max() > 3.9


def test_a_flat_energy_loses_what_is_called_trivial():
    objective, x = PseudoLikelihood(3), Table(2, 3).tensor()
    flat = Table(2, 3).set_law(torch.full((9,), 1 / 9).double())
    loss = objective(flat, x, objective.init(x, torch.Generator()), torch.Generator())
    assert float(loss.value.detach()) == pytest.approx(2 * math.log(3))
    assert float(loss.terms["trivial"]) == pytest.approx(2 * math.log(3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(num_states=1), "num_states must be a whole number of at least 2, got 1"),
        (dict(num_coordinates=0), "num_coordinates must be a positive whole number, got 0"),
    ],
)
def test_a_bad_parameter_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        PseudoLikelihood(**options)


def test_rows_that_are_no_states_are_refused_before_the_first_step():
    x = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="x must hold whole numbers from 0 to 1"):
        basin.fit(basin.energies.CategoricalMLP(2), x, PseudoLikelihood(), num_steps=1)


def test_it_learns_a_lattice_through_fit():
    lattice = basin.datasets.IsingLattice(side=2)
    run = basin.fit(
        Ising(4), lattice, PseudoLikelihood(), num_steps=150, batch_size=256, learning_rate=0.03
    )
    found = run.energy.coupling_matrix().detach().double()
    assert (found - lattice.couplings).abs().max() < 0.15
