"""The model and, where it is known, the truth on a grid: log densities and scores in 1-D, 2-D.

    log pθ(x) = -E(x) - log Z        s(x) = -∇E(x)        truth: log pσ and ∇ log pσ at the same σ

A run without log Z gives -E up to a constant; that constant is then chosen so that the grid's mass
is one, and ``is_normalised`` is false. Cost: ``resolution²`` energies and ``arrows²`` scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from basin.core.gradients import score
from basin.core.types import Density
from basin.report.collect import RunRecord

__all__ = ["Landscape", "landscape"]

CHUNK = 16_384  # rows per call of an energy: bounds the memory of a wide network


@dataclass(frozen=True)
class Landscape:
    """Values on a regular grid; arrays of scores are ``None`` in one dimension.

    Attributes:
        x: ``[n]`` first coordinate of the grid.
        y: ``[n]`` second coordinate, empty in one dimension.
        model: log density of the model, ``[n]`` or ``[n (y), n (x)]``.
        truth: log density of the blurred data, same shape, or ``None``.
        arrows: ``[m, 2]`` points where scores are drawn.
        model_score: ``[m, 2]``.
        true_score: ``[m, 2]`` or ``None``.
        is_normalised: whether ``model`` uses the run's own log Z.
    """

    x: np.ndarray
    y: np.ndarray
    model: np.ndarray
    truth: np.ndarray | None
    arrows: np.ndarray | None
    model_score: np.ndarray | None
    true_score: np.ndarray | None
    is_normalised: bool

    @property
    def difference(self) -> np.ndarray:
        """log pθ − log pσ where 99.9 % of pσ lies, NaN elsewhere.

        Raises:
            ValueError: the truth is not known.
        """
        if self.truth is None:
            raise ValueError("difference needs the truth, and this data set has no known density")
        mass = np.exp(self.truth - self.truth.max())
        ordered = np.sort(mass.ravel())[::-1]
        enough = int(np.searchsorted(np.cumsum(ordered), 0.999 * ordered.sum()))
        threshold = ordered[min(enough, len(ordered) - 1)]
        return np.where(mass >= threshold, self.model - self.truth, np.nan)


def landscape(record: RunRecord, *, resolution: int = 160, num_arrows: int = 24) -> Landscape:
    """Evaluate a 1-D or 2-D run on a grid around its data and samples.

    Args:
        record: what :func:`basin.report.collect` returned; its run must have loaded.
        resolution: points per axis.
        num_arrows: score arrows per axis.

    Raises:
        ValueError: the run has no energy, or more than two dimensions.
    """
    if record.run is None:
        raise ValueError("landscape needs the model, and it could not be loaded")
    if record.dimension not in (1, 2):
        raise ValueError(f"landscape needs 1 or 2 dimensions, got {record.dimension}")
    axes = [np.linspace(low, high, resolution) for low, high in box(record)]
    if record.dimension == 1:
        axes = [np.linspace(*box(record)[0], 4 * resolution)]
    grid = _points(axes, record.event_shape)
    model, is_normalised = _model_log_density(record, grid)
    shape = tuple(len(axis) for axis in reversed(axes))
    model = model.reshape(shape)
    if not is_normalised:
        cell = np.prod([axis[1] - axis[0] for axis in axes])
        top = model.max()
        model = model - (top + np.log(np.exp(model - top).sum() * cell))
    truth = record.truth
    true = None if truth is None else _numpy(_chunks(truth.log_prob, grid.double())).reshape(shape)
    if record.dimension == 1:
        return Landscape(axes[0], np.empty(0), model, true, None, None, None, is_normalised)
    coarse = [_centres(axis, num_arrows) for axis in axes]
    points = _points(coarse, record.event_shape)
    energy = record.run.energy_at(record.sigma)
    arrows = _numpy(_chunks(lambda x: score(energy, _like(record.run, x)), points)).reshape(-1, 2)
    return Landscape(
        axes[0],
        axes[1],
        model,
        true,
        _numpy(points).reshape(-1, 2),
        arrows,
        None if truth is None else _true_score(truth, points),
        is_normalised,
    )


def box(record: RunRecord) -> list[tuple[float, float]]:
    """Axis limits that hold the data; of a density without draws its bounds, else the samples."""
    rows = record.data if record.data is not None else record.samples
    if rows is not None and len(rows):
        flat = rows.reshape(len(rows), -1)
        return [limits(flat[:, i]) for i in range(record.dimension)]
    if record.density is not None:
        return [(float(low), float(high)) for low, high in record.density.bounds.reshape(-1, 2)]
    return [(-5.0, 5.0)] * record.dimension


def limits(values: np.ndarray) -> tuple[float, float]:
    """An interval for an axis: the central 99.6 % and a margin, never empty."""
    finite = values[np.isfinite(values)].astype(np.float64)
    if not len(finite):
        return -1.0, 1.0
    low, high = np.quantile(finite, [0.002, 0.998])
    margin = 0.08 * (high - low) or 0.5 * max(abs(low), 1.0)
    return float(low - margin), float(high + margin)


def _model_log_density(record: RunRecord, grid: Tensor) -> tuple[np.ndarray, bool]:
    """log pθ by the run's own log Z, or −E up to a constant when it has none."""
    run, sigma = record.run, record.sigma
    if getattr(run, "log_z", None) is not None:
        values = _chunks(lambda x: run.log_prob(_like(run, x), sigma=sigma), grid)
        return _numpy(values), True
    energy = run.energy_at(sigma)
    with torch.no_grad():
        return _numpy(_chunks(lambda x: -energy(_like(run, x)), grid)), False


def _true_score(truth: Density, points: Tensor) -> np.ndarray | None:
    if not truth.is_smooth:
        return None
    return _numpy(_chunks(truth.score, points.double())).reshape(-1, 2)


def _points(axes: list[np.ndarray], event_shape: tuple[int, ...]) -> Tensor:
    """Grid points ``[n, *event]``, the first coordinate running fastest."""
    mesh = np.meshgrid(*axes)
    flat = np.stack([part.ravel() for part in mesh], axis=1)
    return torch.from_numpy(flat).to(torch.float32).reshape(-1, *event_shape)


def _centres(axis: np.ndarray, n: int) -> np.ndarray:
    edges = np.linspace(axis[0], axis[-1], n + 1)
    return (edges[1:] + edges[:-1]) / 2


def _chunks(function: Any, x: Tensor) -> Tensor:
    return torch.cat([function(part).detach().cpu() for part in x.split(CHUNK)])


def _like(run: Any, x: Tensor) -> Tensor:
    """``x`` in the type and on the device of the model."""
    if not isinstance(run.energy, torch.nn.Module):
        return x
    first = next(run.energy.parameters(), None)
    if first is None:
        return x
    return x.to(device=first.device, dtype=first.dtype)


def _numpy(x: Tensor) -> np.ndarray:
    return x.detach().cpu().to(torch.float64).numpy()
