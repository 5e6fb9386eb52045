"""What is settled after the last step: the weights, log Z and the noise level of ``log_prob``.

    weights    raw or averaged, the better on held-out rows; for a finite table those of the best
               evaluation
    log Z      at the largest level by importance sampling from the energy's own Gaussian, with the
               weights that are used; carried down the ladder by the heat equation, whose residual
               is the error bar (DESIGN 1; Guth, Kadkhodaie & Simoncelli 2025)
    sigma      for a finite table the level of highest held-out likelihood

Cost: that of a few evaluations on the held-out rows; nothing is trained here.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from basin.partition.gaussian_reference import gaussian_reference
from basin.partition.heat_equation import heat_residual, noise_ladder
from basin.partition.log_z import NORMAL_95, LogZ
from basin.training.loop import TrainingState

__all__ = [
    "chosen_and_other",
    "log_z_at_top",
    "log_z_down_the_ladder",
    "sigma_by_likelihood",
    "stated_by_objective",
]

_NUM_REFERENCE_DRAWS = 20_000
_NUM_RESIDUAL_ROWS = 1024
_NUM_CANDIDATES = 33


def chosen_and_other(state: TrainingState) -> tuple[str, dict[str, Tensor], dict[str, Tensor]]:
    """Name of the chosen weights ("raw" or "ema"), their state dict, and the other ones'."""
    raw = state.energy.state_dict()
    averaged = raw if state.average is None else state.average.module.state_dict()
    name = state.best_weights
    chosen, other = (raw, averaged) if name == "raw" else (averaged, raw)
    return name, _copied(state.best or chosen), _copied(other)


def log_z_at_top(energy: Any, sigma_max: float, generator: torch.Generator) -> LogZ:
    """log Z at the largest level: importance sampling from the Gaussian that the energy ends in.

    Exact up to the stated error whether or not the blurred data are Gaussian there.
    """
    mean, covariance = energy.base_law(sigma_max)
    return gaussian_reference(
        energy.at(sigma_max),
        mean.reshape(energy.event_shape),
        covariance,
        num_samples=_NUM_REFERENCE_DRAWS,
        generator=generator,
    )


def log_z_down_the_ladder(
    energy: nn.Module,
    rows: Tensor,
    sigma: float,
    sigma_max: float,
    at_top: LogZ,
    generator: torch.Generator,
) -> LogZ:
    """The value at the top, with an interval that holds what the heat equation makes of it.

    The value is not moved: a right model has one log Z for all levels, and how far the residual
    would move it is its error bar. The error at the top is carried along: the value lower down is
    the one at the top plus the drift, so its interval has the half widths of both. What the heat
    equation leaves out (its second order) is no statistical error, but it is the larger part of
    the error of a model that fits badly: the standard error never says less than the interval.
    """
    ladder = noise_ladder(sigma, sigma_max)
    drift = heat_residual(energy, rows[:_NUM_RESIDUAL_ROWS], ladder, generator).log_z(
        log_z_at_top=at_top.log_z
    )
    moved = drift.log_z - at_top.log_z
    error = math.sqrt(at_top.standard_error**2 + drift.standard_error**2 + moved**2)
    lower = min(at_top.lower, drift.lower - (at_top.log_z - at_top.lower))
    upper = max(at_top.upper, drift.upper + (at_top.upper - at_top.log_z))
    half_width = max(at_top.log_z - lower, upper - at_top.log_z)
    return LogZ(
        log_z=at_top.log_z,
        standard_error=max(error, half_width / NORMAL_95),
        lower=lower,
        upper=upper,
        effective_sample_size=at_top.effective_sample_size,
        method=f"tied to its Gaussian at sigma {sigma_max:.3g}; the heat equation down to "
        f"sigma {sigma:.3g} moves it by {moved:+.3g}",
        kind="interval",
    )


def stated_by_objective(log_z: float, standard_error: float, *, name: str) -> LogZ:
    """What an objective that learns log Z says of it, as an interval."""
    half = NORMAL_95 * standard_error
    return LogZ(
        log_z,
        standard_error,
        log_z - half,
        log_z + half,
        effective_sample_size=None,
        method=name,
        kind="interval",
    )


@torch.no_grad()
def sigma_by_likelihood(
    energy: Any, held_out: Tensor, sigma_min: float, sigma_max: float
) -> tuple[float, list[dict[str, float]]]:
    """The level at which held-out rows are likeliest under the model, and the whole curve.

    log Z is the same at all levels, so -E is compared. A blur as fine as the rows' own distances
    would give each training row its own peak and held-out rows none: that is what this avoids.
    """
    step = math.log(sigma_max / sigma_min) / (_NUM_CANDIDATES - 1)
    curve = []
    for index in range(_NUM_CANDIDATES):
        sigma = sigma_min * math.exp(step * index)
        likelihood = -energy(held_out, torch.full((len(held_out),), sigma).to(held_out))
        curve.append({"sigma": sigma, "held_out_log_likelihood": float(likelihood.mean())})
    best = max(curve, key=lambda point: point["held_out_log_likelihood"])
    return best["sigma"], curve


def _copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in tensors.items()}
