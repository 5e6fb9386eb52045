"""Energies of whole numbers: what all share, and each against sums written out."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import torch
from torch import nn

import basin
from basin.core.describe import build, describe
from basin.core.discrete import energies_of_all_states, state_numbers, states
from basin.energies import (
    BoltzmannMachine,
    CategoricalMLP,
    Ising,
    Potts,
    RestrictedBoltzmannMachine,
)
from helpers.statistics import THRESHOLD

COUPLINGS = [[0.0, 0.7, -0.3], [0.7, 0.0, 0.2], [-0.3, 0.2, 0.0]]
FIELDS = [[0.5, 0.0], [-0.3, 0.2], [0.1, 0.4]]
ENERGIES = {
    "ising": lambda **k: Ising(3, COUPLINGS, [0.1, -0.4, 0.3]),
    "boltzmann machine": lambda **k: BoltzmannMachine(3, COUPLINGS, [0.1, -0.4, 0.3]),
    "potts": lambda **k: Potts(3, 3, COUPLINGS, FIELDS),
    "potts of images": lambda **k: Potts((1, 2, 2), 2, 0.5, 0.2),
    "rbm": lambda **k: RestrictedBoltzmannMachine(5, num_hidden=3, **k),
    "rbm with more hidden units": lambda **k: RestrictedBoltzmannMachine(2, num_hidden=6, **k),
    "binary mlp": lambda **k: CategoricalMLP(4, hidden=(8,), **k),
    "mlp": lambda **k: CategoricalMLP(3, num_states=4, hidden=(8, 6), **k),
    "mlp of images": lambda **k: CategoricalMLP((1, 2, 2), num_states=3, hidden=(8,), **k),
}
every_energy = pytest.mark.parametrize("name", ENERGIES)


def all_rows(energy):
    d = math.prod(energy.event_shape)
    every = states(0, energy.num_states**d, d, energy.num_states)
    return every.reshape(-1, *energy.event_shape)


@every_energy
def test_one_energy_a_row_in_either_precision(name):
    energy = ENERGIES[name]()
    x = all_rows(energy)
    single, double = energy(x.float()), energy.double()(x.double())
    assert single.shape == (len(x),)
    torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=1e-5)
    assert torch.isfinite(double).all()


@every_energy
def test_log_z_is_the_sum_over_every_row(name):
    energy = ENERGIES[name]().double()
    with torch.no_grad():
        nn.utils.vector_to_parameters(
            torch.randn(
                sum(p.numel() for p in energy.parameters()),
                generator=torch.Generator().manual_seed(0),
                dtype=torch.float64,
            ),
            energy.parameters(),
        )
        true = math.log(sum(math.exp(-value) for value in energy(all_rows(energy).double())))
    assert energy.log_z == pytest.approx(true, abs=1e-10)


@every_energy
@pytest.mark.statistical
def test_exact_draws(name):
    from scipy import stats

    energy = ENERGIES[name]()
    x = energy.sample(30_000, torch.Generator().manual_seed(0))
    assert x.shape == (30_000, *energy.event_shape)
    law = torch.softmax(-energies_of_all_states(energy, energy.event_shape, energy.num_states), 0)
    seen = torch.bincount(state_numbers(x, energy.num_states), minlength=len(law)).numpy()
    assert stats.chisquare(seen, (30_000 * law).numpy()).pvalue > THRESHOLD


@pytest.mark.statistical
def test_draws_of_another_law_are_told_apart():
    from scipy import stats

    x = Ising(3, COUPLINGS).sample(30_000, torch.Generator().manual_seed(0))
    law = torch.softmax(-energies_of_all_states(Ising(3, 0.5), (3,), 2), 0)
    seen = torch.bincount(state_numbers(x, 2), minlength=8).numpy()
    assert stats.chisquare(seen, (30_000 * law).numpy()).pvalue < THRESHOLD


@every_energy
def test_describes_itself_and_is_built_again(name):
    energy = ENERGIES[name]()
    again = build(json.loads(json.dumps(describe(energy))), [basin.energies])
    x = all_rows(energy).float()
    assert torch.equal(again(x), energy(x))


@every_energy
def test_chains_may_start_from_uniform_rows(name):
    energy = ENERGIES[name]()
    x = energy.sample_base(200, torch.Generator().manual_seed(0))
    assert x.shape == (200, *energy.event_shape)
    assert sorted(x.unique().tolist()) == list(range(energy.num_states))


@every_energy
def test_every_parameter_has_a_gradient_and_none_is_an_output_bias(name):
    energy = ENERGIES[name]()
    values = energy(all_rows(energy).float())
    energy.zero_grad()
    (values[:-1] - values[1:]).square().sum().backward()  # what a constant would not change
    assert all(bool((p.grad != 0).any()) for p in energy.parameters())


@every_energy
def test_rows_of_another_shape_are_refused(name):
    with pytest.raises(ValueError, match="takes x of shape"):
        ENERGIES[name]()(torch.zeros(3, 7))


@pytest.mark.parametrize("name", ["rbm", "binary mlp", "mlp"])
def test_same_seed_same_bits(name):
    def weights(seed):
        return torch.cat([p.flatten() for p in ENERGIES[name](seed=seed).parameters()])

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))
    with pytest.raises(ValueError, match="seed must be a whole number"):
        ENERGIES[name](seed=-1)


@pytest.mark.parametrize("name", ["ising", "boltzmann machine", "rbm", "binary mlp"])
def test_binary_energies_have_a_gradient_in_x(name):
    """Which samplers for whole numbers use to choose the unit to flip."""
    energy = ENERGIES[name]().double()
    x = all_rows(energy).double()
    score = basin.score(lambda y: energy(y), x)
    step = 1e-6
    difference = (energy(x - step * score) - energy(x + step * score)) / (2 * step)
    torch.testing.assert_close(difference.detach(), score.square().sum(1))


# -- each against sums written out -----------------------------------------------------------------


def test_ising_is_the_sum_over_pairs():
    energy, fields = Ising(3, COUPLINGS, [0.1, -0.4, 0.3]).double(), [0.1, -0.4, 0.3]
    for row in itertools.product([0, 1], repeat=3):
        s = [2 * value - 1 for value in row]
        pairs = sum(COUPLINGS[i][j] * s[i] * s[j] for i in range(3) for j in range(i + 1, 3))
        expected = -pairs - sum(h * value for h, value in zip(fields, s, strict=True))
        found = energy(torch.tensor([row], dtype=torch.float64))
        assert float(found.detach()) == pytest.approx(expected, abs=1e-6)
    torch.testing.assert_close(
        energy.coupling_matrix().detach(), torch.tensor(COUPLINGS).double(), atol=1e-6, rtol=0
    )


def test_one_number_is_every_coupling():
    x = states(0, 8, 3, 2).float()
    torch.testing.assert_close(
        Ising(3, 0.5, 0.2)(x), Ising(3, 0.5 * torch.ones(3, 3), [0.2] * 3)(x)
    )


def test_an_open_chain_of_spins_has_the_textbook_log_z():
    """Without a field: log Z = log 2 + (d - 1) log(2 cosh J)."""
    d, coupling = 12, 0.8
    chain = torch.diag(torch.full((d - 1,), coupling), 1)
    energy = Ising(d, chain + chain.T).double()
    expected = math.log(2) + (d - 1) * math.log(2 * math.cosh(coupling))
    assert energy.log_z == pytest.approx(expected, abs=1e-6)


def test_a_boltzmann_machine_is_the_sum_over_pairs_and_an_ising_model_in_other_units():
    """W = 4 J, b_i = 2 h_i - 2 sum_j J_ij, and the constant drops out of exp(-E) / Z."""
    biases = [0.1, -0.4, 0.3]
    energy = BoltzmannMachine(3, COUPLINGS, biases).double()
    for row in itertools.product([0, 1], repeat=3):
        pairs = sum(COUPLINGS[i][j] * row[i] * row[j] for i in range(3) for j in range(i + 1, 3))
        expected = -pairs - sum(b * value for b, value in zip(biases, row, strict=True))
        found = energy(torch.tensor([row], dtype=torch.float64))
        assert float(found.detach()) == pytest.approx(expected, abs=1e-6)
    torch.testing.assert_close(
        energy.weight_matrix().detach(), torch.tensor(COUPLINGS).double(), atol=1e-6, rtol=0
    )
    ising = Ising(3, COUPLINGS, biases)
    couplings, fields = torch.tensor(COUPLINGS), torch.tensor(biases)
    same = BoltzmannMachine(3, 4 * couplings, 2 * fields - 2 * couplings.sum(1))
    every = states(0, 8, 3, 2).float()
    torch.testing.assert_close(ising(every) + ising.log_z, same(every) + same.log_z)


def test_potts_is_the_sum_over_pairs():
    energy = Potts(3, 3, COUPLINGS, FIELDS).double()
    for row in itertools.product([0, 1, 2], repeat=3):
        pairs = sum(COUPLINGS[i][j] * (row[i] == row[j]) for i in range(3) for j in range(i + 1, 3))
        fields = sum([0.0, *FIELDS[i]][value] for i, value in enumerate(row))
        found = energy(torch.tensor([row], dtype=torch.float64))
        assert float(found.detach()) == pytest.approx(-pairs - fields, abs=1e-6)
    torch.testing.assert_close(
        energy.coupling_matrix().detach(), torch.tensor(COUPLINGS).double(), atol=1e-6, rtol=0
    )


def test_a_ring_of_potts_units_has_the_textbook_log_z():
    """Transfer matrix: Z = (e^J + K - 1)^d + (K - 1) (e^J - 1)^d; open, K (e^J + K - 1)^(d-1)."""
    d, k, coupling = 6, 4, 0.8
    chain = torch.diag(torch.full((d - 1,), coupling), 1)
    ring = chain.clone()
    ring[0, -1] = coupling
    up, down = math.exp(coupling) + k - 1, math.exp(coupling) - 1
    assert Potts(d, k, ring + ring.T).double().log_z == pytest.approx(
        math.log(up**d + (k - 1) * down**d), abs=1e-6
    )
    assert Potts(d, k, chain + chain.T).double().log_z == pytest.approx(
        math.log(k * up ** (d - 1)), abs=1e-6
    )


def test_a_potts_model_of_two_states_is_an_ising_model_of_half_the_coupling():
    couplings, fields = torch.tensor(COUPLINGS), torch.tensor([[0.1], [-0.4], [0.3]])
    potts, ising = Potts(3, 2, couplings, fields), Ising(3, couplings / 2, fields[:, 0] / 2)
    every = states(0, 8, 3, 2).float()
    torch.testing.assert_close(potts(every) + potts.log_z, ising(every) + ising.log_z)


@pytest.mark.parametrize("name", ["potts", "potts of images", "binary mlp", "mlp"])
def test_one_hot_rows_have_the_energies_of_the_rows(name):
    energy = ENERGIES[name]()
    x = all_rows(energy).float()
    rows = nn.functional.one_hot(x.long(), energy.num_states).float()
    torch.testing.assert_close(energy.of_one_hot(rows), energy(x))
    assert rows.requires_grad_(True) is rows
    assert torch.autograd.grad(energy.of_one_hot(rows).sum(), rows)[0].abs().sum() > 0


def test_the_visible_units_of_an_rbm_given_the_hidden_ones():
    """p(x_i = 1 | h), by sums over exp(b'x + c'h + h'W x)."""
    energy = RestrictedBoltzmannMachine((1, 3), num_hidden=2).double()
    with torch.no_grad():
        energy.visible_bias += torch.tensor([0.3, -0.2, 0.5])
        energy.hidden_bias += torch.tensor([-0.4, 0.6])
    w, b = energy.weight.detach().numpy(), energy.visible_bias.detach().numpy()
    rows = [np.array(row, dtype=float) for row in itertools.product([0, 1], repeat=3)]
    for h in itertools.product([0, 1], repeat=2):
        weights = [math.exp(b @ x + np.array(h, dtype=float) @ w @ x) for x in rows]
        on = [sum(v for v, x in zip(weights, rows, strict=True) if x[i]) for i in range(3)]
        found = energy.visible_probability(torch.tensor([h], dtype=torch.float64)).detach()
        assert found.shape == (1, 1, 3)
        assert found.flatten().tolist() == pytest.approx([v / sum(weights) for v in on])


def test_an_rbm_is_its_hidden_units_summed_out():
    energy = RestrictedBoltzmannMachine(3, num_hidden=2).double()
    with torch.no_grad():
        energy.visible_bias += torch.tensor([0.3, -0.2, 0.5])
        energy.hidden_bias += torch.tensor([-0.4, 0.6])
    w, b, c = (p.detach().numpy() for p in (energy.weight, energy.visible_bias, energy.hidden_bias))
    for row in itertools.product([0, 1], repeat=3):
        x = np.array(row, dtype=float)
        hidden = [np.array(h, dtype=float) for h in itertools.product([0, 1], repeat=2)]
        total = sum(math.exp(b @ x + c @ h + h @ w @ x) for h in hidden)
        found = energy(torch.tensor([row], dtype=torch.float64))
        assert float(found.detach()) == pytest.approx(-math.log(total))
        on = sum(math.exp(b @ x + c @ h + h @ w @ x) for h in hidden if h[1] == 1) / total
        probability = energy.hidden_probability(torch.tensor([row], dtype=torch.float64))
        assert float(probability[0, 1].detach()) == pytest.approx(on)


def test_an_mlp_gives_categories_no_order():
    """Exchanging two categories together with their columns of the first layer changes nothing."""
    energy = CategoricalMLP(2, num_states=4, hidden=(8,))
    x = states(0, 16, 2, 4).float()
    exchange = torch.tensor([0.0, 3.0, 2.0, 1.0])
    expected = energy(exchange[x.long()])
    with torch.no_grad():
        weight = energy.layers[0].weight.view(8, 2, 4)
        weight.copy_(weight[:, :, exchange.long()].clone())
    torch.testing.assert_close(energy(x), expected)


def test_an_mlp_of_categories_refuses_other_rows():
    with pytest.raises(ValueError, match=r"whole numbers from 0 to 3 .* got 0\.5 in row 0"):
        CategoricalMLP(2, num_states=4)(torch.tensor([[0.5, 1.0]]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ising(0), "dim must be a positive whole number, got 0"),
        (lambda: Ising(2, [[0.0, 1.0], [0.5, 0.0]]), "couplings must be symmetric, got .* 0.5"),
        (lambda: Ising(2, [1.0, 2.0]), r"couplings must be a number or have shape \(2, 2\)"),
        (lambda: Ising(2, fields=[1.0]), r"fields must be a number or have shape \(2,\), got \(1,"),
        (lambda: Ising(2, float("nan")), "couplings must be finite"),
        (lambda: BoltzmannMachine(2, [[0.0, 1.0], [0.5, 0.0]]), "weights must be symmetric"),
        (lambda: BoltzmannMachine(2, biases=[1.0]), r"biases must be .* shape \(2,\), got \(1,"),
        (lambda: Potts(2, 1), "num_states must be a whole number of at least 2, got 1"),
        (lambda: Potts(2, 3, fields=[1.0, 2.0]), r"fields must be .* shape \(2, 2\), got \(2,"),
        (lambda: Potts(2)(torch.full((1, 2), 3.0)), r"whole numbers from 0 to 2 .* got 3 in row"),
        (lambda: RestrictedBoltzmannMachine(2, 0), "num_hidden must be a positive whole number"),
        (lambda: CategoricalMLP(2, 1), "num_states must be a whole number of at least 2, got 1"),
        (lambda: CategoricalMLP(2, activation="step"), "activation must be one of"),
    ],
)
def test_bad_parameters_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Ising(21),
        lambda: BoltzmannMachine(21),
        lambda: Potts(13, 3),
        lambda: RestrictedBoltzmannMachine(30, 21),
        lambda: CategoricalMLP(9, 5),
    ],
)
def test_what_is_too_large_to_sum_says_so(make):
    with pytest.raises(ValueError, match="must have at most 1,048,576 states"):
        _ = make().log_z


def test_a_wide_rbm_with_few_hidden_units_is_summed_over_those():
    energy = RestrictedBoltzmannMachine(100, num_hidden=3).double()
    x = torch.zeros(1, 100, dtype=torch.float64)
    assert math.isfinite(energy.log_z)
    assert float(energy(x).detach()) + energy.log_z > 0  # a probability below one
