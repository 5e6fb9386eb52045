"""log Z in one to three dimensions by composite Gauss-Legendre quadrature, with its error.

    Z ≈ Σ_i w_i exp(-E(x_i))        x_i, w_i: 4 Gauss-Legendre nodes in each of P^d panels of a box

Source: Davis & Rabinowitz 1984, Methods of Numerical Integration, on composite Gauss rules. P is
doubled until two resolutions agree to ``tolerance``; their difference bounds the error of the
coarser one, so it is a careful bound for the finer one. To it comes the mass outside the box:
measured up to twice the box, and extrapolated beyond.

What it cannot see: a peak much narrower than a panel that every resolution misses, and, where the
box is looked for, mass that lies far out beyond a gap (see ``find_bounds``).
Cost: up to ``max_evaluations`` energies for the finest resolution, about 1.3 times that in all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from basin.core.validation import all_finite, positive, positive_integer, same_event_shape
from basin.partition.blocks import energies_in_blocks
from basin.partition.log_z import LogZ

__all__ = ["MassOutside", "find_bounds", "mass_outside", "quadrature"]

_ORDER = 4
_FIRST_PANELS = {1: 256, 2: 48, 3: 8}
_RING_PANELS = {1: 256, 2: 48, 3: 16}  # multiples of 8: box, 1.5 box and 2 box end on panel edges
_SEARCH_POINTS = {1: 2001, 2: 201, 3: 41}
_QUIET_SHELLS = 4  # twofold shells without mass that end the search: a gap up to 16 times the rest
_NEGLIGIBLE = 1e-12  # mass, relative to the whole, that no value of float32 energies can show


class MassOutside(NamedTuple):
    """log mass between a box and twice the box, its error in logs, and log mass beyond."""

    log_ring: float
    error: float
    log_beyond: float


def quadrature(
    energy: Any,
    bounds: Tensor | Sequence[Any] | None = None,
    *,
    event_shape: Sequence[int] | None = None,
    tolerance: float = 1e-4,
    max_evaluations: int = 1_000_000,
    checks_outside: bool = True,
    block: int = 8192,
) -> LogZ:
    """log Z of ``energy`` over a box of one to three dimensions.

    Args:
        energy: ``[batch, *event] -> [batch]`` in nats, the event of at most three coordinates;
            ``noisy.at(sigma)`` for a noise-conditional one.
        bounds: ``[*event, 2]`` lower and upper ends; ``None`` looks for the box, which needs
            ``energy.event_shape`` or ``event_shape``.
        event_shape: shape of one point when there are no bounds.
        tolerance: wanted error of log Z in nats, > 0.
        max_evaluations: most points of the finest grid. When it ends the search first, the value
            comes with the larger error that it has.
        checks_outside: measure the mass outside the box. Say ``False`` when the box is the whole
            support and the energy means nothing beyond it.
        block: points evaluated at a time.

    Returns:
        A :class:`LogZ` of kind ``"exact"``: ``log_z`` is the integral over the box, ``lower`` and
        ``upper`` enclose the numerical error and the mass outside (``upper`` is infinite when
        exp(-E) does not fall off there).

    Raises:
        ValueError: more than three dimensions, an empty or infinite box, an energy that is NaN or
            +inf everywhere.

    Example:
        >>> found = quadrature(lambda x: 0.5 * x.square().sum(1), [[-9.0, 9.0], [-9.0, 9.0]])
        >>> round(found.log_z, 6), found.error < 1e-9  # log 2π
        (1.837877, True)
    """
    positive(tolerance=tolerance)
    positive_integer(max_evaluations=max_evaluations, block=block)
    if bounds is None:
        bounds = find_bounds(energy, event_shape, block=block)
    box, shape = _box_of(bounds)
    dim = len(box)
    num_panels = _FIRST_PANELS[dim]
    value = _log_integral(energy, box, shape, num_panels, block)
    difference = math.inf
    while difference > tolerance and (2 * num_panels * _ORDER) ** dim <= max_evaluations:
        num_panels *= 2
        previous, value = value, _log_integral(energy, box, shape, num_panels, block)
        difference = abs(value - previous) if math.isfinite(previous) else math.inf
    if not math.isfinite(value):
        raise ValueError(
            f"exp(-energy) must have mass inside the box, got none at {num_panels * _ORDER} points "
            f"a side of {box.tolist()}; give bounds that hold it"
        )
    upper = value + difference
    if checks_outside:
        outside = mass_outside(energy, bounds, log_inside=value, block=block)
        upper = float(
            np.logaddexp.reduce([upper, outside.log_ring + outside.error, outside.log_beyond])
        )
    rounding = 8 * torch.finfo(torch.float64).eps * max(1.0, abs(value))
    return LogZ(
        log_z=value,
        standard_error=0.0,
        lower=value - max(difference, rounding),
        upper=max(upper, value + rounding),
        effective_sample_size=None,
        method="quadrature",
        kind="exact",
    )


def mass_outside(
    energy: Any,
    bounds: Tensor | Sequence[Any],
    *,
    log_inside: float,
    block: int = 8192,
) -> MassOutside:
    """log ∫ exp(-E) between the box and twice the box about its centre, and an estimate beyond.

    Beyond, the mass is taken to fall at the rate seen from 1-1.5 boxes to 1.5-2 boxes: too much
    for Gaussian tails, right for exponential ones, infinite where it does not fall.

    Args:
        energy: ``[batch, *event] -> [batch]``.
        bounds: ``[*event, 2]``.
        log_inside: log mass inside the box, to tell what is negligible beside it.
        block: points evaluated at a time.
    """
    box, shape = _box_of(bounds)
    centre, half = box.mean(dim=1), (box[:, 1] - box[:, 0]) / 2
    wide = torch.stack([centre - 2 * half, centre + 2 * half], dim=1)
    rings = []
    for num_panels in (_RING_PANELS[len(box)] // 2, _RING_PANELS[len(box)]):
        points, log_weights = _nodes(wide, num_panels)
        distance = ((points - centre) / half).abs().amax(dim=1)
        is_outside = distance > 1
        points, log_weights = points[is_outside], log_weights[is_outside]
        terms = log_weights - energies_in_blocks(energy, points.reshape(-1, *shape), block=block)
        near = distance[is_outside] <= 1.5
        rings.append((_log_sum(terms[near]), _log_sum(terms[~near])))
    (coarse_near, coarse_far), (near, far) = rings
    log_ring = float(np.logaddexp(near, far))
    coarse = float(np.logaddexp(coarse_near, coarse_far))
    error = abs(log_ring - coarse) if math.isfinite(log_ring) and math.isfinite(coarse) else 0.0
    if far < log_inside + math.log(_NEGLIGIBLE):
        return MassOutside(log_ring, error, far)
    rate = far - near
    beyond = far + rate - math.log1p(-math.exp(rate)) if rate < 0 else math.inf
    return MassOutside(log_ring, error, beyond)


def find_bounds(
    energy: Any,
    event_shape: Sequence[int] | None = None,
    *,
    points: Tensor | None = None,
    block: int = 8192,
) -> Tensor:
    """``[*event, 2]`` box that holds the mass of exp(-E), found on grids of growing size.

    Cubes about the origin grow twofold until four successive shells add less than 1e-9 of the mass;
    then the box is shrunk to where the density is above exp(-30) of its largest value. A mode more
    than 16 times as far out as all the others is missed, and so is one much narrower than the
    grid's cells, unless ``points`` name it.

    Args:
        energy: ``[batch, *event] -> [batch]``.
        event_shape: shape of one point; ``energy.event_shape`` by default.
        points: places where mass is expected, ``[n, *event]`` (rows of data); the box holds them.
        block: points evaluated at a time.

    Raises:
        ValueError: no end is found (exp(-E) does not fall off), or the event is unknown.
    """
    if event_shape is None:
        event_shape = getattr(energy, "event_shape", None)
    if event_shape is None:
        raise ValueError(
            "bounds must be given for an energy without event_shape; give bounds or event_shape"
        )
    shape = tuple(event_shape)
    dim = math.prod(shape)
    _require_few_dimensions(dim)
    named = torch.empty(0, dim, dtype=torch.float64)
    if points is not None:
        same_event_shape("points", points, shape)
        all_finite("points", points)
        named = points.reshape(-1, dim).double().cpu()
    reach = float(named.abs().max()) if len(named) else 0.0
    total, quiet_shells, loud_radius, radius = -math.inf, 0, 1.0, 0.5
    while quiet_shells < _QUIET_SHELLS or radius < reach:
        radius *= 2
        if radius > 2**24:
            raise ValueError(
                "exp(-energy) must fall off to have a log Z, got no end of its mass up to "
                f"|x| = {radius / 2:.0f}; give bounds, or confine the energy"
            )
        lattice, log_values = _on_lattice(energy, _cube(radius, dim), shape, block)
        is_new = lattice.abs().amax(dim=1) > radius / 2 if radius > 1 else slice(None)
        log_cell = dim * math.log(2 * radius / (_SEARCH_POINTS[dim] - 1))
        shell = _log_sum(log_values[is_new]) + log_cell
        total = float(np.logaddexp(total, shell))
        has_mass = math.isfinite(total)
        quiet_shells = quiet_shells + 1 if has_mass and shell < total + math.log(1e-9) else 0
        loud_radius = loud_radius if quiet_shells else radius
    # Not the last cube: its lattice is too coarse to see the modes that are now to be enclosed.
    box = _cube(2 * max(loud_radius, reach), dim)
    for _ in range(4):
        points_of_box, log_values = _on_lattice(energy, box, shape, block)
        held = torch.cat([points_of_box[log_values > log_values.max() - 30], named])
        cell = (box[:, 1] - box[:, 0]) / (_SEARCH_POINTS[dim] - 1)
        shrunk = torch.stack([held.amin(dim=0) - cell, held.amax(dim=0) + cell], dim=1)
        box = torch.stack(
            [torch.maximum(box[:, 0], shrunk[:, 0]), torch.minimum(box[:, 1], shrunk[:, 1])], dim=1
        )
    return box.reshape(*shape, 2)


def _box_of(bounds: Tensor | Sequence[Any]) -> tuple[Tensor, tuple[int, ...]]:
    """``[d, 2]`` of float64 and the event shape, checked."""
    tensor = torch.as_tensor(bounds, dtype=torch.float64).cpu()
    if tensor.ndim == 0 or tensor.shape[-1] != 2:
        raise ValueError(f"bounds must have shape (*event, 2), got {tuple(tensor.shape)}")
    shape = tuple(tensor.shape[:-1])
    box = tensor.reshape(-1, 2)
    _require_few_dimensions(len(box))
    if not bool(torch.isfinite(box).all()) or bool((box[:, 0] >= box[:, 1]).any()):
        raise ValueError(f"bounds must be finite with lower < upper, got {tensor.tolist()}")
    return box, shape


def _require_few_dimensions(dim: int) -> None:
    if not 1 <= dim <= 3:
        raise ValueError(
            f"quadrature must have 1 to 3 dimensions, got {dim}; use gaussian_reference "
            "(importance sampling, a Gaussian near the mass) or, for a noise-conditional energy, "
            "heat_residual"
        )


def _cube(radius: float, dim: int) -> Tensor:
    return torch.tensor([[-radius, radius]] * dim, dtype=torch.float64)


def _on_lattice(
    energy: Any, box: Tensor, shape: tuple[int, ...], block: int
) -> tuple[Tensor, Tensor]:
    """Points ``[n, d]`` of an even lattice over the box and log densities ``[n]`` there."""
    axes = [
        torch.linspace(float(low), float(high), _SEARCH_POINTS[len(box)], dtype=torch.float64)
        for low, high in box
    ]
    points = torch.cartesian_prod(*axes).reshape(-1, len(box))
    return points, -energies_in_blocks(energy, points.reshape(-1, *shape), block=block)


def _nodes(box: Tensor, num_panels: int) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre points ``[n, d]`` of the box and their log weights ``[n]``."""
    standard, standard_weights = np.polynomial.legendre.leggauss(_ORDER)
    axes, log_weights = [], []
    for low, high in box.tolist():
        half = (high - low) / (2 * num_panels)
        centres = low + half * (2 * torch.arange(num_panels, dtype=torch.float64) + 1)
        axes.append((centres[:, None] + half * torch.from_numpy(standard)).flatten())
        log_weights.append((half * torch.from_numpy(standard_weights)).log().repeat(num_panels))
    points = torch.cartesian_prod(*axes).reshape(-1, len(box))
    weights = torch.cartesian_prod(*log_weights).reshape(-1, len(box)).sum(dim=1)
    return points, weights


def _log_integral(
    energy: Any, box: Tensor, shape: tuple[int, ...], num_panels: int, block: int
) -> float:
    points, log_weights = _nodes(box, num_panels)
    values = energies_in_blocks(energy, points.reshape(-1, *shape), block=block)
    return _log_sum(log_weights - values)


def _log_sum(terms: Tensor) -> float:
    return float(torch.logsumexp(terms, dim=0)) if len(terms) else -math.inf
