"""The Ising lattice against sums over pairs of neighbours, written out."""

from __future__ import annotations

import itertools
import json
import math

import pytest
import torch
from scipy import stats

import basin
from basin.core.describe import build, describe
from basin.core.discrete import state_numbers, states
from basin.datasets import IsingLattice
from helpers.statistics import THRESHOLD


def log_weight(row, side, coupling, field):
    """-E of one row, by walking the lattice."""
    s = {(i, j): 2 * row[i * side + j] - 1 for i in range(side) for j in range(side)}
    pairs = sum(
        s[i, j] * s.get((i + down, j + right), 0) for i, j in s for down, right in ((1, 0), (0, 1))
    )
    return coupling * pairs + field * sum(s.values())


@pytest.mark.parametrize("side", [1, 2, 3])
def test_log_prob_is_the_sum_over_neighbours(side):
    lattice = IsingLattice(side, coupling=0.7, field=-0.2)
    every = list(itertools.product([0, 1], repeat=side**2))
    weights = [log_weight(row, side, 0.7, -0.2) for row in every]
    log_z = math.log(sum(math.exp(w) for w in weights))
    found = lattice.log_prob(torch.tensor(every, dtype=torch.float64))
    expected = torch.tensor(weights, dtype=torch.float64) - log_z
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert float(found.exp().sum()) == pytest.approx(1)


def p_value(draws, law):
    seen = torch.bincount(state_numbers(draws, 2), minlength=len(law)).numpy()
    return stats.chisquare(seen, (len(draws) * law).numpy()).pvalue


@pytest.mark.statistical
@pytest.mark.parametrize("corruption", [0.0, 0.2])
def test_draws_follow_the_law_and_mutants_do_not(corruption):
    lattice = IsingLattice(2, coupling=0.5, field=0.3, corruption=corruption)
    x = lattice.sample(40_000, torch.Generator().manual_seed(0))
    assert x.dtype == torch.float32
    law = lattice.log_prob(states(0, 16, 4, 2).double()).exp()
    assert p_value(x, law) > THRESHOLD
    assert p_value(x, IsingLattice(2, 0.45, 0.3, corruption).log_probabilities.exp()) < THRESHOLD
    assert p_value(x, IsingLattice(2, 0.5, -0.3, corruption).log_probabilities.exp()) < THRESHOLD


@pytest.mark.statistical
def test_corruption_is_the_law_of_flipped_units():
    lattice = IsingLattice(2, coupling=0.5, field=0.3)
    generator = torch.Generator().manual_seed(0)
    x = lattice.sample(40_000, generator)
    flipped = torch.where(torch.rand(x.shape, generator=generator) < 0.15, 1 - x, x)
    assert p_value(flipped, lattice.corrupted(0.15).log_probabilities.exp()) > THRESHOLD
    assert p_value(flipped, lattice.log_probabilities.exp()) < THRESHOLD
    twice = lattice.corrupted(0.1).corrupted(0.2)
    assert twice.corruption == pytest.approx(0.1 * 0.8 + 0.9 * 0.2)
    half = lattice.corrupted(0.5).log_probabilities
    torch.testing.assert_close(half, torch.full((16,), -math.log(16)).double())


def test_shares_of_up_and_down_are_exact():
    lattice = IsingLattice(3, coupling=0.9, field=0.05)
    every = states(0, 512, 9, 2)
    up = sum(
        p
        for row, p in zip(every.tolist(), lattice.log_probabilities.exp().tolist(), strict=True)
        if sum(row) >= 5
    )
    assert lattice.mode_weights.tolist() == pytest.approx([1 - up, up])
    assert lattice.mode_of(torch.tensor([[1.0] * 5 + [0.0] * 4, [0.0] * 9])).tolist() == [1, 0]


def test_rows_of_other_numbers_have_no_probability():
    lattice = IsingLattice(1)
    x = torch.tensor([[0.5], [-1.0], [2.0], [1.0]])
    assert torch.isinf(lattice.log_prob(x)).tolist() == [True, True, True, False]


def test_it_is_a_density_without_a_gaussian_blur_and_without_a_score():
    lattice = IsingLattice()
    assert lattice.bounds.shape == (9, 2)
    with pytest.raises(ValueError, match=r"no Gaussian blur, got sigma=0.1; .*PseudoLikelihood"):
        lattice.blurred(0.1)
    with pytest.raises(ValueError, match="has no score"):
        lattice.score(torch.zeros(1, 9))


def test_describes_itself_and_is_built_again():
    lattice = IsingLattice(2, coupling=0.3, corruption=0.1)
    assert build(json.loads(json.dumps(describe(lattice))), [basin.datasets]) == lattice


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(side=5), r"side must be at most 4 .*got 5"),
        (dict(side=0), "side must be a positive whole number"),
        (dict(corruption=1.5), "corruption must lie between 0 and 1"),
    ],
)
def test_bad_parameters_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        IsingLattice(**options)


def test_a_coupling_is_a_number():
    with pytest.raises(TypeError, match="coupling must be a number, got 'strong'"):
        IsingLattice(coupling="strong")
