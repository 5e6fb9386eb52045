import numpy as np
import pytest

from basin.report.collect import collect
from basin.report.explorer.plane import plane_of
from helpers.explored_runs import gaussian_run


def record_of(made):
    return collect(made.folder, run=made.run, dataset=made.dataset)


def test_two_dimensions_are_shown_whole(tmp_path):
    plane = plane_of(record_of(gaussian_run(tmp_path / "run")))
    points = np.array([[0.3, -2.0], [1.0, 4.0]])
    assert np.array_equal(plane.rows(points), points)
    assert not plane.is_slice
    assert plane.names == ("x₁", "x₂")


def test_a_table_of_two_columns_is_shown_in_standardised_coordinates(tmp_path):
    made = gaussian_run(
        tmp_path / "run", kind="table", spread=np.array([10.0, 0.1]), columns=["a", "<b>"]
    )
    plane = plane_of(record_of(made))
    assert np.allclose(plane.rows(np.array([[1.0, 2.0]])), [[10.0, 0.2]])
    assert plane.ticks == ((0.0, 10.0), (0.0, 0.1))
    assert plane.names == ("a", "<b>")  # escaped where it is written


def test_the_plane_follows_the_two_main_directions(tmp_path):
    made = gaussian_run(tmp_path / "run", (5,), kind="table", spread=np.array([1, 1, 1, 1, 1.0]))
    record = record_of(made)
    assert record.data is not None
    rows = record.data.copy()
    rows[:, 3] *= 5
    rows[:, 1] *= 3
    object.__setattr__(record, "data", rows)
    plane = plane_of(record)
    assert plane.is_slice
    assert np.abs(plane.directions[0, 3]) > 0.99
    assert np.abs(plane.directions[1, 1]) > 0.99
    # Variances 25, 9, 1, 1, 1 of 37; the shares of 1,000 rows are off by a few hundredths.
    assert plane.explained == pytest.approx((25 / 37, 9 / 37), abs=0.05)
    points = np.array([[0.5, -1.0], [2.0, 0.0]])
    assert np.allclose(plane.project(plane.rows(points)), points)
    assert np.allclose(plane.project(rows).mean(axis=0), 0, atol=1e-5)


def test_units_do_not_choose_the_plane(tmp_path):
    spread = np.array([1.0, 1000.0, 1.0])
    made = gaussian_run(tmp_path / "run", (3,), kind="table", spread=spread)
    explained = plane_of(record_of(made)).explained
    assert explained is not None
    assert explained[0] < 0.45  # of standardised columns each direction has about a third


@pytest.mark.parametrize(
    ("shape", "message"),
    [((1,), "at least 2 dimensions, got 1"), ((2001,), "up to 2,000 dimensions, got 2,001")],
)
def test_what_has_no_plane_says_so(tmp_path, shape, message):
    with pytest.raises(ValueError, match=message):
        plane_of(record_of(gaussian_run(tmp_path / "run", shape)))


def test_a_slice_needs_rows(tmp_path):
    record = record_of(gaussian_run(tmp_path / "run", (3,), has_samples=False))
    object.__setattr__(record, "data", None)
    with pytest.raises(ValueError, match="needs data or samples"):
        plane_of(record)
