"""How large a step the curvature of an energy allows to kernels without an accept step.

    lambda_max = the largest eigenvalue of d2E/dx2 over a few points

Along a direction of curvature lambda ULA multiplies the distance to the mode by 1 - epsilon lambda:
it explodes when epsilon >= 2 / lambda, and below that its variance is
1 / (lambda (1 - epsilon lambda / 2)) instead of 1 / lambda, twice the right one at 1 / lambda.
A velocity turns along it with the frequency sqrt(lambda): leapfrog-like steps of length h, as those
of BAOAB, are exact there up to h = 2 / sqrt(lambda), and explode beyond.

Power iteration with Hessian-vector products (Golub & Van Loan, section 7.3): once for the size of
the spectrum, again on the shifted Hessian where the largest eigenvalue in size is negative. It
approaches lambda_max from below. Cost: ``num_iterations`` (twice that at most) products on at most
``num_points`` rows.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from basin.core.gradients import hessian_vector_product, score
from basin.core.tensors import event_sum, expand_like, normal_like
from basin.core.types import Energy
from basin.core.validation import positive_integer

__all__ = [
    "StepSizeWarning",
    "largest_curvature",
    "warn_if_step_too_large",
    "warn_if_unstable",
]


class StepSizeWarning(UserWarning):
    """The step of an unadjusted kernel exceeds what the curvature of the energy allows."""


def largest_curvature(
    energy: Energy, x: Tensor, *, num_points: int = 16, num_iterations: int = 20
) -> float:
    """The largest eigenvalue of the Hessian of ``energy`` at rows of ``x``, an estimate from below.

    Args:
        x: ``[batch, *event]``; ``num_points`` rows, evenly spaced, are looked at.
        num_points, num_iterations: at least one.

    >>> import torch
    >>> round(largest_curvature(lambda x: 2.0 * x.square().sum(1), torch.zeros(1, 3)), 4)
    4.0
    """
    positive_integer(num_points=num_points, num_iterations=num_iterations)
    rows = torch.linspace(0, len(x) - 1, min(num_points, len(x))).long()
    x = x[rows.to(x.device)]
    generator = torch.Generator(x.device).manual_seed(0)  # its own: the chains' noise is untouched
    no_shift = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    eigenvalue = _power_iteration(energy, x, no_shift, num_iterations, generator)
    if bool((eigenvalue < 0).any()):
        eigenvalue = _power_iteration(energy, x, eigenvalue.abs(), num_iterations, generator)
    return float(eigenvalue.max())


def warn_if_step_too_large(energy: Energy, x: Tensor, step_size: float | Tensor, name: str) -> bool:
    """Warn with :class:`StepSizeWarning` if ``step_size > 1 / lambda_max`` at ``x``; tell if so.

    A ``step_size`` that is a tensor (a number for each coordinate, of the event's shape or flat)
    is judged in the coordinates in which all are as long as the longest.
    """
    if isinstance(step_size, Tensor) and step_size.numel() > 1:
        longest = step_size.max()
        unit = (step_size / longest).sqrt().to(x)
        if unit.ndim == 1 and len(unit) == x[0].numel():
            unit = unit.reshape(x.shape[1:])
        elif unit.shape != x.shape[1:]:
            return False  # not a step for each coordinate: the kernel knows what it means
        return warn_if_step_too_large(lambda u: energy(u * unit), x / unit, float(longest), name)
    step_size = float(step_size)
    curvature = largest_curvature(energy, x)
    if not step_size * curvature > 1:
        return False
    bound = 2 / curvature
    ratio = 1 - step_size * curvature / 2
    if ratio <= 0:
        effect = "the chains are unstable in the stiffest direction and will leave it"
    else:
        effect = (
            "the stationary variance in the stiffest direction, 1/(lambda (1 - step_size lambda/2))"
            f" = {1 / (curvature * ratio):.3g}, is {1 / ratio:.3g} times the target's"
        )
    warnings.warn(
        f"{name}: step_size = {step_size:.3g} is too large for this energy, whose largest "
        f"curvature is lambda_max = {curvature:.3g}; the bound of stability is "
        f"2/lambda_max = {bound:.3g}, and {effect}; take step_size <= {0.1 / curvature:.2g} "
        "(variance within 6 %) or MALA, which corrects the bias",
        StepSizeWarning,
        stacklevel=4,
    )
    return True


def warn_if_unstable(energy: Energy, x: Tensor, step_size: float, name: str) -> bool:
    """Warn with :class:`StepSizeWarning` if ``step_size >= 2 / sqrt(lambda_max)`` at ``x``.

    For steps with a velocity, whose length is in the units of x.

    Returns:
        Whether it warned.

    >>> warn_if_unstable(lambda x: 2 * x.square().sum(1), torch.zeros(1, 3), 0.9, "a kernel")
    False
    """
    curvature = largest_curvature(energy, x)
    if not step_size**2 * curvature >= 4:
        return False
    frequency = curvature**0.5
    warnings.warn(
        f"{name}: step_size = {step_size:.3g} is too large for this energy, whose largest "
        f"curvature is lambda_max = {curvature:.3g}; the bound of stability is "
        f"2/sqrt(lambda_max) = {2 / frequency:.3g}, and the chains are unstable in the stiffest "
        f"direction and will leave it; take step_size <= {1 / frequency:.2g} or HMC, which rejects "
        "what goes astray",
        StepSizeWarning,
        stacklevel=4,
    )
    return True


def _power_iteration(
    energy: Energy, x: Tensor, shift: Tensor, num_iterations: int, generator: torch.Generator
) -> Tensor:
    """Rayleigh quotient of the Hessian, a row each, along the top direction of H + shift I."""
    vector = _normalised(normal_like(x, generator))
    shift = expand_like(shift, x)
    for _ in range(num_iterations):
        vector = _normalised(_hessian_times(energy, x, vector) + shift * vector)
    return event_sum(vector * _hessian_times(energy, x, vector))


def _normalised(vector: Tensor) -> Tensor:
    length = event_sum(vector.square()).sqrt().clamp(min=torch.finfo(vector.dtype).tiny)
    return vector / expand_like(length, vector)


def _hessian_times(energy: Energy, x: Tensor, vector: Tensor) -> Tensor:
    """H v; by central differences of scores where the energy cannot be differentiated twice."""
    try:
        return hessian_vector_product(energy, x, vector)
    except RuntimeError:  # an operation without a double backward, as fused attention in eval mode
        width = 1e-2
        forward, backward = score(energy, x + width * vector), score(energy, x - width * vector)
        return (backward - forward) / (2 * width)
