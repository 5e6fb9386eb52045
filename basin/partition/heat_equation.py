"""How log Z of a noise-conditional energy drifts along the noise ladder, without sampling it.

The densities pσ of y = x + σz obey the heat equation, ∂p/∂log σ = σ² Δp, that is

    ∂ log p/∂log σ = σ² (Δ log p + ‖∇ log p‖²).

For a model pθ(y; σ) = exp(-E(y, σ)) / Z(σ) with s = -∇E,

    d log Z/d log σ = E_pθ[-∂E/∂log σ]      and      E_pθ[σ² (Δ log pθ + ‖s‖²)] = σ² ∫ Δpθ = 0,

so d log Z/d log σ = E_pθ[r] with the residual of the heat equation

    r(y) = -∂E/∂log σ - σ² (‖s‖² - ΔE),

which for a perfect model is the same number at every y. Its mean is taken over y = x + σz with x
from the data, so that

    log Z(σ) ≈ log Z(σ_max) - ∫ E_pσ[r] d log σ      from σ to σ_max, by the trapezium rule,

exact to first order in the error of the model. What is left out is known in form (Itô along the
reverse of the noising process):

    KL(pσ‖pθ) at σ - the same at σ_max - ∫ σ² F(σ) d log σ,      F: Fisher divergence at σ,

each about the size of the model's KL divergence, and together -∫ Cov(g, r) d log σ for the error g
of log pθ. It cannot be measured without the truth. The interval is widened by

    (∫ sd(r) d log σ)²,

which bounds that covariance (Cauchy-Schwarz) if sd(g) is no larger than what the residual adds up
to on the way down. That "if" makes it a rule, not a bound: an energy near the exact blur of *wrong*
data has a small residual and a large g. The interval held log Z in under-trained two-dimensional
networks (KL from 0.01 to 0.7 nats). A wide interval says: this model is too far from the data for
its log Z to be known in this way. Probes add to sd(r). The mean of r is taken over pairs x ± σz,
but sd(r) over single points: an error of the model that is odd in z (a tilt) is gone from the pairs
and still moves log Z.

Source: derived above; the energy with both derivatives is that of Guth, Kadkhodaie & Simoncelli
2025 (arXiv 2506.05310). It is about pσ in the coordinates in which the noise is isotropic: for a
``Standardised`` energy use the inner energy and standardised rows.
Cost: per row and level one dual score and d Hessian-vector products (d ≤ 16) or ``num_probes``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from basin.core.gradients import dual_score, hutchinson_laplacian, laplacian
from basin.core.tensors import event_sum, normal_like, num_event_dimensions
from basin.core.validation import all_finite, positive, positive_integer
from basin.partition.blocks import home_of
from basin.partition.log_z import NORMAL_95, LogZ

__all__ = ["HeatResidual", "heat_residual", "noise_ladder"]

_EXACT_DIMENSIONS = 16  # up to here the exact trace costs about what good probes cost


@dataclass(frozen=True)
class HeatResidual:
    """The residual at each level and the drift of log Z that it adds up to.

    Args:
        sigmas: the ladder, ascending.
        residual: mean of r at each level: the slope d log Z/d log σ.
        standard_error: of each mean.
        drift: log Z(σ) - log Z(σ_max) at each level; 0 at the last.
        drift_standard_error: of each drift, over rows (levels share rows, so they are not
            independent and the errors do not simply add).
        discretisation: |trapezium rule on all levels - on every other level| down to each level.
        second_order: allowance for the error of the model, (∫ sd(r) d log σ)².
        num_rows: rows of data behind each mean.
    """

    sigmas: tuple[float, ...]
    residual: tuple[float, ...]
    standard_error: tuple[float, ...]
    drift: tuple[float, ...]
    drift_standard_error: tuple[float, ...]
    discretisation: tuple[float, ...]
    second_order: tuple[float, ...]
    num_rows: int

    def log_z(self, sigma: float | None = None, *, log_z_at_top: float = 0.0) -> LogZ:
        """log Z at a level of the ladder (the lowest by default) as an interval.

        ``standard_error`` is the statistical one alone; the interval adds the discretisation and
        the allowance for the second order, which dominate it for a model that fits badly.

        Args:
            sigma: one of ``sigmas``.
            log_z_at_top: log Z at the largest level, known where pσ is a known Gaussian; 0 when
                the energy is normalised there.
        """
        index = 0 if sigma is None else self._index(sigma)
        value = log_z_at_top + self.drift[index]
        error = self.drift_standard_error[index]
        half_width = NORMAL_95 * error + self.discretisation[index] + self.second_order[index]
        return LogZ(
            log_z=value,
            standard_error=error,
            lower=value - half_width,
            upper=value + half_width,
            effective_sample_size=None,
            method=f"heat equation from sigma {self.sigmas[-1]:.3g} to {self.sigmas[index]:.3g}",
            kind="interval",
        )

    def _index(self, sigma: float) -> int:
        for index, level in enumerate(self.sigmas):
            if math.isclose(level, sigma, rel_tol=1e-6):
                return index
        levels = ", ".join(f"{level:.4g}" for level in self.sigmas)
        raise ValueError(f"sigma must be one of the ladder ({levels}), got {sigma!r}")


def noise_ladder(sigma: float, sigma_max: float, num_levels: int = 17) -> list[float]:
    """``num_levels`` log-spaced levels from ``sigma`` to ``sigma_max``, both included.

    >>> [round(level, 3) for level in noise_ladder(0.1, 10.0, 5)]
    [0.1, 0.316, 1.0, 3.162, 10.0]
    """
    positive(sigma=sigma, sigma_max=sigma_max)
    positive_integer(num_levels=num_levels)
    if sigma >= sigma_max or num_levels < 2:
        raise ValueError(
            f"noise_ladder must go up in two levels or more, got sigma={sigma!r}, "
            f"sigma_max={sigma_max!r}, num_levels={num_levels!r}"
        )
    step = math.log(sigma_max / sigma) / (num_levels - 1)
    return [sigma * math.exp(step * level) for level in range(num_levels - 1)] + [sigma_max]


def heat_residual(
    energy: Any,
    x: Tensor,
    sigmas: Sequence[float],
    generator: torch.Generator,
    *,
    num_probes: int = 4,
    block: int = 4096,
) -> HeatResidual:
    """The mean residual of the heat equation at each level and the drift of log Z it implies.

    Args:
        energy: noise-conditional, ``(y [batch, *event], sigma [batch]) -> [batch]``.
        x: rows of data, ``[n, *event]``, in the coordinates where the noise is isotropic; held-out
            rows where there are some. 1,000 to 4,000 rows are plenty for a good model.
        sigmas: levels, two or more, positive, in any order; see :func:`noise_ladder`. An odd
            number lets every other level be a ladder too.
        generator: source of the noise (and of the probes).
        num_probes: Hutchinson probes a row, used above 16 dimensions.
        block: rows at a time.

    Example:
        >>> import torch
        >>> def energy(y, sigma):  # N(0, 1) blurred, but log Z is off by 0.3 log sigma
        ...     variance = 1 + sigma**2
        ...     return 0.5 * y[:, 0]**2 / variance + 0.5 * variance.log() - 0.3 * sigma.log()
        >>> g = torch.Generator().manual_seed(0)
        >>> x = torch.randn(500, 1, generator=g, dtype=torch.float64)
        >>> found = heat_residual(energy, x, noise_ladder(0.1, 10.0), g)
        >>> round(found.drift[0], 4)  # 0.3 log(0.1) - 0.3 log(10)
        -1.3816
    """
    positive_integer(num_probes=num_probes, block=block)
    levels = sorted(float(sigma) for sigma in sigmas)
    for level in levels:
        positive(sigma=level)
    if len(set(levels)) < 2:
        raise ValueError(f"sigmas must hold two different levels or more, got {levels}")
    if len(x) < 2:
        raise ValueError(f"x must have two rows or more, got {len(x)}")
    all_finite("x", x)
    dtype, device = home_of(energy)
    x = x.to(device=device, dtype=dtype or x.dtype)
    rows = torch.stack(
        [_residual_of_rows(energy, x, level, generator, num_probes, block) for level in levels]
    )
    spreads = rows.flatten(1).std(dim=1)  # of single points, for the allowance
    rows = rows.mean(dim=1)  # of pairs, for the mean and its error: only rows are independent
    means = rows.mean(dim=1)
    count = len(x)
    errors = rows.std(dim=1) / math.sqrt(count)
    log_levels = torch.tensor(levels, dtype=torch.float64).log()
    drift, drift_error, second_order = [], [], []
    for index in range(len(levels)):
        weights = _trapezium(log_levels[index:])
        of_rows = -(weights[:, None] * rows[index:]).sum(dim=0)
        drift.append(float(of_rows.mean()))
        drift_error.append(float(of_rows.std()) / math.sqrt(count))
        second_order.append(float((weights * spreads[index:]).sum()) ** 2)
    return HeatResidual(
        sigmas=tuple(levels),
        residual=tuple(means.tolist()),
        standard_error=tuple(errors.tolist()),
        drift=tuple(drift),
        drift_standard_error=tuple(drift_error),
        discretisation=tuple(_discretisation(means, log_levels)),
        second_order=tuple(second_order),
        num_rows=count,
    )


def _residual_of_rows(
    energy: Any,
    x: Tensor,
    sigma: float,
    generator: torch.Generator,
    num_probes: int,
    block: int,
) -> Tensor:
    """r at y = x ± σz, ``[2, n]`` of float64: in the mean of a pair what is odd in z drops out."""
    fixed = energy.at(sigma) if hasattr(energy, "at") else _Fixed(energy, sigma)
    parts = []
    for start in range(0, len(x), block):
        centre = x[start : start + block]
        noise = normal_like(centre, generator)
        values = torch.empty(2, len(centre), dtype=torch.float64)
        for side, sign in enumerate((1.0, -1.0)):
            y = centre + sign * sigma * noise
            level = torch.full((len(y),), sigma, dtype=y.dtype, device=y.device)
            in_space, in_noise = dual_score(energy, y, level)
            trace = (
                laplacian(fixed, y)
                if num_event_dimensions(y) <= _EXACT_DIMENSIONS
                else hutchinson_laplacian(fixed, y, generator, num_probes=num_probes)
            )
            heat = sigma**2 * (event_sum(in_space.square()) - trace)
            values[side] = (in_noise - heat).double().cpu()
        parts.append(values)
    residual = torch.cat(parts, dim=1)
    if not bool(torch.isfinite(residual).all()):
        raise ValueError(
            f"the heat residual must be finite, got NaN or infinity at sigma = {sigma:.4g} in "
            f"{int((~torch.isfinite(residual)).any(dim=0).sum())} of {len(x)} rows"
        )
    return residual


class _Fixed:
    """A plain function of (y, sigma) at one level."""

    def __init__(self, energy: Any, sigma: float) -> None:
        self._energy, self._sigma = energy, sigma

    def __call__(self, y: Tensor) -> Tensor:
        level = torch.full((len(y),), self._sigma, dtype=y.dtype, device=y.device)
        return self._energy(y, level)


def _trapezium(points: Tensor) -> Tensor:
    """Weights of the trapezium rule on ascending ``points``; zero for a single point."""
    weights = torch.zeros_like(points)
    gaps = points.diff()
    weights[:-1] += gaps / 2
    weights[1:] += gaps / 2
    return weights


def _discretisation(means: Tensor, log_levels: Tensor) -> list[float]:
    """Difference between the rule on all levels above each one and on every other of them."""
    errors = []
    for index in range(len(means)):
        values, points = means[index:], log_levels[index:]
        kept = sorted({*range(0, len(points), 2), len(points) - 1})
        full = float((_trapezium(points) * values).sum())
        half = float((_trapezium(points[kept]) * values[kept]).sum())
        errors.append(abs(full - half) if len(points) > 2 else abs(full))
    errors[-1] = 0.0
    return errors
