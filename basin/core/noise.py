"""Standard normal noise with the variance taken out: antithetic pairs and paired radii.

Both keep the law of each single draw, so every mean over them stays unbiased; only the
covariance between draws changes.

    antithetic       z and -z: a target odd in z (the score's, -z/sigma) averages to zero
    paired radii     |z| at the chi-squared quantiles u and 1 - u along one direction: the noise
                     target |z|^2 - d, even in z and untouched by the first, nearly does too
    stratified       one uniform in each of n equal cells, in random order
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from basin.core.tensors import event_sum, expand_like, num_event_dimensions

__all__ = [
    "antithetic",
    "complementary_radius",
    "log_uniform_stratified",
    "paired_radii",
    "stratified_uniform",
]


def antithetic(z: Tensor) -> Tensor:
    """``[n, *event] -> [2n, *event]``: z, then -z."""
    return torch.cat([z, -z])


def paired_radii(z: Tensor) -> Tensor:
    """``[n, *event] -> [2n, *event]``: z, then z at the complementary radius.

    If |z|^2 is the u-quantile of chi-squared with d degrees of freedom, the partner's is the
    (1 - u)-quantile; it is standard normal again since u is uniform and the direction is
    independent of the radius.
    """
    radius = event_sum(z.square()).sqrt()
    partner = complementary_radius(radius, num_event_dimensions(z))
    # In float32 torch draws an exact zero once in 10^7, and in one dimension that is a radius of
    # zero: it has no direction and is its own partner, where 0 * inf would stop the training.
    ratio = partner / radius.where(radius > 0, 1.0)
    return torch.cat([z, z * expand_like(ratio, z)])


def complementary_radius(radius: Tensor, dimension: int) -> Tensor:
    """r' with P(R < r') = P(R > r), where R is the norm of a standard normal vector.

    For two dimensions in closed form, -log(1 - exp(-r^2/2)); else the regularised incomplete
    gamma function P(d/2, s) = 1 - P(d/2, r^2/2) is solved for s by Newton's method in float64
    from the Wilson-Hilferty approximation (Biometrika 1931), to a relative error below 1e-9 for a
    float64 radius with 1e-12 < P(R < r) < 1 - 1e-12; beyond 1e-15 the quantile is held there.
    """
    half_square = (radius.double().square() / 2).clamp_min(1e-300)
    if dimension == 2:
        partner = torch.where(  # each side keeps its digits where the other loses them
            half_square < math.log(2),
            -torch.log(-torch.expm1(-half_square)),
            -torch.log1p(-torch.exp(-half_square)),
        )
    else:
        partner = _solve_upper_gamma(half_square, dimension / 2)
    return (2 * partner).clamp_min(0).sqrt().to(radius.dtype)


def stratified_uniform(n: int, generator: torch.Generator) -> Tensor:
    """``n`` numbers in (0, 1), one in each cell [i/n, (i+1)/n), in random order; each uniform."""
    device = generator.device
    cells = torch.randperm(n, generator=generator, device=device)
    return (cells + torch.rand(n, generator=generator, device=device)) / n


def log_uniform_stratified(
    lower: float, upper: float, n: int, generator: torch.Generator
) -> Tensor:
    """``n`` values whose logarithm is uniform on [log lower, log upper], stratified."""
    u = stratified_uniform(n, generator)
    return torch.exp(math.log(lower) + (math.log(upper) - math.log(lower)) * u)


def _solve_upper_gamma(half_square: Tensor, shape: float) -> Tensor:
    """s with P(shape, s) = 1 - P(shape, half_square)."""
    a = torch.full_like(half_square, shape)
    below = torch.special.gammainc(a, half_square).clamp(1e-15, 1 - 1e-15)
    above = torch.special.gammaincc(a, half_square).clamp(1e-15, 1 - 1e-15)
    normal_quantile = -torch.special.ndtri(below)
    cube_root = 1 - 1 / (9 * shape) + normal_quantile / (3 * math.sqrt(shape))
    # The approximation may turn negative far out; the small-s expansion takes over there.
    small = ((above.log() + math.lgamma(shape + 1)) / shape).exp()
    s = torch.where(cube_root > 0.1, shape * cube_root**3, small)
    for _ in range(12):
        log_density = (shape - 1) * s.log() - s - math.lgamma(shape)
        # The smaller tail carries the digits; its logarithm is nearly linear far out, where
        # Newton's method on the tail itself would creep.
        head = torch.special.gammainc(a, s).clamp_min(1e-300)
        tail = torch.special.gammaincc(a, s).clamp_min(1e-300)
        error = torch.where(
            above < 0.5,
            head * (head / above).log(),
            tail * (below / tail).log(),
        )
        step = (error * (-log_density).exp() / s).clamp(-1.0, 1.0)
        s = s * torch.exp(-step)
    return s
