"""log Z by summation against closed forms, and its mutant."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from basin.core.discrete import state_numbers, states
from basin.energies import CategoricalMLP, Ising, RestrictedBoltzmannMachine
from basin.partition import can_enumerate, enumeration
from helpers.statistics import THRESHOLD


def test_independent_coordinates_have_a_product_for_z():
    found = enumeration(lambda x: -0.7 * x.flatten(1).sum(1), event_shape=(2, 3), num_states=3)
    expected = 6 * math.log(sum(math.exp(0.7 * v) for v in range(3)))
    assert found.lower < expected < found.upper
    assert found.kind == "exact"
    assert found.standard_error == 0
    with_another_sign = enumeration(
        lambda x: 0.7 * x.flatten(1).sum(1), event_shape=(2, 3), num_states=3
    )
    assert not with_another_sign.lower < expected < with_another_sign.upper


def test_an_energy_that_knows_its_rows_needs_no_more():
    energy = Ising(4, 0.5, 0.1)
    assert enumeration(energy).log_z == pytest.approx(energy.log_z)
    other = CategoricalMLP(3, num_states=4, hidden=(8,))
    probabilities = (
        -other(torch.cartesian_prod(*[torch.arange(4.0)] * 3)).detach() - other.log_z
    ).exp()
    assert float(probabilities.sum()) == pytest.approx(1, abs=1e-5)
    assert enumeration(other).log_z == pytest.approx(other.log_z)


def test_what_is_missing_is_named():
    with pytest.raises(ValueError, match="event_shape must be given, as function does not say it"):
        enumeration(lambda x: x.sum(1), num_states=2)
    with pytest.raises(ValueError, match="num_states must be given"):
        enumeration(lambda x: x.sum(1), event_shape=(2,))
    with pytest.raises(ValueError, match=r"at most 1,048,576 states .*got 2\^30"):
        enumeration(Ising(30))


def filled_machine(dim, num_hidden, scale=1.0, seed=3):
    energy = RestrictedBoltzmannMachine(dim, num_hidden).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in energy.parameters():
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(scale * drawn)
    return energy


@pytest.mark.parametrize(("dim", "num_hidden"), [(7, 3), (3, 7), (5, 5), (9, 1)])
def test_either_side_of_an_rbm_has_the_same_sum(dim, num_hidden):
    """The hidden units' sum against that over every visible row, which shares no code with it."""
    energy = filled_machine(dim, num_hidden)
    found = enumeration(energy)
    rows = enumeration(lambda x: energy(x.double()), event_shape=(dim,), num_states=2)
    assert found.log_z == pytest.approx(rows.log_z, abs=1e-9)
    assert found.upper - found.lower < 1e-9
    assert ("hidden" in found.method) == (num_hidden < dim)
    with torch.no_grad():
        energy.hidden_bias[0] += 0.1  # the mutant: another machine has another sum
    assert abs(enumeration(energy).log_z - rows.log_z) > 1e-3


@pytest.mark.parametrize(
    ("dim", "num_hidden"), [(784, 10), pytest.param(784, 20, marks=pytest.mark.slow)]
)
def test_an_rbm_without_couplings_is_a_product_however_wide_it_is(dim, num_hidden):
    """log Z = sum_i log(1 + e^b_i) + sum_j log(1 + e^c_j)."""
    energy = filled_machine(dim, num_hidden)
    with torch.no_grad():
        energy.weight.zero_()
    expected = sum(
        float(torch.nn.functional.softplus(bias.detach()).sum())
        for bias in (energy.visible_bias, energy.hidden_bias)
    )
    found = enumeration(energy)
    assert found.lower < expected < found.upper
    assert found.method == f"sum over {2**num_hidden:,} hidden states"


def test_twenty_units_on_the_smaller_side_are_few_enough():
    assert can_enumerate(RestrictedBoltzmannMachine(784, 20), (784,), 2)
    assert can_enumerate(RestrictedBoltzmannMachine(20, 30), (20,), 2)
    assert not can_enumerate(RestrictedBoltzmannMachine(21, 21), (21,), 2)
    with pytest.raises(ValueError, match=r"at most 1,048,576 states .*got 2\^21"):
        enumeration(RestrictedBoltzmannMachine(21, 21))


def hidden_p_value(x, energy, law):
    """Of the hidden states that rows draw, under their law; rare states are one class."""
    uniform = torch.rand(len(x), 6, generator=torch.Generator().manual_seed(1)).double()
    hidden = (uniform < energy.hidden_probability(x).detach()).double()
    seen = torch.bincount(state_numbers(hidden, 2), minlength=2**6)
    expected = len(x) * law
    is_rare = expected < 5
    seen, expected = (
        torch.cat([counts[~is_rare], counts[is_rare].sum()[None]]) for counts in (seen, expected)
    )
    return stats.chisquare(seen.numpy(), expected.numpy()).pvalue


@pytest.mark.statistical
def test_a_wide_rbm_has_exact_draws_and_a_mutant_has_not():
    """E[x_i] = sum_h p(h) p(x_i = 1 | h), and hidden states drawn from rows have the law p(h)."""
    energy = filled_machine(40, 6, scale=0.7)
    x = energy.sample(20_000, torch.Generator().manual_seed(0)).double()
    law = torch.softmax(-energy.energies_of_smaller_side(), 0)
    means = law @ energy.visible_probability(states(0, 2**6, 6, 2).double()).detach()
    z = (x.mean(0) - means) / (means * (1 - means) / len(x)).sqrt()
    assert float(z.abs().max()) < stats.norm.isf(THRESHOLD / 80)  # the largest of 40, either sign
    assert hidden_p_value(x, energy, law) > THRESHOLD
    colder = torch.softmax(-1.2 * energy.energies_of_smaller_side(), 0)
    assert hidden_p_value(x, energy, colder) < THRESHOLD
