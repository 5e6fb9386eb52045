"""A cubic spline through energies on a grid: what the page evaluates in place of the network.

    E(x, y) = sum_ij c_ij B(x/h - i) B(y/h - j)        B: the cubic B-spline, support 4

Twice continuously differentiable, so the gradient that walkers follow is exactly that of the energy
that MALA accepts by. The coefficients solve ``E(grid) = values`` (Unser, Aldroubi & Eden 1993,
IEEE Trans. Signal Process. 41(2), "B-spline signal processing"); SciPy's filter does it, mirroring
at the edges, which costs accuracy in the outermost cells only. Cost: linear in the grid; 16
products a point.
"""

from __future__ import annotations

import numpy as np

__all__ = ["spline_coefficients", "spline_values"]


def spline_coefficients(values: np.ndarray) -> np.ndarray:
    """Coefficients ``[ny, nx]`` of the cubic spline through ``values`` ``[ny, nx]``.

    Example:
        >>> values = np.arange(64.0).reshape(8, 8) ** 1.5
        >>> points = np.array([[3.0, 4.0], [5.0, 2.0]])
        >>> found, _ = spline_values(spline_coefficients(values), points)
        >>> bool(np.allclose(found, values[[4, 2], [3, 5]]))
        True
    """
    from scipy.ndimage import spline_filter  # here: importing Basin waits for no SciPy

    return spline_filter(values, order=3, output=np.float64, mode="mirror")


def spline_values(coefficients: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The spline and its gradient; the page's ``spline.js`` does the same sums.

    Args:
        coefficients: ``[ny, nx]``.
        points: ``[n, 2]`` as (x, y) in cells; at least one cell inside the grid.

    Returns:
        Values ``[n]`` and gradients ``[n, 2]`` per cell.
    """
    corner = np.floor(points).astype(int)
    weight_x, slope_x = _weights(points[:, 0] - corner[:, 0])
    weight_y, slope_y = _weights(points[:, 1] - corner[:, 1])
    offsets = np.arange(-1, 3)
    rows = corner[:, 1, None, None] + offsets[None, :, None]
    columns = corner[:, 0, None, None] + offsets[None, None, :]
    around = coefficients[rows, columns]
    value = np.einsum("nij,ni,nj->n", around, weight_y, weight_x)
    along_x = np.einsum("nij,ni,nj->n", around, weight_y, slope_x)
    along_y = np.einsum("nij,ni,nj->n", around, slope_y, weight_x)
    return value, np.stack([along_x, along_y], axis=1)


def _weights(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The four B-splines that cover ``t`` in [0, 1), and their slopes, ``[n, 4]``."""
    weight = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    slope = [-((1 - t) ** 2), 3 * t**2 - 4 * t, -3 * t**2 + 2 * t + 1, t**2]
    return np.stack(weight, axis=1) / 6, np.stack(slope, axis=1) / 2
