"""Random directions: E v = 0, E vv' = I, and a fixed length where one is promised."""

from __future__ import annotations

import pytest
import torch

from basin.core.directions import random_signs_like, sphere_like

NUM_ROWS = 200_000


@pytest.mark.statistical
@pytest.mark.parametrize("kind", [random_signs_like, sphere_like])
@pytest.mark.parametrize("dimension", [1, 3])
def test_second_moments_are_the_identity(kind, dimension, generator):
    v = kind(torch.zeros(NUM_ROWS, dimension, dtype=torch.float64), generator)
    products = v[:, :, None] * v[:, None, :]
    for values, truth in ((v, torch.zeros(dimension)), (products, torch.eye(dimension))):
        error = values.std(0) / NUM_ROWS**0.5 + 1e-12
        assert ((values.mean(0) - truth).abs() < 3.9 * error).all()


@pytest.mark.parametrize("kind", [random_signs_like, sphere_like])
def test_length_is_the_root_of_the_dimension(kind, generator):
    v = kind(torch.zeros(50, 2, 3, dtype=torch.float64), generator)
    torch.testing.assert_close(v.flatten(1).norm(dim=1), torch.full((50,), 6**0.5).double())
    assert v.shape == (50, 2, 3)


def test_a_normal_draw_of_exactly_zero_is_drawn_again(generator, monkeypatch):
    from basin.core import directions

    real, calls = directions.normal_like, []

    def first_zero(x, generator):
        calls.append(1)
        z = real(x, generator)
        return z * (torch.arange(len(z))[:, None] > 0) if len(calls) == 1 else z

    monkeypatch.setattr(directions, "normal_like", first_zero)
    assert torch.isfinite(sphere_like(torch.zeros(4, 1), generator)).all()
    assert len(calls) == 2
