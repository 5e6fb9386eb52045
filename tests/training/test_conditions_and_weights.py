"""Conditions and weights reach every objective: a batch carries them, objectives do not know."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import basin
from basin.core.conditions import Given, first_rows, repeated
from basin.datasets import ConditionedRows, TensorRows, WeightedRows

PLAIN = basin.objectives.DenoisingScoreMatching(0.3, posterior_mean=False, num_noised=None)


class ShiftedByCondition(nn.Module):
    """E(x | c) = precision |x - slope c|^2 / 2: right for rows N(2c, 1), also when blurred."""

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(1))
        self.precision = nn.Parameter(torch.tensor(0.5))

    def forward(self, x, condition):
        return 0.5 * self.precision * (x - self.slope * condition).square().sum(1)


def rows_with_conditions(n=4000, seed=0):
    generator = torch.Generator().manual_seed(seed)
    condition = torch.randn(n, 1, generator=generator)
    return 2 * condition + torch.randn(n, 1, generator=generator), condition


def trained(x, condition, **settings):
    return basin.fit(
        ShiftedByCondition(),
        x,
        PLAIN,
        condition=condition,
        num_steps=400,
        batch_size=256,
        learning_rate=0.02,
        **settings,
    ).energy


def test_a_conditional_energy_learns_its_conditions():
    x, condition = rows_with_conditions()
    energy = trained(x, condition)
    assert energy.slope.item() == pytest.approx(2.0, abs=0.08)
    assert energy.precision.item() == pytest.approx(1 / (1 + 0.3**2), abs=0.08)
    mutant = trained(x, condition[torch.randperm(len(x), generator=torch.Generator())])
    assert abs(mutant.slope.item() - 2.0) > 1.0  # conditions of other rows


def test_noised_copies_keep_the_condition_of_their_row():
    x, condition = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.0], [10.0], [20.0]])
    energy = Given(lambda y, c: (y - c).square().sum(1), condition)
    torch.testing.assert_close(repeated(energy, 2)(torch.cat([x, x])), energy(x).repeat(2))
    torch.testing.assert_close(first_rows(energy, 2)(x[:2]), energy(x)[:2])
    with pytest.raises(ValueError, match="one row for each of the 3 conditions, got 6"):
        energy(torch.cat([x, x]))


def test_the_closed_form_score_of_a_conditional_network_is_its_gradient(generator):
    energy = basin.energies.ConditionalMLP(2, num_classes=3, hidden=(8,)).double()
    x = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    c = torch.tensor([0, 1, 2, 1, 0])
    by_hand = basin.score(Given(energy, c), x)
    automatic = basin.score(lambda y: energy(y, c), x)
    torch.testing.assert_close(by_hand, automatic)
    one = energy.given(torch.tensor(1))
    torch.testing.assert_close(basin.score(one, x)[1], by_hand[1])
    assert not torch.allclose(basin.score(one, x)[0], by_hand[0])


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda e: e(torch.zeros(2, 2), torch.tensor([0, 3])), "classes 0 to 2, got 0 to 3"),
        (lambda e: e(torch.zeros(2, 2), torch.zeros(2)), "2 classes of dtype int64"),
        (lambda e: basin.energies.ConditionalMLP(2), "one of condition_dim and num_classes"),
    ],
)
def test_bad_conditions_are_named(make, match):
    with pytest.raises(ValueError, match=match):
        make(basin.energies.ConditionalMLP(2, num_classes=3, hidden=(4,)))


def test_objectives_that_mix_rows_are_refused_and_a_condition_must_be_given():
    x, condition = rows_with_conditions(32)
    energy = basin.energies.ConditionalMLP(1, condition_dim=1, hidden=(4,))
    with pytest.raises(ValueError, match="compares the rows of a batch"):
        basin.fit(
            energy, x, basin.objectives.DenoisingScoreMatching(), condition=condition, num_steps=1
        )
    with pytest.raises(ValueError, match="condition of each row"):
        basin.fit(energy, x, PLAIN, num_steps=1)
    with pytest.raises(ValueError, match="one entry for each of the 32 rows"):
        basin.fit(energy, x, PLAIN, condition=condition[:5], num_steps=1)


def test_weights_are_copies_of_rows():
    x = torch.tensor([[0.0], [1.0], [2.0]])
    rows = WeightedRows(TensorRows(x), torch.tensor([1.0, 0.0, 3.0]))
    drawn = rows.draw(40_000, torch.Generator().manual_seed(0)).flatten()
    assert not bool((drawn == 1).any())
    share = float((drawn == 2).double().mean())
    assert abs(share - 0.75) < 3.9 * (0.75 * 0.25 / 40_000) ** 0.5


def test_weights_move_what_is_learned():
    generator = torch.Generator().manual_seed(0)
    x = torch.cat([torch.randn(500, 1, generator=generator) + shift for shift in (-1.0, 1.0)])
    weight = torch.cat([torch.zeros(500), torch.ones(500)])
    condition = torch.ones(1000, 1)
    assert trained(x, condition, sample_weight=weight).slope.item() == pytest.approx(1, abs=0.2)
    assert trained(x, condition).slope.item() == pytest.approx(0, abs=0.2)


@pytest.mark.parametrize(
    ("weight", "match"),
    [
        (torch.ones(2), "one number for each of the 3 rows"),
        (torch.tensor([1.0, -1.0, 1.0]), r"not negative, got -1.0 for row 1"),
        (torch.zeros(3), "positive sum"),
    ],
)
def test_bad_weights_are_named(weight, match):
    with pytest.raises(ValueError, match=match):
        WeightedRows(TensorRows(torch.zeros(3, 1)), weight)


def test_a_batch_comes_apart_again():
    x = torch.arange(24.0).reshape(4, 2, 3)
    rows = ConditionedRows(x, torch.tensor([3, 1, 0, 2]))
    part, condition = rows.split(rows.at(torch.tensor([2, 0])))
    assert torch.equal(part, x[[2, 0]])
    assert torch.equal(condition, torch.tensor([0, 3]))


def test_a_conditional_run_says_how_to_draw_from_it(tmp_path):
    x, condition = rows_with_conditions(64)
    energy = basin.energies.ConditionalMLP(1, condition_dim=1, hidden=(4,))
    out = tmp_path / "run"
    basin.fit(energy, x, PLAIN, condition=condition, num_steps=2, batch_size=8, out=out)
    run = basin.load(out)
    assert run.config["data"]["is_conditional"]
    with pytest.raises(ValueError, match=r"run\.energy\.given"):
        run.sample(3)
    again = run.energy.given(torch.tensor([0.5]))
    assert again(x).shape == (64,)
