import numpy as np
import pytest

from basin.report.collect import collect
from basin.report.explorer.walk import NUM_FRAMES, image_walk
from helpers.explored_runs import gaussian_run
from helpers.run_folders import known_run


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    made = gaussian_run(tmp_path_factory.mktemp("run") / "images", (1, 4, 4), kind="images")
    return collect(made.folder, run=made.run, dataset=made.dataset)


def test_it_goes_from_the_largest_level_to_the_runs(record):
    walk = image_walk(record)
    assert walk.sigmas[[0, -1]] == pytest.approx([20.0, 0.1])
    assert np.allclose(np.diff(np.log(walk.sigmas)), np.log(0.1 / 20) / NUM_FRAMES)
    assert walk.noisy.shape == walk.expected.shape == (NUM_FRAMES + 1, 12, 4, 4, 1)
    assert walk.noisy.dtype == np.uint8


def test_what_is_expected_beneath_the_noise_is_tweedies(record):
    walk = image_walk(record)
    low, high = record.data.min(), record.data.max()
    for frame in (10, 25, NUM_FRAMES):
        sigma = walk.sigmas[frame]
        black, white = low - 2 * sigma, high + 2 * sigma
        x = black + walk.noisy[frame] / 255 * (white - black)
        inside = (walk.noisy[frame] > 0) & (walk.noisy[frame] < 255)
        # E[X | x] = x / (1 + sigma^2) for X ~ N(0, I), as grey levels of the data.
        mean = (x / (1 + sigma**2) - low) / (high - low) * 255
        step = (white - black) / (high - low) / (1 + sigma**2)
        error = np.abs(np.clip(mean, 0, 255) - walk.expected[frame])[inside]
        assert error.max() < 1 + step
        wrong = np.abs(np.clip((x - low) / (high - low) * 255, 0, 255) - walk.expected[frame])
        if frame == 10:
            assert wrong[inside].max() > 1 + step  # the mutant: x itself


def test_the_same_seed_gives_the_same_walk(record):
    assert np.array_equal(image_walk(record).noisy, image_walk(record).noisy)
    assert not np.array_equal(image_walk(record).noisy, image_walk(record, seed=1).noisy)


def test_what_cannot_walk_says_why(tmp_path):
    made = known_run(tmp_path / "run")
    with pytest.raises(ValueError, match="drawn for images"):
        image_walk(collect(made.folder, run=made.run, dataset=made.dataset))
    made = gaussian_run(tmp_path / "one", (1, 4, 4), kind="images")
    made.run.has_noise_levels = False
    with pytest.raises(ValueError, match="all noise levels"):
        image_walk(collect(made.folder, run=made.run, dataset=made.dataset))
