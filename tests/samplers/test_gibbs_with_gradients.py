"""Gibbs with gradients: the proposal by hand, the transition matrix, exact start, mutants."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from basin.core.discrete import (
    draw_states,
    energies_of_all_states,
    energy_drops,
    state_numbers,
    states,
)
from basin.energies import (
    BoltzmannMachine,
    CategoricalMLP,
    Ising,
    Potts,
    RestrictedBoltzmannMachine,
    Tempered,
)
from basin.samplers import GibbsWithGradients, estimated_energy_drops, gibbs_with_gradients
from basin.sampling.run import sample
from helpers.statistics import THRESHOLD, assert_different_law, assert_same_law

NUM_CHAINS = 20_000
COUPLINGS = [[0.0, 0.7, -0.3], [0.7, 0.0, 0.4], [-0.3, 0.4, 0.0]]


def rbm():
    energy = RestrictedBoltzmannMachine(3, num_hidden=4)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in energy.parameters():
            parameter.copy_(2 * torch.randn(parameter.shape, generator=generator))
    return energy


def network(num_states, scale=6.0):
    energy = CategoricalMLP(3, num_states=num_states, hidden=(8,))
    with torch.no_grad():
        energy.output.weight.mul_(scale)
    return energy


MODELS = {
    "ising": lambda: Ising(3, COUPLINGS, [0.3, -0.4, 0.2]),
    "boltzmann machine": lambda: BoltzmannMachine(3, COUPLINGS, [0.3, -0.4, 0.2]),
    "potts": lambda: Potts(3, 3, COUPLINGS, [[0.5, 0.0], [-0.3, 0.2], [0.1, 0.4]]),
    "rbm": rbm,
    "binary network": lambda: network(2),
    "network of three states": lambda: network(3),
}


def law_of(energy):
    k = energy.num_states
    return torch.softmax(-energies_of_all_states(energy, energy.event_shape, k), 0)


# --- the proposal --------------------------------------------------------------------------------


class Curved(nn.Module):
    """E(x) = x_1^2 + 3 x_1 x_2 - x_2, on two binary units: the gradient is not the difference."""

    def forward(self, x):
        return x[:, 0].square() + 3 * x[:, 0] * x[:, 1] - x[:, 1]


def test_the_binary_proposal_against_a_table_by_hand():
    """dE/dx = (2 x_1 + 3 x_2, 3 x_1 - 1); d_i = -(1 - 2 x_i) dE/dx_i; q_1 = sigmoid((d_1 - d_2)/2).

    x       dE/dx      d            q of flipping x_1
    0 0     0   -1     ( 0,  1)     sigmoid(-1/2)
    0 1     3   -1     (-3, -1)     sigmoid(-1)
    1 0     2    2     ( 2, -2)     sigmoid(2)
    1 1     5    2     ( 5,  2)     sigmoid(3/2)
    """
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    energies, drops = estimated_energy_drops(Curved(), x, 2)
    assert energies.tolist() == [0.0, -1.0, 1.0, 3.0]
    assert drops.squeeze(-1).tolist() == [[0.0, 1.0], [-3.0, -1.0], [2.0, -2.0], [5.0, 2.0]]
    state = GibbsWithGradients().init(Curved(), x, torch.Generator())
    expected = [1 / (1 + math.exp(-a)) for a in (-0.5, -1.0, 2.0, 1.5)]
    torch.testing.assert_close(state.log_proposal[:, 0].exp(), torch.tensor(expected))
    torch.testing.assert_close(state.log_proposal.exp().sum(1), torch.ones(4))
    flipped = x.clone()
    flipped[:, 0] = 1 - flipped[:, 0]
    true = Curved()(x) - Curved()(flipped)
    assert not torch.allclose(drops[:, 0, 0], true)  # an estimate: x_1^2 bends


class Squares(nn.Module):
    """One unit of three states with energies 0, 1/2, 2 and, between them, o_1^2 / 2 + 2 o_2."""

    num_states = 3

    def forward(self, x):
        return 0.5 * x[:, 0].square()

    def of_one_hot(self, rows):
        return rows[:, 0, 1].square() / 2 + 2 * rows[:, 0, 2]


def test_the_categorical_proposal_against_a_table_by_hand():
    """-dE/do = (0, -o_1, -2): at x = 0 (0, 0, -2), at x = 1 (0, -1, -2), at x = 2 (0, 0, -2).

    x    neighbours    d
    0    1, 2          0 - 0 = 0,  -2 - 0 = -2
    1    2, 0          -2 + 1 = -1,  0 + 1 = 1
    2    0, 1          0 + 2 = 2,  0 + 2 = 2
    """
    x = torch.tensor([[0.0], [1.0], [2.0]])
    energies, drops = estimated_energy_drops(Squares(), x, 3)
    assert energies.tolist() == [0.0, 0.5, 2.0]
    assert drops.squeeze(1).tolist() == [[0.0, -2.0], [-1.0, 1.0], [2.0, 2.0]]
    state = GibbsWithGradients(3).init(Squares(), x, torch.Generator())
    e = math.e
    expected = [[e / (1 + e), 1 / (1 + e)], [1 / (1 + e), e / (1 + e)], [0.5, 0.5]]
    torch.testing.assert_close(state.log_proposal.exp(), torch.tensor(expected))


@pytest.mark.parametrize("name", ["ising", "boltzmann machine", "potts"])
def test_the_estimate_is_exact_where_the_energy_is_linear_in_each_coordinate(name):
    energy = MODELS[name]().double()
    k = energy.num_states
    every = states(0, k**3, 3, k).double()
    exact = energy_drops(energy, every, k).detach()
    torch.testing.assert_close(estimated_energy_drops(energy, every, k)[1], exact)
    curved = network(k).double()
    estimate = estimated_energy_drops(curved, every, k)[1]
    assert not torch.allclose(estimate, energy_drops(curved, every, k).detach(), atol=0.01)


def test_a_step_back_undoes_a_step():
    x = states(0, 81, 4, 3).float()
    for move in range(8):
        there, way_back = gibbs_with_gradients._moved(x, torch.full((81,), move), 3)
        assert ((there != x).sum(1) == 1).all()
        assert torch.equal(gibbs_with_gradients._moved(there, way_back, 3)[0], x)


# --- the law -------------------------------------------------------------------------------------


def transition_matrix(energy, monkeypatch):
    """P(x -> y) from the kernel's own proposals and acceptance probabilities, ``[K^d, K^d]``."""
    k, d = energy.num_states, energy.event_shape[0]
    kernel, generator = GibbsWithGradients(k), torch.Generator().manual_seed(0)
    every = states(0, k**d, d, k).double()
    start = kernel.init(energy, every, generator)
    here = torch.arange(k**d)
    matrix = torch.zeros(k**d, k**d, dtype=torch.float64)
    for move in range(d * (k - 1)):
        chosen = torch.full((k**d,), move)
        monkeypatch.setattr(gibbs_with_gradients, "categorical_draw", lambda *_, c=chosen: c)
        _, info = kernel.step(energy, start, generator)
        there = state_numbers(gibbs_with_gradients._moved(every, chosen, k)[0], k)
        matrix[here, there] += start.log_proposal[:, move].exp() * info.acceptance_probability
    monkeypatch.undo()
    matrix[here, here] += 1 - matrix.sum(1)
    return matrix


@pytest.mark.parametrize("name", MODELS)
def test_detailed_balance_is_exact(name, monkeypatch):
    energy = MODELS[name]().double()
    law = law_of(energy)
    matrix = transition_matrix(energy, monkeypatch)
    flow = law[:, None] * matrix
    assert (matrix >= 0).all()
    torch.testing.assert_close(flow, flow.T)
    spread = torch.matrix_power(matrix, 4000)  # and it forgets where it began
    torch.testing.assert_close(spread, law.expand_as(spread), rtol=1e-5, atol=1e-8)


def test_without_its_correction_balance_is_broken(monkeypatch):
    """The mutant of the test above."""
    energy = MODELS["rbm"]().double()
    monkeypatch.setattr(gibbs_with_gradients, "_entry", lambda log_proposal, move: 0.0)
    matrix = transition_matrix_with(energy, monkeypatch)
    flow = law_of(energy)[:, None] * matrix
    assert not torch.allclose(flow, flow.T, atol=1e-4)


def transition_matrix_with(energy, monkeypatch):
    """The same without undoing what was patched before."""
    with monkeypatch.context() as inner:
        return transition_matrix(energy, inner)


def p_value(name, num_steps=12):
    energy = MODELS[name]()
    k = energy.num_states
    generator = torch.Generator().manual_seed(20210109)
    law = law_of(energy)
    start = draw_states(-law.log(), NUM_CHAINS, (3,), k, generator)
    kernel = GibbsWithGradients(k)
    chains = sample(energy, kernel, start, num_steps=num_steps, seed=generator, keep="last")
    seen = torch.bincount(state_numbers(chains.last, k), minlength=k**3).numpy()
    assert chains.acceptance_rate > 0.05
    return stats.chisquare(seen, (NUM_CHAINS * law).numpy()).pvalue


@pytest.mark.statistical
@pytest.mark.parametrize("name", MODELS)
def test_exact_start_stays_exact(name):
    assert p_value(name) > THRESHOLD


_entry, _metropolis = gibbs_with_gradients._entry, gibbs_with_gradients.metropolis
MUTANTS = {
    "no Metropolis correction": (
        "metropolis",
        lambda ratio, generator: _metropolis(torch.zeros_like(ratio), generator),
    ),
    "no reverse proposal": ("_entry", lambda log_proposal, move: 0.0),
    "proposal ratio reversed": ("_entry", lambda *arguments: -_entry(*arguments)),
    "ratio of the whole reversed": (
        "metropolis",
        lambda ratio, generator: _metropolis(-ratio, generator),
    ),
}


@pytest.mark.statistical
@pytest.mark.parametrize("mutant", MUTANTS)
@pytest.mark.parametrize("name", ["ising", "potts", "rbm", "network of three states"])
def test_mutants_move_the_law(name, mutant, monkeypatch):
    monkeypatch.setattr(gibbs_with_gradients, *MUTANTS[mutant])
    assert p_value(name) < THRESHOLD


@pytest.mark.statistical
def test_a_statistic_of_a_larger_lattice_keeps_its_law():
    """The number of ones of 4 x 4 spins, plus a uniform number: a continuous law."""
    from basin.datasets import IsingLattice

    lattice = IsingLattice(4, coupling=0.35, field=0.05)
    energy = Ising(16, lattice.couplings, lattice.field)
    generator = torch.Generator().manual_seed(1)
    start = lattice.sample(NUM_CHAINS, generator)
    ones = states(0, 2**16, 16, 2).sum(1)
    law = torch.zeros(17).double().index_add(0, ones, lattice.log_probabilities.exp())
    cumulative = torch.cat([torch.zeros(1).double(), law.cumsum(0)]).numpy()

    def cdf(v):  # of the number of ones plus a uniform number
        return np.interp(v, np.arange(18), cumulative)

    def smeared(model):
        chains = sample(model, GibbsWithGradients(), start, num_steps=20, seed=2, keep="last")
        return chains.last.sum(1) + torch.rand(NUM_CHAINS, generator=generator)

    assert_same_law(smeared(energy), cdf)
    assert_different_law(smeared(Ising(16, 0.7 * lattice.couplings, 0.05)), cdf)


# --- the rest ------------------------------------------------------------------------------------


def test_one_energy_call_a_step_and_one_change_at_most():
    calls = []

    def counted(x):
        calls.append(len(x))
        return -(x * x.roll(1, 1)).sum(1)

    start = torch.ones(7, 5)
    positions = sample(counted, GibbsWithGradients(), start, num_steps=10).positions
    assert calls == [7] * 11  # one at the start, one for each proposal
    assert ((positions[:, 1:] != positions[:, :-1]).sum(-1) <= 1).all()


def test_state_holds_energy_and_proposal_of_its_position():
    energy, kernel = rbm(), GibbsWithGradients()
    generator = torch.Generator().manual_seed(0)
    state = kernel.init(energy, energy.sample_base(200, generator), generator)
    for _ in range(5):
        state, _ = kernel.step(energy, state, generator)
    fresh = kernel.init(energy, state.position, generator)
    torch.testing.assert_close(state, fresh)


def test_energies_around_others_are_looked_through():
    for make, k in ((MODELS["ising"], 2), (MODELS["potts"], 3)):
        energy = make()
        x = states(0, k**3, 3, k).float()
        plain = estimated_energy_drops(energy, x, k)
        hot = estimated_energy_drops(Tempered(energy, 4.0), x, k)
        for one, other in zip(plain, hot, strict=True):
            torch.testing.assert_close(one / 4, other)


def test_images_and_seeds():
    energy = CategoricalMLP((1, 2, 2), num_states=3, hidden=(8,))
    kernel = GibbsWithGradients(3)
    first, again, other = (
        sample(energy, kernel, 20, num_steps=9, seed=seed).positions for seed in (1, 1, 2)
    )
    assert first.shape == (20, 9, 1, 2, 2)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert sorted(first.unique().tolist()) == [0.0, 1.0, 2.0]


@pytest.mark.filterwarnings("ignore::basin.sampling.chains.DivergenceWarning")
def test_a_proposal_that_is_not_finite_is_rejected_and_counted():
    def wall(x):
        return torch.where(x[:, 0] > 0, math.nan * x[:, 0], x.sum(1))

    chains = sample(wall, GibbsWithGradients(), torch.zeros(200, 2), num_steps=10)
    assert (chains.positions[..., 0] == 0).all()
    assert chains.num_divergent == int(chains.info["is_divergent"].sum()) > 0
    assert not (chains.info["is_divergent"] & chains.info["is_accepted"]).any()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GibbsWithGradients(0), "num_states must be a whole number of at least 2, got 0"),
        (
            lambda: sample(Potts(2, 4), GibbsWithGradients(3), torch.zeros(1, 2), num_steps=1),
            "num_states must be that of Potts, 4, got 3",
        ),
        (
            lambda: sample(
                lambda x: x.sum(1), GibbsWithGradients(3), torch.zeros(1, 2), num_steps=1
            ),
            r"needs an energy of one-hot rows for 3 states, got function .*take Gibbs",
        ),
    ],
)
def test_refuses_bad_settings(make, words):
    with pytest.raises(ValueError, match=words):
        make()
