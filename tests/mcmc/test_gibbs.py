"""A Gibbs sweep leaves the law alone: exact draws, one sweep, and a test of all rows."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from basin.core.discrete import draw_states, state_numbers
from basin.energies import CategoricalMLP, Ising
from basin.mcmc.gibbs import gibbs_sweep
from helpers.discrete_laws import Table
from helpers.statistics import THRESHOLD


class Fast(Table):
    """The table, looked up by number."""

    def forward(self, x):
        return self.values[state_numbers(x, self.num_states)]


def p_value(target, moved_by, d, k, n=40_000):
    """Of draws of ``target`` after one sweep of ``moved_by``, under ``target``."""
    generator = torch.Generator().manual_seed(0)
    x = draw_states(target.values.detach(), n, (d,), k, generator)
    moved = gibbs_sweep(moved_by, x, k, generator).position
    seen = torch.bincount(state_numbers(moved, k), minlength=k**d).numpy()
    return stats.chisquare(seen, (n * target.law()).detach().numpy()).pvalue


@pytest.mark.statistical
@pytest.mark.parametrize(("d", "k"), [(3, 2), (2, 4)])
def test_exact_draws_keep_their_law_and_a_mutant_moves_it(d, k):
    target = Fast(d, k)
    assert p_value(target, target, d, k) > THRESHOLD
    assert p_value(target, lambda x: 0.8 * target(x), d, k) < THRESHOLD
    assert p_value(target, lambda x: -target(x), d, k) < THRESHOLD


def test_rows_of_images_and_seeds():
    energy = CategoricalMLP((1, 2, 2), num_states=3, hidden=(8,))
    x = energy.sample_base(50, torch.Generator().manual_seed(0))
    before = x.clone()
    first, again, other = (
        gibbs_sweep(energy, x, 3, torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2)
    )
    assert first.shape == x.shape
    assert torch.equal(x, before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not first.requires_grad


def test_rows_that_are_no_states_are_refused():
    with pytest.raises(ValueError, match="x must hold whole numbers from 0 to 1"):
        gibbs_sweep(Ising(2), torch.full((1, 2), 0.5), 2, torch.Generator())
