"""Folding: where points land, that it is a mirror, and whose score it has."""

from __future__ import annotations

import pytest
import torch

import basin
from basin.energies import Folded

INFINITY = float("inf")


def steep(x):
    return (x**3 + x).sum(dim=1)


@pytest.mark.parametrize(
    ("lower", "upper", "points", "folded"),
    [
        (0.0, 1.0, [-2.25, -1.25, -0.25, 0.5, 1.25, 2.25], [0.25, 0.75, 0.25, 0.5, 0.75, 0.25]),
        (1.0, INFINITY, [-2.0, 0.5, 1.0, 3.0], [4.0, 1.5, 1.0, 3.0]),
        (-INFINITY, 1.0, [-2.0, 1.5, 4.0], [-2.0, 0.5, -2.0]),
        (-INFINITY, INFINITY, [-2.0, 1.5], [-2.0, 1.5]),
    ],
)
def test_where_points_land(lower, upper, points, folded):
    x = torch.tensor(points, dtype=torch.float64).unsqueeze(1)
    found = Folded(steep, lower, upper).fold(x)
    torch.testing.assert_close(found[:, 0], torch.tensor(folded, dtype=torch.float64))


def test_each_coordinate_has_its_own_walls():
    energy = Folded(steep, [0.0, -INFINITY], [1.0, 2.0])
    x = torch.tensor([[1.5, 3.0], [-0.5, 1.0]])
    assert energy.fold(x).tolist() == [[0.5, 1.0], [0.5, 1.0]]
    assert energy.contains(x).tolist() == [[False, False], [False, True]]
    assert energy.fold(x.unsqueeze(0)).shape == (1, 2, 2)


@pytest.mark.parametrize(
    ("lower", "upper"), [(0.0, 1.0), (-0.5, INFINITY), (-INFINITY, 0.5), ([0.0, -2.0], [3.0, 1.0])]
)
def test_its_score_is_minus_its_gradient(lower, upper, generator):
    x = 4 * torch.randn(200, 2, generator=generator, dtype=torch.float64)
    energy = Folded(steep, lower, upper)
    by_autograd = basin.score(energy.forward, x)
    torch.testing.assert_close(energy.score(x), by_autograd)
    assert energy.contains(energy.fold(x)).all()
    with pytest.raises(AssertionError):  # the mutant: the score not turned round
        torch.testing.assert_close(basin.score(steep, energy.fold(x)), by_autograd)


def test_it_stays_between_the_walls_in_float32_far_away(generator):
    x = 1e4 * torch.randn(100_000, 1, generator=generator)
    energy = Folded(steep, 0.1, 0.7)
    assert energy.contains(energy.fold(x)).all()


def test_mirror_images_have_one_energy(generator):
    x = torch.randn(50, 1, generator=generator)
    energy = Folded(steep, 0.0, 1.0)
    for image in (-x, 2 - x, x + 2, x - 4):
        torch.testing.assert_close(energy(image), energy(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("lower", "upper"), [(1.0, 1.0), (2.0, 1.0), (float("nan"), 1.0)])
def test_refuses_walls_in_the_wrong_order(lower, upper):
    with pytest.raises(ValueError, match="lower must lie below upper"):
        Folded(steep, lower, upper)


def test_refuses_walls_of_two_shapes():
    with pytest.raises(ValueError, match="must be numbers or of one shape"):
        Folded(steep, [0.0, 0.0], [1.0, 1.0, 1.0])
