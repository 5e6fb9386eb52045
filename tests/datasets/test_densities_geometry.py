"""The geometry is the lesson's and FFJORD's: two-sample tests against their recipes, in NumPy.

The recipes below are written from the published formulas and share no code with the library.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import make_moons, make_swiss_roll

from basin.datasets.checkerboard import Checkerboard
from basin.datasets.eight_gaussians import EightGaussians
from basin.datasets.pinwheel import Pinwheel
from basin.datasets.rings import Rings
from basin.datasets.swiss_roll import SwissRoll
from basin.datasets.two_blobs import TwoBlobs
from basin.datasets.two_moons import TwoMoons
from basin.datasets.two_spirals import TwoSpirals
from helpers.statistics import THRESHOLD

N = 20_000


def checkerboard(rng: np.random.Generator) -> np.ndarray:
    x1 = rng.random(N) * 4 - 2
    x2 = rng.random(N) - rng.integers(0, 2, N) * 2 + np.floor(x1) % 2
    return 2 * np.stack([x1, x2], 1)


def eight_gaussians(rng: np.random.Generator) -> np.ndarray:
    half = 1 / np.sqrt(2)
    corners = [(half, half), (half, -half), (-half, half), (-half, -half)]
    centres = 4 * np.array([(1, 0), (-1, 0), (0, 1), (0, -1), *corners])
    return (rng.normal(size=(N, 2)) * 0.5 + centres[rng.integers(0, 8, N)]) / np.sqrt(2)


def two_spirals(rng: np.random.Generator) -> np.ndarray:
    n = np.sqrt(rng.random(N)) * 540 * (2 * np.pi) / 360
    d1 = -np.cos(n) * n + rng.random(N) * 0.5
    d2 = np.sin(n) * n + rng.random(N) * 0.5
    sign = np.where(np.arange(N) < N // 2, 1, -1)
    return sign[:, None] * np.stack([d1, d2], 1) / 3 + rng.normal(size=(N, 2)) * 0.1


def rings(rng: np.random.Generator) -> np.ndarray:
    angle = 2 * np.pi * rng.random(N)
    radius = 3 * np.array([1, 0.75, 0.5, 0.25])[rng.integers(0, 4, N)]
    circle = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    return circle + rng.normal(scale=0.08, size=(N, 2))


def pinwheel(rng: np.random.Generator) -> np.ndarray:
    features = rng.normal(size=(N, 2)) * np.array([0.3, 0.1])
    features[:, 0] += 1
    angle = 2 * np.pi / 5 * rng.integers(0, 5, N) + 0.25 * np.exp(features[:, 0])
    rotation = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], 1)
    return 2 * np.einsum("ti,tij->tj", features, rotation.reshape(-1, 2, 2))


def two_moons(rng: np.random.Generator) -> np.ndarray:
    x, _ = make_moons(n_samples=N, noise=0.1, random_state=int(rng.integers(2**31)))
    return x * 2 + np.array([-1, -0.2])


def swiss_roll(rng: np.random.Generator) -> np.ndarray:
    x, _ = make_swiss_roll(n_samples=N, noise=1.0, random_state=int(rng.integers(2**31)))
    return x[:, [0, 2]] / 5


def two_blobs(rng: np.random.Generator) -> np.ndarray:
    centre = np.where(rng.random(N) < 0.8, -4.0, 4.0)
    return np.stack([centre, np.zeros(N)], 1) + 0.3 * rng.normal(size=(N, 2))


RECIPES = [
    (Checkerboard(), checkerboard),
    (EightGaussians(), eight_gaussians),
    (TwoSpirals(), two_spirals),
    (Rings(), rings),
    (Pinwheel(), pinwheel),
    (TwoMoons(), two_moons),
    (SwissRoll(), swiss_roll),
    (TwoBlobs(), two_blobs),
]
DIRECTIONS = np.array([[1, 0], [0, 1], [0.6, 0.8], [0.8, -0.6]]).T


def smallest_p_value(first: np.ndarray, second: np.ndarray) -> float:
    """Two-sample KS on four projections, the radius and the distance to (1, 1)."""
    views = [
        np.column_stack([x @ DIRECTIONS, np.linalg.norm(x, axis=1), np.linalg.norm(x - 1, axis=1)])
        for x in (first, second)
    ]
    return min(stats.ks_2samp(a, b).pvalue for a, b in zip(views[0].T, views[1].T, strict=True))


@pytest.mark.parametrize(("density", "recipe"), RECIPES, ids=[repr(d) for d, _ in RECIPES])
def test_draws_are_those_of_the_published_recipe(density, recipe):
    ours = density.sample(N, torch.Generator().manual_seed(1)).double().numpy()
    theirs = recipe(np.random.default_rng(2))
    assert smallest_p_value(ours, theirs) > THRESHOLD
    assert smallest_p_value(ours[:, ::-1] * [1.05, 0.95], theirs) < THRESHOLD


def test_checkerboard_fills_eight_squares_of_side_two():
    density = Checkerboard()
    x = density.sample(50_000, torch.Generator().manual_seed(0))
    column, row = ((x + 4) / 2).floor().clamp(0, 3).long().unbind(1)
    assert bool(((column + row) % 2 == 0).all())
    assert float(x.abs().max()) <= 4
    assert len(torch.unique(column * 4 + row)) == 8
    assert density.log_prob(x[:5]).tolist() == pytest.approx([-np.log(32)] * 5)


def test_rings_have_the_lessons_radii():
    x = Rings().sample(50_000, torch.Generator().manual_seed(0))
    mode, radius = Rings().mode_of(x), x.norm(dim=1)
    for k, expected in enumerate([0.75, 1.5, 2.25, 3.0]):
        of_ring = radius[mode == k]
        assert float(of_ring.mean()) == pytest.approx(expected, abs=0.01)
        assert float(of_ring.std()) == pytest.approx(0.08, abs=0.003)
