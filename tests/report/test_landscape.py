from dataclasses import replace

import numpy as np
import pytest
import torch

from basin.report.collect import collect
from basin.report.landscape import landscape, limits
from helpers.run_folders import known_run, mixture


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    made = known_run(tmp_path_factory.mktemp("run") / "two")
    return collect(made.folder, run=made.run, dataset=made.dataset)


def test_grid_holds_the_log_density_of_the_model(record):
    scene = landscape(record, resolution=12, num_arrows=5)
    x, y = scene.x[3], scene.y[7]
    point = torch.tensor([[x, y]], dtype=torch.float32)
    expected = -float(record.run.energy(point)) - 0.031
    assert scene.model[7, 3] == pytest.approx(expected, abs=1e-5)
    assert scene.model[3, 7] != pytest.approx(expected, abs=1e-2)  # a transposed map must show
    assert scene.is_normalised


def test_truth_is_the_blurred_density(record):
    scene = landscape(record, resolution=12, num_arrows=5)
    point = torch.tensor([[scene.x[4], scene.y[2]]], dtype=torch.float32)
    blurred = float(record.density.blurred(0.1).log_prob(point))
    sharp = float(record.density.log_prob(point))
    assert scene.truth[2, 4] == pytest.approx(blurred, abs=1e-5)
    assert abs(blurred - sharp) > 1e-2


def test_scores_are_minus_the_gradient(record):
    scene = landscape(record, resolution=12, num_arrows=5)
    points = torch.tensor(scene.arrows, dtype=torch.float32)
    assert np.allclose(scene.model_score, record.run.energy.score(points).numpy(), atol=1e-5)
    assert np.allclose(scene.true_score, record.truth.score(points).numpy(), atol=1e-5)


def test_difference_vanishes_for_the_truth_only(record):
    perfect = replace(record.run, energy=record.truth.energy, log_z=None)
    right = landscape(replace(record, run=perfect), resolution=120, num_arrows=4)
    assert not right.is_normalised
    assert np.nanmax(np.abs(right.difference)) < 0.02  # mass one in the frame, not in the plane
    wrong = replace(record.run, energy=mixture(2, 0.5), log_z=None)
    mutant = landscape(replace(record, run=wrong), resolution=120, num_arrows=4)
    assert np.nanmax(np.abs(mutant.difference)) > 0.2


def test_only_the_area_that_matters_is_compared(record):
    difference = landscape(record, resolution=80, num_arrows=4).difference
    assert 0.02 < np.isfinite(difference).mean() < 0.8


def test_unnormalised_energies_are_scaled_to_mass_one(record):
    shifted = replace(record.run, log_z=None)
    scene = landscape(replace(record, run=shifted), resolution=100, num_arrows=4)
    cell = (scene.x[1] - scene.x[0]) * (scene.y[1] - scene.y[0])
    assert np.exp(scene.model).sum() * cell == pytest.approx(1.0, abs=1e-6)


def test_refuses_what_it_cannot_draw(record):
    with pytest.raises(ValueError, match="could not be loaded"):
        landscape(replace(record, run=None))
    config = {**record.config, "data": {"event_shape": [3]}}
    with pytest.raises(ValueError, match="1 or 2 dimensions, got 3"):
        landscape(replace(record, config=config))


@pytest.mark.parametrize("values", [[], [5.0], [0.0, 0.0], [np.nan, 1.0], [1e30, 1e30]])
def test_limits_are_never_empty(values):
    low, high = limits(np.asarray(values))
    assert low < high
