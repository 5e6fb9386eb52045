"""Which rows are blurred before a loss that integrates by parts, and by how much."""

from __future__ import annotations

import pytest
import torch

from basin.core.noise_levels import noise_levels
from basin.core.smoothing import repeats_values, smoothed, smoothing, smoothing_level


def normal(n=2000, dim=3, seed=0):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def with_column(values):
    rows = normal()
    rows[:, 1] = values
    return rows


@pytest.mark.parametrize(
    ("rows", "repeats"),
    [
        (normal(), False),
        (normal(1, 3), False),
        (normal(500, 1)[torch.arange(2000) % 500][:800], False),  # rows drawn again
        (with_column(2.0), True),  # a constant column
        (with_column((10 * normal()[:, 0]).round() / 10), True),  # rounded
        (with_column(normal()[:, 0].clamp_min(0)), True),  # censored at zero
        (normal(2000, 1).mul(3).round(), True),  # whole numbers in one dimension
    ],
)
def test_columns_that_repeat_their_values_are_found(rows, repeats):
    assert repeats_values(rows) is repeats


def test_auto_blurs_only_what_has_no_density():
    assert smoothing("auto", normal()).level is None
    whole = normal().mul(3).round()
    found = smoothing("auto", whole)
    assert found.level == pytest.approx(noise_levels(whole).single_sigma)
    assert "repeat" in found.why
    assert smoothing(0.3, whole) == (0.3, "")
    assert smoothing(0, whole).level is None


def test_no_level_draws_nothing(generator):
    x, before = normal(), generator.get_state()
    assert smoothed(x, 0.0, generator) is x
    assert torch.equal(before, generator.get_state())
    assert (smoothed(x, 0.5, generator) - x).std().item() == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("sigma", [-0.1, float("nan"), "Auto"])
def test_a_bad_level_is_named(sigma):
    with pytest.raises(ValueError, match="sigma must be zero"):
        smoothing_level(sigma)
