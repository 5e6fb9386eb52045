"""The plane that an explorer shows: the whole of a 2-D model, or a slice of a larger one.

    x(a) = shift + scale (centre + a_1 directions_1 + a_2 directions_2)

In two dimensions a are the model's own coordinates (standardised for a table), in which the noise
is isotropic. In more, the plane passes through the mean of the data along their two main directions
(principal components of the standardised rows). The energy on it is that of a *slice*: exp(-E) is
there the density given that x lies on the plane, not the density of the projected rows, and the
page says so. Cost: one singular value decomposition of at most ``MAX_PCA_ROWS`` rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from basin.energies.composed.standardised import Standardised
from basin.report.collect import RunRecord

__all__ = ["Plane", "plane_of"]

MAX_PCA_ROWS = 2_000
MAX_COLUMNS = 2_000  # beyond, a grid of energies takes longer than anyone waits


@dataclass(frozen=True)
class Plane:
    """Where the window lies among the rows, and how its axes are called.

    Attributes:
        shift: ``[d]`` standardised rows are (x - shift) / scale.
        scale: ``[d]``.
        centre: ``[d]`` standardised row at a = 0.
        directions: ``[2, d]`` orthonormal, among standardised rows.
        names: of the two axes.
        ticks: for each axis (offset, factor): the number to print at a is offset + factor a.
        is_slice: whether x has coordinates that the plane leaves out.
        explained: share of the variance of the data along each axis; None in two dimensions.
    """

    shift: np.ndarray
    scale: np.ndarray
    centre: np.ndarray
    directions: np.ndarray
    names: tuple[str, str]
    ticks: tuple[tuple[float, float], tuple[float, float]]
    is_slice: bool
    explained: tuple[float, float] | None

    def rows(self, points: np.ndarray) -> np.ndarray:
        """Rows ``[n, d]`` in the user's units at points ``[n, 2]`` of the plane."""
        return self.shift + self.scale * (self.centre + points @ self.directions)

    def project(self, rows: np.ndarray) -> np.ndarray:
        """Points ``[n, 2]`` beneath rows ``[n, d]``: exact in two dimensions, else a projection."""
        standardised = (rows.reshape(len(rows), -1) - self.shift) / self.scale
        return (standardised - self.centre) @ self.directions.T


def plane_of(record: RunRecord) -> Plane:
    """The plane of a run.

    Raises:
        ValueError: one dimension, too many, or no rows that a plane could be laid through.
    """
    dimension = record.dimension
    if dimension < 2:
        raise ValueError(
            f"explore needs a model of at least 2 dimensions, got {dimension}; "
            "basin report draws the density of a line"
        )
    if dimension > MAX_COLUMNS:
        raise ValueError(
            f"explore draws planes of models of up to {MAX_COLUMNS:,} dimensions, got {dimension:,}"
        )
    shift, scale = _standardisation(record.run, dimension)
    if dimension == 2:
        ticks = tuple((float(o), float(f)) for o, f in zip(shift, scale, strict=True))
        names = (record.column(0), record.column(1))
        return Plane(shift, scale, np.zeros(2), np.eye(2), names, (ticks[0], ticks[1]), False, None)
    rows = record.data if record.data is not None else record.samples
    if rows is None or len(rows) < 3:
        raise ValueError(
            "explore needs data or samples to lay a plane through, and this run has neither that "
            "can be read; draw samples first: basin sample DIR"
        )
    flat = rows.reshape(len(rows), -1)[:MAX_PCA_ROWS].astype(np.float64)
    standardised = (flat - shift) / scale
    centre = standardised.mean(axis=0)
    _, singular, directions = np.linalg.svd(standardised - centre, full_matrices=False)
    directions = directions[:2]
    # A sign for each axis, so that the same rows give the same picture on any machine.
    largest = np.abs(directions).argmax(axis=1)
    directions = directions * np.sign(directions[[0, 1], largest])[:, None]
    share = singular[:2] ** 2 / max((singular**2).sum(), np.finfo(float).tiny)
    names = ("1st principal direction", "2nd principal direction")
    ticks = ((0.0, 1.0), (0.0, 1.0))
    explained = (float(share[0]), float(share[1]))
    return Plane(shift, scale, centre, directions, names, ticks, True, explained)


def _standardisation(run: Any, dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """Shift and scale ``[d]`` between the user's units and the model's coordinates."""
    energy = run.energy
    if not isinstance(energy, Standardised):
        return np.zeros(dimension), np.ones(dimension)
    parts = (energy.shift, energy.scale)
    shift, scale = (np.asarray(part.cpu().double().numpy()).reshape(-1) for part in parts)
    return np.broadcast_to(shift, dimension).copy(), np.broadcast_to(scale, dimension).copy()
