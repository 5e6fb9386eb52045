"""Truth and model on one grid: what every exact check in two dimensions starts from.

    ∫ f(x) dx ≈ h₁h₂ Σ f(x_ij)        x_ij: centres of the cells of an even grid over a box

The midpoint rule converges faster than any power of h for smooth functions that vanish at the
border (error about exp(-2π²s²/h²) for detail of size s), which is what a blurred density is. The
number of cells a side is a multiple of three, so the centres of every third cell are themselves a
grid, three times coarser and free of charge: the difference of the two bounds the error.

Cost: one evaluation of both densities at ``num_points`` squared points, and of the model at about
46,000 points more to see its mass outside the box.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from basin.core.types import Density
from basin.core.validation import positive_integer
from basin.partition.blocks import energies_in_blocks
from basin.partition.quadrature import mass_outside

__all__ = ["Grid", "grid_of"]

_NUM_POINTS = 408  # a multiple of 24: squares and thirds of the box both end on cell borders


class _OnGrid(Protocol):
    """A number computed from the grid taken with every ``stride``-th cell."""

    def __call__(self, grid: Grid, stride: int, /) -> float: ...


@dataclass(frozen=True, eq=False)
class Grid:
    """log density of the truth and energy of the model at the cell centres of a box.

    Args:
        bounds: ``[2, 2]`` box, in float64.
        points: ``[side, side, 2]`` cell centres.
        log_truth: ``[side, side]`` log density of the truth.
        energies: ``[side, side]`` energies of the model.
        log_outside: log mass of exp(-E) between the box and twice the box.
        log_outside_error: numerical error of that.
        log_beyond: estimated log mass beyond twice the box; infinite where exp(-E) does not fall
            off there.
    """

    bounds: Tensor
    points: Tensor
    log_truth: Tensor
    energies: Tensor
    log_outside: float
    log_outside_error: float
    log_beyond: float

    @property
    def side(self) -> int:
        """Cells a side."""
        return len(self.energies)

    def every(self, values: Tensor, stride: int) -> Tensor:
        """The centre of each ``stride`` × ``stride`` block of cells (odd strides)."""
        first = stride // 2
        return values[first::stride, first::stride]

    def log_cell(self, stride: int = 1) -> float:
        """log area of one cell."""
        widths = self.bounds[:, 1] - self.bounds[:, 0]
        return float((widths * stride / self.side).log().sum())

    def log_z_inside(self, stride: int = 1) -> float:
        """log ∫ exp(-E) over the box."""
        values = -self.every(self.energies, stride)
        return float(torch.logsumexp(values.flatten(), 0)) + self.log_cell(stride)

    def log_z(self, stride: int = 1) -> float:
        """log ∫ exp(-E) over twice the box."""
        return float(np.logaddexp(self.log_z_inside(stride), self.log_outside))

    def truth_mass(self, stride: int = 1) -> float:
        """∫ of the truth over the box; 1 up to the error of the grid."""
        values = self.every(self.log_truth, stride)
        return math.exp(float(torch.logsumexp(values.flatten(), 0)) + self.log_cell(stride))

    @property
    def truth_missing(self) -> float:
        """How far the truth's mass on the grid is from 1: cut by the box, or missed by cells."""
        return abs(self.truth_mass() - 1)

    @property
    def share_outside(self) -> float:
        """Share of the mass of the model (up to twice the box) that lies outside the box."""
        return math.exp(self.log_outside - self.log_z())

    @property
    def falls_off(self) -> bool:
        """Whether exp(-E) is seen to fall off outside the box, so that Z is finite."""
        return self.log_beyond < math.inf

    def with_error(self, quantity: _OnGrid) -> tuple[float, float]:
        """A quantity on the whole grid, and its numerical error.

        The error is the difference from the three times coarser grid, and what the mass outside
        the box is unsure of; without the mass beyond twice the box where that cannot be bounded.
        """
        fine, coarse = quantity(self, 1), quantity(self, 3)
        if not (math.isfinite(fine) and math.isfinite(coarse)):
            return fine, math.inf
        unsure = self.share_outside * self.log_outside_error
        if self.falls_off:
            unsure += math.exp(self.log_beyond - self.log_z())
        return fine, abs(fine - coarse) + unsure


def grid_of(
    energy: Any,
    density: Density,
    *,
    bounds: Tensor | Sequence[Any] | None = None,
    num_points: int = _NUM_POINTS,
    block: int = 8192,
) -> Grid:
    """Evaluate a model and the truth on the cells of a box in two dimensions.

    Args:
        energy: ``[batch, 2] -> [batch]``; ``noisy.at(sigma)`` for a noise-conditional one.
        density: the truth, blurred to the noise level that the energy is about.
        bounds: ``[2, 2]`` box; ``density.bounds`` by default.
        num_points: cells a side, rounded up to a multiple of three.
        block: points evaluated at a time.

    Raises:
        ValueError: not two dimensions, an infinite box, or a truth whose mass in the box is not
            one to 5% (bounds that cut it, or too coarse a grid).
    """
    positive_integer(num_points=num_points, block=block)
    if tuple(density.event_shape) != (2,):
        raise ValueError(
            f"density must be two-dimensional for checks on a grid, got event_shape "
            f"{tuple(density.event_shape)}; in other dimensions use mmd, energy_gap or "
            "held_out_log_likelihood"
        )
    box = torch.as_tensor(density.bounds if bounds is None else bounds).double().cpu()
    if box.shape != (2, 2) or not bool(torch.isfinite(box).all() & (box[:, 0] < box[:, 1]).all()):
        raise ValueError(
            f"bounds must be finite, of shape (2, 2), lower < upper, got {box.tolist()}"
        )
    side = 3 * math.ceil(num_points / 3)
    steps = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    axes = [low + (high - low) * steps for low, high in box.tolist()]
    points = torch.cartesian_prod(*axes)
    log_truth = torch.cat([density.log_prob(rows) for rows in points.split(8 * block)]).double()
    energies = energies_in_blocks(energy, points, block=block)
    log_cell = float(((box[:, 1] - box[:, 0]) / side).log().sum())
    log_inside = float(torch.logsumexp(-energies, 0)) + log_cell
    if not math.isfinite(log_inside):
        raise ValueError(f"exp(-energy) must have mass inside {box.tolist()}, got none on the grid")
    outside = mass_outside(energy, box, log_inside=log_inside, block=block)
    grid = Grid(
        bounds=box,
        points=points.reshape(side, side, 2),
        log_truth=log_truth.reshape(side, side),
        energies=energies.reshape(side, side),
        log_outside=outside.log_ring,
        log_outside_error=outside.error,
        log_beyond=outside.log_beyond,
    )
    if not grid.truth_missing <= 0.05:
        raise ValueError(
            f"density must have mass 1 inside the box, got {grid.truth_mass():.4f} on {side} x "
            f"{side} cells of {box.tolist()}; widen bounds or raise num_points"
        )
    return grid
