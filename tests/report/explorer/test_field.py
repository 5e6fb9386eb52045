import math

import numpy as np
import pytest
import torch

from basin.report.collect import collect
from basin.report.explorer.field import MARGIN, levels_on_plane
from basin.report.explorer.plane import plane_of
from basin.report.explorer.spline import spline_values
from helpers.explored_runs import gaussian_run
from helpers.run_folders import known_run


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    made = gaussian_run(tmp_path_factory.mktemp("run") / "two")
    record = collect(made.folder, run=made.run, dataset=made.dataset)
    plane = plane_of(record)
    return record, plane, levels_on_plane(record, plane)


def inner(level):
    """Whole cells of the square, as points of the grid and of the plane."""
    cells = np.random.default_rng(0).integers(0, level.cells, (100, 2))
    return cells + MARGIN, np.asarray(level.low) + level.spacing * cells


def test_energies_of_the_grid_are_those_of_the_run(scene):
    record, _, levels = scene
    for level in levels:
        nodes, points = inner(level)
        found, _ = spline_values(level.coefficients.astype(np.float64), nodes.astype(float))
        energy = record.run.energy_at(level.sigma)(torch.tensor(points, dtype=torch.float32))
        assert np.allclose(found, energy.numpy(), rtol=1e-5, atol=1e-4)
        transposed, _ = spline_values(level.coefficients.T, nodes.astype(float))
        if level.sigma < 1:  # the mutant, where the square is off centre
            assert not np.allclose(transposed, energy.numpy(), rtol=1e-5, atol=1e-4)


def test_scores_of_the_grid_are_those_of_the_blurred_gaussian(scene):
    for level in scene[2]:
        nodes, points = inner(level)
        _, gradient = spline_values(level.coefficients.astype(np.float64), nodes.astype(float))
        expected = -points / (1 + level.sigma**2)
        size = np.abs(expected).max()
        assert np.allclose(-gradient / level.spacing, expected, atol=2e-3 * size)


def test_the_ladder_holds_the_run_and_ends_where_the_data_drown(scene):
    record, _, levels = scene
    sigmas = [level.sigma for level in levels]
    assert record.sigma in sigmas
    assert sigmas == sorted(sigmas)
    assert sigmas[0] == pytest.approx(0.05)
    assert 2 < sigmas[-1] < 5  # half the window of N(0, I), not the 20 that were learned
    sides = [level.spacing * level.cells for level in levels]
    assert sides == sorted(sides)


def test_the_truth_is_blurred_at_each_level(scene):
    for level in scene[2]:
        steps = level.spacing * (0.5 + np.arange(level.cells))
        x, y = level.low[0] + steps[7], level.low[1] + steps[30]
        variance = 1 + level.sigma**2
        expected = -0.5 * (x * x + y * y) / variance - math.log(2 * math.pi * variance)
        assert level.truth[30, 7] == pytest.approx(max(expected, level.truth.max() - 40), abs=1e-6)


def test_the_errors_bound_what_is_seen(scene):
    # A quadratic is a cubic: only rounding to float32 and the mirrored edge are left.
    for level in scene[2]:
        assert level.energy_error < 1e-2
        assert level.score_error < 1e-2
        assert level.energy_error > 0


def test_a_model_of_one_level_has_one(tmp_path):
    made = known_run(tmp_path / "run")
    record = collect(made.folder, run=made.run, dataset=made.dataset)
    (level,) = levels_on_plane(record, plane_of(record))
    assert level.sigma == record.sigma
    assert level.truth is not None


def test_a_slice_holds_the_energy_of_whole_rows(tmp_path):
    spread = np.array([1.0, 20.0, 0.5])
    made = gaussian_run(tmp_path / "run", (3,), kind="table", spread=spread)
    record = collect(made.folder, run=made.run, dataset=made.dataset)
    plane = plane_of(record)
    level = levels_on_plane(record, plane)[0]
    nodes, points = inner(level)
    found, _ = spline_values(level.coefficients.astype(np.float64), nodes.astype(float))
    rows = torch.tensor(plane.rows(points), dtype=torch.float32)
    expected = made.run.energy.energy.at(level.sigma)(rows / torch.tensor(spread).float())
    assert np.allclose(found, expected.numpy() + np.log(spread).sum(), rtol=1e-4, atol=1e-3)
    assert level.truth is None


def test_an_energy_that_is_not_finite_is_refused(tmp_path):
    made = known_run(tmp_path / "run")
    made.run.energy = lambda x: torch.full((len(x),), float("nan"))
    record = collect(made.folder, run=made.run, dataset=made.dataset)
    with pytest.raises(ValueError, match="finite on the plane"):
        levels_on_plane(record, plane_of(record))
