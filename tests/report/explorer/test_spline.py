import numpy as np

from basin.report.explorer.spline import spline_coefficients, spline_values

X, Y = np.meshgrid(np.arange(40.0), np.arange(30.0))


def cubic(x, y):
    return 0.01 * x**3 - 0.2 * x * y**2 + 0.3 * x * y + 2 * y


def slope(x, y):
    along_x = 0.03 * x**2 - 0.2 * y**2 + 0.3 * y
    return np.stack([along_x, -0.4 * x * y + 0.3 * x + 2], axis=1)


def test_it_goes_through_the_values_of_the_grid():
    values = np.random.default_rng(0).standard_normal(X.shape)
    inside = np.s_[1:-2, 1:-2]
    points = np.stack([X[inside].ravel(), Y[inside].ravel()], axis=1)
    found, _ = spline_values(spline_coefficients(values), points)
    assert np.allclose(found, values[inside].ravel(), atol=1e-10)


def test_a_cubic_and_its_gradient_are_exact_away_from_the_edges():
    points = np.random.default_rng(1).uniform([16, 12], [24, 18], (200, 2))
    value, gradient = spline_values(spline_coefficients(cubic(X, Y)), points)
    size = np.abs(cubic(X, Y)).max()
    # What the mirrored edge spoils falls by 2 - sqrt(3) a cell.
    spoilt = size * (2 - 3**0.5) ** 11
    assert np.abs(value - cubic(*points.T)).max() < spoilt
    assert np.abs(gradient - slope(*points.T)).max() < spoilt
    assert np.abs(gradient[:, ::-1] - slope(*points.T)).max() > 1  # the mutant: x for y


def test_the_gradient_is_that_of_the_spline_itself():
    coefficients = np.random.default_rng(2).standard_normal((12, 12))
    points = np.random.default_rng(3).uniform(2, 9, (50, 2))
    _, gradient = spline_values(coefficients, points)
    for axis in range(2):
        step = np.zeros(2)
        step[axis] = 1e-5
        ahead, _ = spline_values(coefficients, points + step)
        behind, _ = spline_values(coefficients, points - step)
        assert np.allclose((ahead - behind) / 2e-5, gradient[:, axis], atol=1e-8)
