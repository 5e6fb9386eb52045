"""Gibbs: its transition matrix, exact start with 20,000 chains, and mutants that must be caught."""

from __future__ import annotations

import itertools

import pytest
import torch
from scipy import stats

from basin.core.discrete import draw_states, energies_of_all_states, state_numbers, states
from basin.energies import BoltzmannMachine, CategoricalMLP, Ising, Potts
from basin.mcmc import gibbs
from basin.mcmc.gibbs import conditional_log_law
from basin.samplers import Gibbs
from basin.sampling.run import sample
from helpers.discrete_laws import Table
from helpers.statistics import THRESHOLD, assert_different_law

NUM_CHAINS = 20_000
COUPLINGS = [[0.0, 0.7, -0.3], [0.7, 0.0, 0.4], [-0.3, 0.4, 0.0]]
MODELS = {
    "ising": lambda: Ising(3, COUPLINGS, [0.3, -0.4, 0.2]),
    "boltzmann machine": lambda: BoltzmannMachine(3, COUPLINGS, [0.3, -0.4, 0.2]),
    "potts": lambda: Potts(3, 3, COUPLINGS, [[0.5, 0.0], [-0.3, 0.2], [0.1, 0.4]]),
    "network": lambda: CategoricalMLP(3, num_states=3, hidden=(8,)),
}
SCANS = ("shuffled", "systematic", "random")


def law_of(energy):
    """p of every state, ``[K^d]``."""
    k = energy.num_states
    return torch.softmax(-energies_of_all_states(energy, energy.event_shape, k), 0)


def coordinate_matrix(energy, coordinate):
    """P(x -> y) of one draw, from the code's own conditional, ``[K^d, K^d]``."""
    k, d = energy.num_states, energy.event_shape[0]
    every = states(0, k**d, d, k).double()
    conditional = conditional_log_law(energy, every, coordinate, k).detach().exp()
    matrix = torch.zeros(k**d, k**d, dtype=torch.float64)
    for value in range(k):
        moved = every.clone()
        moved[:, coordinate] = value
        matrix[torch.arange(k**d), state_numbers(moved, k)] += conditional[:, value]
    return matrix


@pytest.mark.parametrize("name", MODELS)
def test_detailed_balance_is_exact_and_a_sweep_leaves_the_law(name):
    energy = MODELS[name]().double()
    law = law_of(energy)
    parts = [coordinate_matrix(energy, i) for i in range(3)]
    for matrix in (*parts, sum(parts) / 3):  # the last one is a draw of the random scan
        flow = law[:, None] * matrix
        torch.testing.assert_close(matrix.sum(1), torch.ones(len(law)).double())
        torch.testing.assert_close(flow, flow.T)
    for order in itertools.permutations(range(3)):
        sweep = parts[order[0]] @ parts[order[1]] @ parts[order[2]]
        torch.testing.assert_close(law @ sweep, law)
        assert not torch.allclose(law[:, None] * sweep, (law[:, None] * sweep).T)  # not reversible


@pytest.mark.parametrize("name", ["ising", "boltzmann machine", "potts"])
def test_conditionals_in_closed_form_are_those_of_the_energies(name):
    energy = MODELS[name]().double()
    every = states(0, energy.num_states**3, 3, energy.num_states).double()
    for coordinate in range(3):
        closed, summed = (
            conditional_log_law(function, every, coordinate, energy.num_states)
            for function in (energy, lambda x: energy(x))
        )
        torch.testing.assert_close(closed, summed)


def p_value(energy, kernel, num_steps=3, target=None):
    """Of all states, by chi-square: exact draws of ``target`` after some steps on ``energy``."""
    target = energy if target is None else target
    generator = torch.Generator().manual_seed(20210109)
    k, d = target.num_states, target.event_shape[0]
    law = law_of(target)
    start = draw_states(-law.log(), NUM_CHAINS, (d,), k, generator)
    end = sample(energy, kernel, start, num_steps=num_steps, seed=generator, keep="last").last
    seen = torch.bincount(state_numbers(end, k), minlength=k**d).numpy()
    return stats.chisquare(seen, (NUM_CHAINS * law).numpy()).pvalue


@pytest.mark.statistical
@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize("name", MODELS)
def test_exact_start_stays_exact(name, scan):
    energy = MODELS[name]()
    assert p_value(energy, Gibbs(energy.num_states, scan)) > THRESHOLD


def test_any_callable_will_do():
    table = Table(2, 3)
    assert p_value(table.double(), Gibbs(3), num_steps=2) > THRESHOLD


MUTANTS = {
    "the sign turned": lambda law: lambda *arguments: torch.log_softmax(-law(*arguments), 1),
    "one value too far": lambda law: lambda *arguments: law(*arguments).roll(1, 1),
    "hotter": lambda law: lambda *arguments: torch.log_softmax(0.8 * law(*arguments), 1),
    "the others forgotten": lambda law: lambda e, x, *rest: law(e, torch.zeros_like(x), *rest),
}


@pytest.mark.statistical
@pytest.mark.parametrize("mutant", MUTANTS)
@pytest.mark.parametrize("name", ["ising", "potts"])
def test_mutants_move_the_law(name, mutant, monkeypatch):
    monkeypatch.setattr(gibbs, "conditional_log_law", MUTANTS[mutant](conditional_log_law))
    energy = MODELS[name]()
    assert p_value(energy, Gibbs(energy.num_states)) < THRESHOLD


@pytest.mark.statistical
def test_a_statistic_of_a_larger_lattice_keeps_its_law_and_the_test_has_power():
    """The number of ones of 4 x 4 spins, by Kolmogorov-Smirnov with the law by enumeration."""
    from basin.datasets import IsingLattice

    lattice = IsingLattice(4, coupling=0.35, field=0.05)
    energy = Ising(16, lattice.couplings, lattice.field)
    generator = torch.Generator().manual_seed(1)
    start = lattice.sample(NUM_CHAINS, generator)
    end = sample(energy, Gibbs(), start, num_steps=2, seed=generator, keep="last").last
    ones = states(0, 2**16, 16, 2).sum(1)
    law = torch.zeros(17).double().index_add(0, ones, lattice.log_probabilities.exp())
    seen = torch.bincount(end.sum(1).long(), minlength=17).numpy()
    assert stats.chisquare(seen, (NUM_CHAINS * law).numpy()).pvalue > THRESHOLD
    hotter = sample(
        Ising(16, 0.9 * lattice.couplings, 0.05), Gibbs(), start, num_steps=2, keep="last"
    ).last
    cumulative = law.cumsum(0).numpy()
    assert_different_law(hotter.sum(1), lambda n: cumulative[n.astype(int).clip(0, 16)])


def test_orders():
    """The systematic scan meets each coordinate in turn: the last one sees all the new values."""
    generator = torch.Generator().manual_seed(0)
    assert Gibbs(scan="systematic")._order(4, generator).tolist() == [0, 1, 2, 3]
    assert sorted(Gibbs()._order(4, generator).tolist()) == [0, 1, 2, 3]
    assert Gibbs()._order(50, generator).tolist() != list(range(50))
    drawn = Gibbs(scan="random")._order(2000, generator)
    assert 1200 < len(drawn.unique()) < 1330  # 2000 (1 - 1/e) = 1264


def test_a_conditional_that_is_no_law_is_counted_and_the_coordinate_stays():
    def half(x):
        return torch.where(x[:, 0] == 1, torch.nan, 0.0)

    start = torch.zeros(5, 2)
    with pytest.warns(UserWarning, match="diverged"):
        chains = sample(half, Gibbs(), start, num_steps=4)
    assert (chains.positions[..., 0] == 0).all()  # never drawn from nothing
    assert chains.num_divergent == 20
    assert chains.positions[..., 1].unique().tolist() == [0.0, 1.0]


def test_states_that_cannot_be_are_never_drawn():
    def exclusive(x):  # not two ones beside each other
        return torch.where((x[:, :-1] * x[:, 1:]).sum(1) > 0, torch.inf, 0.0)

    chains = sample(exclusive, Gibbs(), torch.zeros(50, 4), num_steps=20)
    assert (chains.positions[..., :-1] * chains.positions[..., 1:]).sum() == 0
    assert chains.num_divergent == 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Gibbs(1), "num_states must be a whole number of at least 2, got 1"),
        (lambda: Gibbs(scan="typewriter"), 'scan must be "shuffled", "systematic" or "random"'),
        (
            lambda: sample(Potts(2, 4), Gibbs(3), torch.zeros(1, 2), num_steps=1),
            "num_states must be that of Potts, 4, got 3",
        ),
    ],
)
def test_refuses_bad_settings(make, words):
    with pytest.raises(ValueError, match=words):
        make()
