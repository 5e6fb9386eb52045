import numpy as np
import pytest
from matplotlib.figure import Figure

from basin.report import figures
from basin.report.collect import RunRecord, collect
from helpers.run_folders import config, history, known_run, rows_run


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    made = known_run(tmp_path_factory.mktemp("run") / "two")
    return collect(made.folder, run=made.run, dataset=made.dataset)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    data = np.random.default_rng(0).normal(size=(60, 1, 8, 8)).astype(np.float32)
    made = rows_run(tmp_path_factory.mktemp("run") / "images", data, data[:20] + 1, "images")
    return collect(made.folder, run=made.run, dataset=made.dataset)


def test_panels_of_a_plane(plane):
    figure = figures.plot_panels(plane)
    assert isinstance(figure, Figure)
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles[0] == "data"
    assert len(titles) == 6


def test_panels_without_a_truth(plane):
    bare = RunRecord(None, plane.config, samples=plane.samples, data=plane.data, run=plane.run)
    titles = [ax.get_title() for ax in figures.plot_panels(bare).axes if ax.get_title()]
    assert titles == [
        "data",
        "samples of the model",
        "model: log pθ = −E − log Z",
        "model: score −∇E",
    ]


def test_a_run_in_memory_is_enough(plane):
    plane.run.folder = None
    assert figures.plot_losses(plane.run).axes
    record = collect(plane.run, dataset=None)
    assert record.samples.shape == (2000, 2)


def test_every_other_figure(plane, images):
    assert len(figures.plot_pairs(plane).axes) == 4
    assert len(figures.plot_pairs(plane, max_columns=1).axes) == 1
    assert figures.plot_difference(plane).axes
    assert figures.plot_images(images).axes
    assert figures.plot_images(images, "data", num_images=3).axes
    assert len(figures.plot_neighbours(images).axes) == 8 * 4
    assert len(figures.plot_diagnostics(plane).axes) == 4
    assert figures.plot_mode_weights(["$x", "<b>"], [0.4, 0.6], [0.5, 0.5]).axes


def test_figures_say_what_they_lack(plane, images):
    empty = RunRecord(None, config(5))
    for draw in (figures.plot_pairs, figures.plot_losses, figures.plot_diagnostics):
        with pytest.raises(ValueError, match="needs"):
            draw(empty)
    for draw in (figures.plot_panels, figures.plot_images, figures.plot_neighbours):
        with pytest.raises(ValueError, match="needs"):
            draw(empty)
    with pytest.raises(ValueError, match="which must be"):
        figures.plot_images(images, "dreams")
    with pytest.raises(ValueError, match="by level"):
        figures.plot_loss_by_level(plane)


def test_no_global_state_is_touched(plane):
    import matplotlib

    before = dict(matplotlib.rcParams)
    figures.plot_losses(plane)
    assert dict(matplotlib.rcParams) == before


def test_nearest_agrees_with_all_distances():
    random = np.random.default_rng(0)
    x, rows = random.normal(size=(7, 2, 3)), random.normal(size=(50, 2, 3)).astype(np.float32)
    index, distance = figures.nearest(x, rows, 3)
    every = np.sqrt(np.square(x.reshape(7, 1, 6) - rows.reshape(1, 50, 6)).sum(axis=2))
    assert np.array_equal(index, np.argsort(every, axis=1)[:, :3])
    assert np.allclose(distance, np.sort(every, axis=1)[:, :3])
    assert figures.nearest(x, rows[:2], 3)[0].shape == (7, 2)


@pytest.mark.parametrize(
    ("shape", "image"),
    [
        ((64,), (8, 8)),
        ((8, 9), (8, 9)),
        ((1, 8, 9), (8, 9)),
        ((8, 9, 1), (8, 9)),
        ((3, 8, 9), (8, 9, 3)),
        ((8, 9, 3), (8, 9, 3)),
        ((63,), None),
        ((2, 8, 9), None),
        ((1, 1, 8, 9), None),
    ],
)
def test_layouts_of_images(shape, image):
    found = figures.as_images(np.zeros((4, *shape)))
    assert (None if found is None else found.shape) == (None if image is None else (4, *image))


def test_smoothing_keeps_the_mean_and_hides_nothing():
    steps = np.arange(10_000.0)
    values = np.random.default_rng(0).normal(size=10_000)
    smooth_steps, smooth = figures.smoothed(steps, values, 100)
    assert len(smooth) == 100
    assert smooth.mean() == pytest.approx(values.mean())
    assert (np.diff(smooth_steps) > 0).all()
    values[5_000] = np.nan
    assert np.isnan(figures.smoothed(steps, values, 100)[1]).sum() == 1


def test_ema_is_divided_by_the_same_trivial_loss():
    rows = [{"step": 1, "relative_loss": 0.5, "loss": 1.0}]
    rows[0] |= {"validation_loss": 4.0, "validation_relative": 0.8, "validation_loss_ema": 3.0}
    lines = figures.loss_lines(RunRecord(None, {}, tuple(rows)))
    assert lines["ema"][1].tolist() == pytest.approx([0.6])


def test_a_long_history_stays_small():
    rows = tuple({**row, "step": i} for i, row in enumerate(history(400, 1) * 50))
    record = RunRecord(None, {}, rows)
    longest = max(len(line.get_xdata()) for line in figures.plot_losses(record).axes[0].lines)
    assert longest <= 1_600
