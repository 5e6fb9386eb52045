"""Log-likelihoods, and log Z, by the probability-flow equation of a noise-conditional energy.

    dy/dlog σ = -σ² s(y, σ),      d log q/dlog σ = σ² tr ∂s/∂y = -σ² ΔE        along y(σ)

    log q_σ(x) = log q_top(y(σ_max)) + ∫ σ² ΔE(y(σ), σ) dlog σ      from σ to σ_max, y(σ) = x

If s were the score of the data blurred by σ at every σ, the flow would carry each law into the next
and q_σ = p_σ. For a model q_σ is the law of the *flow*, not exp(-E)/Z: they agree as far as its
scores at all levels belong together. The flow can be drawn, and its density is known, so it is also
a proposal for importance sampling, w = exp(-E(x, σ)) / q_σ(x), which gives log Z of exp(-E) itself.

What the weights cannot see is mass that the flow never reaches: where the score at a large level
pushes rows away from a place that exp(-E(., σ)) still likes, the estimate is low and its effective
sample size high. Sequential Monte Carlo, which moves at each level, does not depend on the flow.

Source: Song et al. 2021 (arXiv 2011.13456), equation 39 and appendix D.2, for the
variance-exploding process with dσ²/dt = 1; Chen et al. 2018 for the change of density; Hutchinson's
trace as in Grathwohl et al. 2019, with probes that stay the same along a row's way. Classical
Runge-Kutta of order 4 in log σ, once with N and once with 2N steps: the difference bounds the error
of the finer one.
Cost: 12 N scores a row with d second derivatives (exact trace) or ``num_probes`` ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from basin.core.curvature import score_and_curvatures, score_and_hessian_diagonal
from basin.core.directions import random_signs_like
from basin.core.tensors import num_event_dimensions
from basin.core.validation import all_finite, positive, positive_integer
from basin.energies.analytic.gaussian import Gaussian
from basin.partition.blocks import energies_in_blocks, home_of
from basin.partition.log_z import LogZ, LogZNotEstimated
from basin.partition.weights import log_z_of_weights

__all__ = ["FlowLikelihood", "probability_flow_likelihood", "probability_flow_log_z"]

_EXACT_DIMENSIONS = 16  # up to here the exact trace costs about what good probes cost


@dataclass(frozen=True, eq=False)
class FlowLikelihood:
    """Log densities of the flow, with their errors, each ``[batch]`` of float64, in nats.

    Attributes:
        log_prob: log q_σ(x).
        numerical_error: |N steps - 2N steps|: bounds the error of the 2N steps used.
        standard_error: of Hutchinson's trace, over probes; 0 for the exact one, NaN for one probe.
        positions: where the rows came from or went to at σ_max, ``[batch, *event]``.
    """

    log_prob: Tensor
    numerical_error: Tensor
    standard_error: Tensor
    positions: Tensor


def probability_flow_likelihood(
    energy: Any,
    x: Tensor,
    sigma: float,
    sigma_max: float,
    *,
    log_z_at_top: float = 0.0,
    num_steps: int = 50,
    num_probes: int | None = None,
    generator: torch.Generator | None = None,
    block: int = 1024,
) -> FlowLikelihood:
    """log q_σ of rows ``x``, the likelihood under the probability flow.

    Args:
        energy: noise-conditional, ``(y, sigma) -> [batch]``, with ``at(sigma)``.
        x: rows ``[batch, *event]`` in the coordinates where the noise is isotropic.
        sigma: level of the rows.
        sigma_max: largest level, where -E - ``log_z_at_top`` is the log density that the flow ends
            in.
        log_z_at_top: log Z there.
        num_steps: N.
        num_probes: of Hutchinson's trace; None: exact up to 16 dimensions, 16 probes beyond.
        generator: source of the probes; needed where there are any.
        block: rows at a time.

    Raises:
        ValueError: levels out of order, probes without a generator, a flow that is not finite.

    Example:
        >>> import torch
        >>> from basin.energies.analytic.noised_gaussian_mixture import NoisedGaussianMixture
        >>> exact = NoisedGaussianMixture(2)                          # N(0, I) at every level
        >>> x = torch.zeros(1, 2, dtype=torch.float64)
        >>> found = probability_flow_likelihood(exact, x, 0.5, 20.0)
        >>> round(float(found.log_prob), 4), round(float(-exact(x, 0.5)), 4)
        (-2.061, -2.061)
    """
    _check(energy, x, sigma, sigma_max, num_steps, block)
    dim = num_event_dimensions(x)
    if num_probes is None and dim > _EXACT_DIMENSIONS:
        num_probes = 16
    if num_probes is not None:
        positive_integer(num_probes=num_probes)
        if generator is None:
            raise ValueError(f"generator must be given for {num_probes} probes, got None")
    parts = []
    for rows in x.split(block):
        probes = None if num_probes is None else _probes(rows, num_probes, generator)
        ends, traces = _both_ways(energy, rows, probes, sigma, sigma_max, num_steps)
        top = -energies_in_blocks(energy.at(sigma_max), ends[0]) - log_z_at_top
        coarse = -energies_in_blocks(energy.at(sigma_max), ends[1]) - log_z_at_top
        values = (top + traces[0].mean(0), coarse + traces[1].mean(0))
        count = len(traces[0])
        error = torch.zeros_like(values[0])
        if probes is not None:
            error = traces[0].std(0) / math.sqrt(count) if count > 1 else error + math.nan
        parts.append(FlowLikelihood(values[0], (values[0] - values[1]).abs(), error, ends[0]))
    return _joined(parts)


def probability_flow_log_z(
    energy: Any,
    sigma: float,
    sigma_max: float,
    *,
    num_samples: int = 1024,
    num_steps: int = 50,
    generator: torch.Generator,
    level: float = 0.95,
    block: int = 1024,
) -> LogZ:
    """log Z of ``energy.at(sigma)`` by importance sampling from the flow, up to 16 dimensions.

    Draws of the Gaussian ``energy.base_law(sigma_max)`` are carried down to σ with their density;
    the weights are exact for any scores, up to the numerical error, which the interval holds.

    Args:
        energy: noise-conditional, with ``at(sigma)`` and ``base_law(sigma)``.
        sigma, sigma_max: levels.
        num_samples: draws of the flow.
        num_steps: N.
        generator: source of the draws.
        level: probability of the interval.
        block: rows at a time.

    Raises:
        LogZNotEstimated: the weights collapsed, or the equation is not solved well enough.
    """
    mean, covariance = energy.base_law(sigma_max)
    base = Gaussian(mean, covariance)
    shape = getattr(energy, "event_shape", base.event_shape)
    dtype, device = home_of(energy)
    start = base.to(device).sample(num_samples, generator).to(dtype or torch.get_default_dtype())
    start = start.reshape(-1, *shape)
    _check(energy, start, sigma, sigma_max, num_steps, block)
    if num_event_dimensions(start) > _EXACT_DIMENSIONS:
        raise ValueError(
            f"probability_flow_log_z must have at most {_EXACT_DIMENSIONS} dimensions (its density "
            f"must be exact), got {num_event_dimensions(start)}; use sequential_monte_carlo"
        )
    log_start = -energies_in_blocks(base, start.flatten(1))
    weights, errors = [], []
    for rows, log_top in zip(start.split(block), log_start.split(block), strict=True):
        # Down from the top: the trace is gathered with the sign of the way up.
        ends, traces = _both_ways(energy, rows, None, sigma_max, sigma, num_steps)
        found = [
            -energies_in_blocks(energy.at(sigma), x) - (log_top - trace.mean(0))
            for x, trace in zip(ends, traces, strict=True)
        ]
        weights.append(found[0])
        errors.append((found[0] - found[1]).abs())
    log_weights = torch.cat(weights)
    share = torch.softmax(log_weights, 0)
    numerical = float((share * torch.cat(errors)).sum())
    if not numerical < 1:
        raise LogZNotEstimated(
            f"the flow must be solved to better than 1 nat, got {numerical:.2g}; raise num_steps"
        )
    found = log_z_of_weights(
        log_weights,
        method=f"importance sampling from the probability flow, {num_samples:,} draws",
        raise_what="num_samples, or take sequential_monte_carlo",
        minimum_effective_sample_size=min(100.0, num_samples / 10),
        level=level,
    )
    return replace(found, lower=found.lower - numerical, upper=found.upper + numerical)


def _both_ways(
    energy: Any,
    x: Tensor,
    probes: Tensor | None,
    start: float,
    end: float,
    num_steps: int,
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Where rows end and the integrals of the trace, with 2N steps first and then with N."""
    fine, coarse = (
        _solve(energy, x, probes, start, end, count) for count in (2 * num_steps, num_steps)
    )
    return (fine[0], coarse[0]), (fine[1], coarse[1])


def _solve(
    energy: Any, x: Tensor, probes: Tensor | None, start: float, end: float, num_steps: int
) -> tuple[Tensor, Tensor]:
    """y at the end and ∫ σ² ΔE dlog σ, ``[probes or 1, batch]``, by Runge-Kutta of order 4."""
    step = math.log(end / start) / num_steps
    y, total = x, torch.zeros(1 if probes is None else len(probes), len(x), dtype=torch.float64)
    for index in range(num_steps):
        here = start * math.exp(step * index)
        middle, there = here * math.exp(0.5 * step), start * math.exp(step * (index + 1))
        v1, a1 = _velocity(energy, y, probes, here)
        v2, a2 = _velocity(energy, y + 0.5 * step * v1, probes, middle)
        v3, a3 = _velocity(energy, y + 0.5 * step * v2, probes, middle)
        v4, a4 = _velocity(energy, y + step * v3, probes, there)
        y = y + step / 6 * (v1 + 2 * v2 + 2 * v3 + v4)
        total = total + step / 6 * (a1 + 2 * a2 + 2 * a3 + a4)
    bad = ~torch.isfinite(y).flatten(1).all(1)
    if bool(bad.any()):
        raise ValueError(
            f"the probability flow must stay finite, got NaN or infinity in {int(bad.sum())} of "
            f"{len(y)} rows; raise num_steps"
        )
    return y, total


def _velocity(energy: Any, y: Tensor, probes: Tensor | None, sigma: float) -> tuple[Tensor, Tensor]:
    """-σ² s and σ² ΔE (or v'Hv of each probe)."""
    fixed = energy.at(sigma)
    if probes is None:
        s, diagonal = score_and_hessian_diagonal(fixed, y)
        trace = diagonal.flatten(1).sum(1)[None]
    else:
        s, trace = score_and_curvatures(fixed, y, probes)
    return -(sigma**2) * s.detach(), sigma**2 * trace.detach().double().cpu()


def _probes(x: Tensor, num_probes: int, generator: Any) -> Tensor:
    return torch.stack([random_signs_like(x, generator) for _ in range(num_probes)])


def _joined(parts: list[FlowLikelihood]) -> FlowLikelihood:
    names = ("log_prob", "numerical_error", "standard_error", "positions")
    return FlowLikelihood(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


def _check(
    energy: Any, x: Tensor, sigma: float, sigma_max: float, num_steps: int, block: int
) -> None:
    positive(sigma=sigma, sigma_max=sigma_max)
    positive_integer(num_steps=num_steps, block=block)
    all_finite("x", x)
    if not sigma < sigma_max:
        raise ValueError(f"sigma must lie below sigma_max, got {sigma!r} and {sigma_max!r}")
    if not hasattr(energy, "at"):
        raise ValueError(
            f"energy must have a method at(sigma), got {type(energy).__name__}; "
            "see basin.energies.NoiseConditional"
        )
