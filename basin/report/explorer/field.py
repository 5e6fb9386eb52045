"""The energy on the plane at each noise level of a ladder, ready for the page.

    level sigma:  E(., sigma) on a square grid of spacing h  ->  spline coefficients
                  log p_sigma at the middles of the cells, where the truth is known

Each level has its own square, the data's widened by ``REACH`` sigma: what a walker visits there.
The spline stands for the network; ``energy_error`` and ``score_error`` say how well, measured
against it at random points between the grid's. Cost: (``CELLS`` + 17)^2 energies a level.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from basin.core.gradients import score
from basin.core.types import Density
from basin.report.collect import RunRecord
from basin.report.explorer.plane import Plane
from basin.report.explorer.spline import spline_coefficients, spline_values
from basin.report.landscape import limits

__all__ = ["Level", "levels_on_plane"]

CELLS = 120  # a side of a level's square; a multiple of the 40 bins of the page's histogram
CELLS_OF_SLICE = 80  # where a row has more than two coordinates, energies cost more
MARGIN = 8  # cells around it: what the mirrored edge spoils falls by 0.27 a cell
NUM_LEVELS = 9
REACH = 3.0
CHUNK = 16_384
TRUTH_DEPTH = 40.0  # nats below its top at which the embedded truth is cut
NUM_PROBES = 1_000
PROBE_DEPTH = 10.0  # nats above the lowest energy: where walkers are


@dataclass(frozen=True)
class Level:
    """One noise level on its square.

    Attributes:
        sigma: noise level in the model's coordinates, or None for a model without one.
        low: ``(x, y)`` of the square's lower left corner; the grid starts ``MARGIN`` cells before.
        spacing: h, the side of a cell.
        coefficients: ``[n, n]`` of the spline, n = cells + 1 + 2 ``MARGIN``; row = y.
        truth: ``[cells, cells]`` log density of the blurred data at the middles of cells, or None.
        energy_error: largest error of the spline, in nats, at probes within ``PROBE_DEPTH`` nats.
        score_error: root mean square error of its score there, over that of the score.
    """

    sigma: float | None
    low: tuple[float, float]
    spacing: float
    coefficients: np.ndarray
    truth: np.ndarray | None
    energy_error: float
    score_error: float

    @property
    def cells(self) -> int:
        """Cells a side of the square."""
        return len(self.coefficients) - 1 - 2 * MARGIN

    def grid(self) -> np.ndarray:
        """Points ``[n * n, 2]`` of the grid, x running fastest."""
        return _grid(self.low, self.spacing, len(self.coefficients), -MARGIN)


def levels_on_plane(record: RunRecord, plane: Plane) -> tuple[Level, ...]:
    """The levels that the page offers, lowest sigma first."""
    centre, half = _frame(record, plane)
    cells = CELLS_OF_SLICE if plane.is_slice else CELLS
    return tuple(
        _level(record, plane, sigma, centre, half, cells) for sigma in _ladder(record, half)
    )


def _ladder(record: RunRecord, half: float) -> tuple[float | None, ...]:
    """Noise levels from the lowest learned up to the width of the data, the run's own among them.

    Above that width p_sigma is nearly a Gaussian, and there is nothing more to see.
    """
    bounds = record.config.get("noise_levels")
    own = record.sigma
    if not getattr(record.run, "has_noise_levels", False) or not isinstance(bounds, dict):
        return (own,)
    low, high = float(bounds["sigma_min"]), min(float(bounds["sigma_max"]), half)
    if not low < high:
        return (own if own is not None else low,)
    found = np.geomspace(low, high, NUM_LEVELS)
    if own is not None:
        found[np.abs(np.log(found / own)).argmin()] = own
    return tuple(float(sigma) for sigma in found)


def _level(
    record: RunRecord,
    plane: Plane,
    sigma: float | None,
    centre: np.ndarray,
    half: float,
    cells: int,
) -> Level:
    reach = half + REACH * (sigma or 0.0)
    spacing = 2 * reach / cells
    low = (float(centre[0] - reach), float(centre[1] - reach))
    size = cells + 1 + 2 * MARGIN
    energy = record.run.energy_at(sigma)
    points = _grid(low, spacing, size, -MARGIN)
    values = _energies(energy, record, plane, points).reshape(size, size)
    if not np.isfinite(values).all():
        where = "" if sigma is None else f" at sigma {sigma:.4g}"
        raise ValueError(f"energy must be finite on the plane to be explored{where}")
    coefficients = spline_coefficients(values).astype(np.float32)
    errors = _errors(energy, record, plane, coefficients, low, spacing, values.min())
    truth = _truth(record, plane, sigma, low, spacing, cells)
    return Level(sigma, low, spacing, coefficients, truth, *errors)


def _frame(record: RunRecord, plane: Plane) -> tuple[np.ndarray, float]:
    """Centre and half the side of a square that holds the data (else the samples)."""
    for rows in (record.data, record.samples):
        if rows is not None and len(rows):
            points = plane.project(rows)
            box = np.array([limits(points[:, i]) for i in range(2)])
            return box.mean(axis=1), float((box[:, 1] - box[:, 0]).max() / 2)
    return np.zeros(2), 5.0


def _errors(
    energy: Any,
    record: RunRecord,
    plane: Plane,
    coefficients: np.ndarray,
    low: tuple[float, float],
    spacing: float,
    lowest: float,
) -> tuple[float, float]:
    """Largest error of the energy and relative error of the score, where walkers are."""
    cells = len(coefficients) - 1 - 2 * MARGIN
    random = np.random.default_rng(0)
    probes = random.uniform(0, cells, (20 * NUM_PROBES, 2))
    value, gradient = spline_values(coefficients.astype(np.float64), probes + MARGIN)
    near = np.flatnonzero(value < lowest + PROBE_DEPTH)[:NUM_PROBES]
    if not len(near):
        return math.nan, math.nan
    points = np.asarray(low) + spacing * probes[near]
    exact = _energies(energy, record, plane, points)
    rows = _tensor(record, plane, points)
    full = score(energy, rows).detach().cpu().double().numpy().reshape(len(near), -1)
    along = (full * plane.scale) @ plane.directions.T
    error = -gradient[near] / spacing - along
    size = math.sqrt(float((along**2).mean())) or 1.0
    return float(np.abs(value[near] - exact).max()), math.sqrt(float((error**2).mean())) / size


def _truth(
    record: RunRecord,
    plane: Plane,
    sigma: float | None,
    low: tuple[float, float],
    spacing: float,
    cells: int,
) -> np.ndarray | None:
    """log p_sigma in the middles of the cells, cut ``TRUTH_DEPTH`` nats below its top."""
    density: Density | None = record.density
    if density is None or plane.is_slice or len(set(record.scale)) > 1:
        return None
    blurred = density if sigma is None else density.blurred(sigma * record.scale[0])
    rows = plane.rows(_grid(low, spacing, cells, 0.5)).reshape(-1, *record.event_shape)
    parts = torch.from_numpy(rows).split(CHUNK)
    values = torch.cat([blurred.log_prob(part).detach().cpu().double() for part in parts])
    found = values.numpy().reshape(cells, cells)
    return np.maximum(np.nan_to_num(found, neginf=-np.inf), found.max() - TRUTH_DEPTH)


def _grid(low: tuple[float, float], spacing: float, size: int, start: float) -> np.ndarray:
    """Points ``[size * size, 2]``, x running fastest, from ``start`` cells after ``low``."""
    steps = start + np.arange(size)
    x, y = np.meshgrid(low[0] + spacing * steps, low[1] + spacing * steps)
    return np.stack([x.ravel(), y.ravel()], axis=1)


@torch.no_grad()
def _energies(energy: Any, record: RunRecord, plane: Plane, points: np.ndarray) -> np.ndarray:
    # Never more than some 10^7 numbers at once, however many columns a row has.
    step = max(1, min(CHUNK, 10_000_000 // plane.shift.size))
    parts = [
        energy(_tensor(record, plane, points[i : i + step])).detach().cpu().double()
        for i in range(0, len(points), step)
    ]
    return torch.cat(parts).numpy()


def _tensor(record: RunRecord, plane: Plane, points: np.ndarray) -> Tensor:
    """Rows ``[n, *event]`` of the plane, in the type and on the device of the model."""
    rows = torch.from_numpy(plane.rows(points)).reshape(-1, *record.event_shape)
    parameters = getattr(record.run.energy, "parameters", lambda: iter(()))()
    first = next(iter(parameters), None)
    return rows.to(torch.float32) if first is None else rows.to(first)
