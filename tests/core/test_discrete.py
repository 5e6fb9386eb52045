"""Rows of whole numbers: the check, numbering of states, neighbours in blocks, corruption."""

from __future__ import annotations

import pytest
import torch

from basin.core import discrete
from basin.core.conditions import Given
from helpers.discrete_laws import Table, neighbours, rows
from helpers.statistics import THRESHOLD

CASES = [(4, 2), (3, 3), (1, 5)]


@pytest.mark.parametrize(
    ("value", "num_states", "message"),
    [
        (0.5, 2, r"got 0\.5 in row 1, coordinate 2; rows must not be standardised"),
        (3.0, 3, r"from 0 to 2 \(num_states=3\), got 3 in row 1, coordinate 2; say num_states=4"),
        (-1.0, 2, r"got -1 in row 1, coordinate 2; spins of -1 and 1 become 0 and 1"),
        (-2.0, 3, r"got -2 in row 1, coordinate 2$"),
        (float("nan"), 2, r"got nan in row 1, coordinate 2$"),
        (float("inf"), 2, r"got inf in row 1, coordinate 2$"),
    ],
)
def test_the_first_value_that_is_no_state_is_named(value, num_states, message):
    x = torch.zeros(3, 1, 4)
    x[1, 0, 2], x[2, 0, 0] = value, 7.5
    with pytest.raises(ValueError, match=message):
        discrete.whole_numbers("x", x, num_states)
    with pytest.raises(ValueError, match=message):
        discrete.energy_drops(lambda x: x.flatten(1).sum(1), x, num_states)


def test_states_in_range_pass():
    discrete.whole_numbers("x", torch.tensor([[0.0, 4.0], [2.0, 1.0]]), 5)
    with pytest.raises(ValueError, match=r"real floating-point numbers, got torch\.int64"):
        discrete.whole_numbers("x", torch.tensor([[0, 1]]), 2)


@pytest.mark.parametrize("num_states", [1, 0, 2.0, True, "two"])
def test_a_bad_number_of_states_is_named(num_states):
    with pytest.raises(ValueError, match="num_states must be a whole number of at least 2"):
        discrete.number_of_states(num_states)


@pytest.mark.parametrize(("d", "k"), CASES)
def test_states_are_numbered_and_found_again(d, k):
    every = discrete.states(0, k**d, d, k)
    assert [tuple(row) for row in every.tolist()] == rows(d, k)
    assert torch.equal(discrete.state_numbers(every.double(), k), torch.arange(k**d))
    assert torch.equal(discrete.states(2, 4, d, k), every[2:4])


@pytest.mark.parametrize(("d", "k"), CASES)
def test_energies_of_all_states(d, k, monkeypatch):
    table = Table(d, k)
    expected = table.values.detach()
    assert torch.equal(discrete.energies_of_all_states(table, (d,), k), expected)
    monkeypatch.setattr(discrete, "NUMBERS_AT_ONCE", 3 * 64)
    assert torch.equal(discrete.energies_of_all_states(table, (d,), k), expected)


def test_more_states_than_can_be_summed_are_refused():
    with pytest.raises(ValueError, match=r"at most 1,048,576 states .* got 2\^21"):
        discrete.energies_of_all_states(lambda x: x.sum(1), (21,), 2)


@pytest.mark.parametrize(("d", "k"), CASES)
def test_drops_are_log_ratios_of_every_neighbour(d, k):
    table = Table(d, k)
    drops = discrete.energy_drops(table, table.tensor(), k)
    assert drops.shape == (k**d, d, k - 1)
    for row, found in zip(table.rows, drops.detach(), strict=True):
        expected = [table.ratio(y, row).log() for y in neighbours(row, k)]
        torch.testing.assert_close(
            found.flatten().sort().values, torch.stack(expected).detach().sort().values
        )
        for i in range(d):
            for shift in range(1, k):
                y = (*row[:i], (row[i] + shift) % k, *row[i + 1 :])
                torch.testing.assert_close(found[i, shift - 1], table.ratio(y, row).log().detach())


def gradient(x, **options):
    table = Table(3, 3)
    drops = discrete.energy_drops(table, x, 3, **options)
    weights = torch.linspace(-1, 2, drops.numel(), dtype=drops.dtype).view_as(drops)
    return drops.detach(), torch.autograd.grad((weights * drops.exp()).sum(), table.values)[0]


@pytest.mark.parametrize("numbers", [1, 3 * 27 * 2, 3 * 27 * 4])
def test_blocks_change_nothing_and_bound_each_call(numbers, monkeypatch):
    x = Table(3, 3).tensor()
    whole, whole_gradient = gradient(x)
    sizes = []
    forward = Table.forward

    def counted(self, rows):
        sizes.append(rows.numel())
        return forward(self, rows)

    monkeypatch.setattr(Table, "forward", counted)
    monkeypatch.setattr(discrete, "NUMBERS_AT_ONCE", numbers)
    blocked, blocked_gradient = gradient(x)
    torch.testing.assert_close(blocked, whole)
    torch.testing.assert_close(blocked_gradient, whole_gradient)
    assert max(sizes) <= max(numbers, x.numel())
    with torch.no_grad():
        torch.testing.assert_close(discrete.energy_drops(Table(3, 3), x, 3), whole)


def test_neighbours_come_in_one_call_where_they_fit():
    calls = []

    def energy(x):
        calls.append(len(x))
        return x.sum(1)

    discrete.energy_drops(energy, torch.zeros(5, 4), 3)
    assert calls == [5 * (1 + 4 * 2)]


def test_chosen_coordinates_are_those_of_each_row():
    table, x = Table(4, 2), Table(4, 2).tensor()
    chosen = discrete.random_coordinates(x, 2, torch.Generator().manual_seed(0))
    assert chosen.shape == (16, 2)
    assert (chosen[:, 0] != chosen[:, 1]).all()
    every = discrete.energy_drops(table, x, 2)
    some = discrete.energy_drops(table, x, 2, chosen)
    torch.testing.assert_close(some, every.gather(1, chosen.unsqueeze(-1)))
    assert discrete.random_coordinates(x, 4, torch.Generator()) is None
    assert discrete.random_coordinates(x, None, torch.Generator()) is None


@pytest.mark.parametrize("numbers", [2**22, 1])
def test_each_neighbour_has_the_condition_of_its_row(numbers, monkeypatch):
    monkeypatch.setattr(discrete, "NUMBERS_AT_ONCE", numbers)
    x = torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    condition = torch.tensor([1.0, 10.0, 100.0])
    bound = Given(lambda x, c: c * x.sum(1), condition)
    drops = discrete.energy_drops(bound, x, 2).squeeze(-1)
    torch.testing.assert_close(drops, condition[:, None] * (2 * x - 1))


def test_images_keep_their_shape():
    x = torch.zeros(2, 1, 2, 2)
    shapes = []

    def energy(x):
        shapes.append(tuple(x.shape[1:]))
        return x.flatten(1).sum(1)

    drops = discrete.energy_drops(energy, x, 2)
    assert drops.shape == (2, 4, 1)
    assert shapes == [(1, 2, 2)]


def test_an_energy_of_other_states_is_refused():
    with pytest.raises(ValueError, match="num_states must be that of Table, 3, got 2"):
        discrete.energy_drops(Given(Table(2, 3), torch.zeros(1)), torch.zeros(1, 2), 2)


@pytest.mark.statistical
def test_corruption_moves_to_each_other_value_alike():
    from scipy import stats

    x = torch.full((60_000, 1), 2.0)
    y = discrete.corrupted(x, 0.3, 4, torch.Generator().manual_seed(0))
    seen = torch.bincount(y.long().flatten(), minlength=4).numpy()
    assert stats.chisquare(seen, [6000, 6000, 42_000, 6000]).pvalue > THRESHOLD
    assert stats.chisquare(seen, [4500, 4500, 46_500, 4500]).pvalue < THRESHOLD  # the mutant


@pytest.mark.statistical
def test_exact_draws():
    from scipy import stats

    table = Table(2, 3)
    generator = torch.Generator().manual_seed(0)
    x = discrete.draw_states(table.values.detach(), 40_000, (2,), 3, generator)
    assert x.dtype == torch.float32
    seen = torch.bincount(discrete.state_numbers(x, 3), minlength=9).numpy()
    law = table.law().detach()
    assert stats.chisquare(seen, (40_000 * law).numpy()).pvalue > THRESHOLD
    flat = (law.sqrt() / law.sqrt().sum()).numpy()
    assert stats.chisquare(seen, 40_000 * flat).pvalue < THRESHOLD  # the mutant


@pytest.mark.statistical
def test_uniform_states():
    from scipy import stats

    x = discrete.uniform_states(10_000, (2, 3), 5, torch.Generator().manual_seed(0))
    assert x.shape == (10_000, 2, 3)
    assert stats.chisquare(torch.bincount(x.long().flatten()).numpy()).pvalue > THRESHOLD
