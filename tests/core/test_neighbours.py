"""Ranges of noise scales: read off the data, or given."""

from __future__ import annotations

import pytest
import torch

from basin.core.neighbours import check_scales, neighbours_of, with_leaps


def rows(n=500, dim=2, seed=0):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def test_defaults_are_read_off_the_data():
    found = neighbours_of(rows(), None, None)
    assert found.noise_min == pytest.approx(found.levels.standard_deviation / 10)
    assert found.noise_max == pytest.approx(found.levels.diameter / 2)
    assert neighbours_of(3 * rows(), None, None).noise_min == pytest.approx(3 * found.noise_min)


def test_an_end_that_is_given_moves_the_default_of_the_other():
    assert neighbours_of(rows(), None, 1e-3)[:2] == (1e-3, 1e-3)
    assert neighbours_of(rows(), 100.0, None)[:2] == (100.0, 100.0)


def test_scales_fill_the_range_evenly_in_the_logarithm():
    found = neighbours_of(rows(), 0.1, 10.0)
    scales = found.scales(rows(1000).double(), torch.Generator().manual_seed(0))
    assert scales.dtype == torch.float64
    assert float(scales.min()) >= 0.1
    assert float(scales.max()) <= 10.0
    assert float((scales < 1).double().mean()) == pytest.approx(0.5, abs=0.002)


def test_one_scale_is_one_scale():
    scales = neighbours_of(rows(), 0.3, 0.3).scales(rows(5), torch.Generator())
    torch.testing.assert_close(scales, torch.full((5,), 0.3))


def test_blind_unless_four_steps_cross_the_data():
    diameter = neighbours_of(rows(), None, None).levels.diameter
    assert neighbours_of(rows(), 0.01, 0.24 * diameter).blindness(leaps=0.0)
    assert not neighbours_of(rows(), 0.01, 0.26 * diameter).blindness(leaps=0.0)
    assert not neighbours_of(rows(), 0.01, 0.24 * diameter).blindness(leaps=0.1)
    assert neighbours_of(rows(dim=64), None, None).blindness(leaps=0.5)  # nothing hits a mode there
    assert "noise scales" in neighbours_of(rows(), 0.01, 1.0).table()


def leaps_of(n, copies, share, seed=0):
    """Which two rows each copy of each row leaps between, found by powers of two."""
    x = 2.0 ** torch.arange(n, dtype=torch.float64)[:, None]
    step = with_leaps(torch.zeros(copies * n, 1).double(), x, share, generator(seed))
    found = {}
    for position, value in enumerate(step.flatten().tolist()):
        pairs = [(j, k) for j in range(n) for k in range(n) if j != k and value == 2.0**j - 2.0**k]
        found[divmod(position, n)[::-1]] = pairs[0] if pairs else None
    return found


def generator(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("seed", range(20))
def test_a_row_leaps_between_rows_that_it_shares_with_no_copy(seed):
    found = leaps_of(7, 3, 1.0, seed)
    for row in range(7):
        rows_used = [other for copy in range(3) for other in found[row, copy]]
        assert len({row, *rows_used}) == 7


def test_the_share_that_leaps_is_spread_over_the_batch():
    found = leaps_of(8, 2, 0.25)
    assert [row for row in range(8) if found[row, 0]] == [3, 7]
    assert [row for row in range(8) if found[row, 1]] == [3, 7]
    assert not any(leaps_of(8, 2, 0.0).values())
    assert not any(leaps_of(4, 2, 1.0).values())  # no two others for every copy


def test_both_ends_of_a_leap_are_as_likely():
    """Each ordered pair of other rows, so that the law of the steps is symmetric."""
    seen = [leaps_of(4, 1, 1.0, seed)[0, 0] for seed in range(600)]
    assert {pair: seen.count(pair) for pair in seen}.keys() == {
        (j, k) for j in (1, 2, 3) for k in (1, 2, 3) if j != k
    }
    assert min(seen.count(pair) for pair in seen) > 60  # of 100, by chance below 1e-4


def test_bad_ends_are_named():
    with pytest.raises(ValueError, match="t_min must be positive, got 0"):
        check_scales(t_min=0, t_max=None)
    with pytest.raises(ValueError, match="x must have at least two rows"):
        neighbours_of(rows(1), 0.1, 1.0)
