"""Noise levels read off the data."""

from __future__ import annotations

import pytest
import torch

from basin.core.noise_levels import noise_levels


def test_distances_of_a_known_configuration():
    levels = noise_levels(torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]]))
    assert levels.diameter == pytest.approx(5.0)
    assert levels.nearest_neighbour == pytest.approx(1.0)
    assert levels.median_distance == pytest.approx(18**0.5)
    assert "diameter" in levels.table()


def test_levels_scale_with_the_data():
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    small, large = noise_levels(x), noise_levels(100 * x)
    assert large.sigma_max == pytest.approx(100 * small.sigma_max, rel=1e-5)
    assert large.single_sigma == pytest.approx(100 * small.single_sigma, rel=1e-5)


def test_constant_rows_and_single_rows_are_refused():
    with pytest.raises(ValueError, match="all the same"):
        noise_levels(torch.ones(5, 2))
    with pytest.raises(ValueError, match="two rows"):
        noise_levels(torch.ones(1, 2))


def test_a_ladder_must_go_up():
    levels = noise_levels(torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]]))
    with pytest.raises(ValueError, match="sigma_min must lie below sigma_max"):
        levels.ladder(10.0, None)
    assert levels.ladder(0.1, 2.0) == (0.1, 2.0)
