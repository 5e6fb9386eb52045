"""Block Gibbs: detailed balance by sums over both sides, exact start, and mutants."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from basin.core.discrete import state_numbers, states
from basin.energies import Ising, RestrictedBoltzmannMachine
from basin.samplers import BlockGibbs
from basin.sampling.run import sample
from helpers.statistics import THRESHOLD

NUM_CHAINS, NUM_VISIBLE, NUM_HIDDEN = 20_000, 4, 3


def machine(scale=2.0, kind=RestrictedBoltzmannMachine):
    """An asymmetric one."""
    energy = kind(NUM_VISIBLE, NUM_HIDDEN)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in energy.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return energy


def law_of(energy):
    every = states(0, 2**NUM_VISIBLE, NUM_VISIBLE, 2).to(energy.weight)
    return torch.softmax(-energy(every).detach().double(), 0)


def of_states(probability, every):
    """Probability of each row of coins, ``[batch, 2^units]``."""
    p = probability[:, None, :]
    return torch.where(every.bool(), p, 1 - p).prod(-1)


def test_detailed_balance_is_exact():
    """P(x -> y) = sum_h p(h | x) p(y | h), from the energy's own probabilities."""
    energy = machine().double()
    visible = states(0, 2**NUM_VISIBLE, NUM_VISIBLE, 2).double()
    hidden = states(0, 2**NUM_HIDDEN, NUM_HIDDEN, 2).double()
    to_hidden = of_states(energy.hidden_probability(visible), hidden)
    to_visible = of_states(energy.visible_probability(hidden), visible)
    matrix = (to_hidden @ to_visible).detach()
    flow = law_of(energy)[:, None] * matrix
    torch.testing.assert_close(matrix.sum(1), torch.ones(2**NUM_VISIBLE).double())
    torch.testing.assert_close(flow, flow.T)


class NoVisibleBias(RestrictedBoltzmannMachine):
    def visible_probability(self, hidden):
        return torch.sigmoid(hidden @ self.weight)


class MeanHidden(RestrictedBoltzmannMachine):
    """The shortcut of some CD code: probabilities of the hidden units in place of draws."""

    def visible_probability(self, hidden):
        return super().visible_probability(0.5 * hidden + 0.25)


def p_value(energy, target=None, num_steps=2):
    target = energy if target is None else target
    generator = torch.Generator().manual_seed(20210109)
    start = target.sample(NUM_CHAINS, generator)
    end = sample(energy, BlockGibbs(), start, num_steps=num_steps, seed=generator).last
    seen = torch.bincount(state_numbers(end, 2), minlength=2**NUM_VISIBLE).numpy()
    return stats.chisquare(seen, (NUM_CHAINS * law_of(target)).numpy()).pvalue


@pytest.mark.statistical
def test_exact_start_stays_exact_and_mutants_move_the_law():
    assert p_value(machine()) > THRESHOLD
    for kind in (NoVisibleBias, MeanHidden):
        assert p_value(machine(kind=kind), machine()) < THRESHOLD
    assert p_value(machine(1.8), machine()) < THRESHOLD


def test_rows_of_images_keep_their_shape():
    energy = RestrictedBoltzmannMachine((1, 2, 3), num_hidden=2)
    chains = sample(energy, BlockGibbs(), 10, num_steps=3)
    assert chains.positions.shape == (10, 3, 1, 2, 3)


def test_weights_that_are_no_numbers_are_reported_and_rows_stay():
    energy = machine()
    with torch.no_grad():
        energy.weight[0, 0] = torch.nan
    start = torch.ones(3, NUM_VISIBLE)
    with pytest.warns(UserWarning, match="diverged"):
        chains = sample(energy, BlockGibbs(), start, num_steps=2)
    assert torch.equal(chains.last, start)
    assert chains.num_divergent == 6


def test_an_energy_without_hidden_units_is_refused():
    with pytest.raises(ValueError, match=r"needs an energy with hidden units.*got Ising .*Gibbs"):
        sample(Ising(3), BlockGibbs(), 5, num_steps=1)
