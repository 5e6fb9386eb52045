"""Ranges of noise scales: read off the data, or given."""

from __future__ import annotations

import pytest
import torch

from basin.core.neighbours import check_scales, neighbours_of


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
    assert neighbours_of(rows(), 0.01, 0.24 * diameter).blindness()
    assert not neighbours_of(rows(), 0.01, 0.26 * diameter).blindness()
    assert neighbours_of(rows(dim=64), None, None).blindness()  # no step hits a mode there
    assert "noise scales" in neighbours_of(rows(), 0.01, 1.0).table()


def test_bad_ends_are_named():
    with pytest.raises(ValueError, match="t_min must be positive, got 0"):
        check_scales(t_min=0, t_max=None)
    with pytest.raises(ValueError, match="x must have at least two rows"):
        neighbours_of(rows(1), 0.1, 1.0)
