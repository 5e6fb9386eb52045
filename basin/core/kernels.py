"""Radial kernels k(x, y) = phi(r2), r2 = ||x - y||^2, and the Stein kernel made of one.

    Gaussian               phi = exp(-r2 / (2 h^2))
    inverse multiquadric   phi = (1 + r2 / h^2)^(-1/2)

    u(x, y) = s(x)'s(y) phi - 2 phi' (s(x) - s(y))'(x - y) - 2 d phi' - 4 r2 phi''

is the Stein kernel of a density with score s: E_p u(x, y) = 0 for every y when s is the score of
p. Source: Liu, Lee & Jordan 2016, theorem 3.6 (their u_q, here for a radial k, where the gradient
of k in x is 2 phi' (x - y)). Z drops out, as only the score is asked for.

A kernel here is a mean of such kernels at several bandwidths h: again positive definite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "RADIAL_KERNELS",
    "Radial",
    "RadialKernel",
    "distance_quantile",
    "gaussian_kernel",
    "inverse_multiquadric",
    "radial_mean",
    "squared_distances",
    "stein_kernel",
    "stein_row_means",
]

_QUANTILE_ROWS = 1000  # rows whose pairs give a quantile of the distances
_BLOCK_ROWS = 128  # rows of a kernel matrix at a time: with 1024 columns they fit a core's cache


class Radial(NamedTuple):
    """A radial kernel and its first two derivatives in r2, each of the shape of r2."""

    value: Tensor
    slope: Tensor
    curvature: Tensor


RadialKernel = Callable[[Tensor, float], Radial]
"""``kernel(squared_distances, bandwidth)``."""


def gaussian_kernel(squared: Tensor, bandwidth: float) -> Radial:
    """exp(-r2 / (2 h^2)).

    >>> gaussian_kernel(torch.tensor(2.0), bandwidth=1.0).value
    tensor(0.3679)
    """
    rate = -0.5 / bandwidth**2
    value = torch.exp(squared * rate)
    return Radial(value, value * rate, value * rate**2)


def inverse_multiquadric(squared: Tensor, bandwidth: float) -> Radial:
    """(1 + r2 / h^2)^(-1/2): heavy tails, so that far pairs still count.

    Source: Gorham & Mackey 2017, whose theorem 8 has it control convergence for exponents in
    (-1, 0), where Gaussian kernels do not from three dimensions on (theorem 6).

    >>> inverse_multiquadric(torch.tensor(3.0), bandwidth=1.0).value
    tensor(0.5000)
    """
    rate = 1 / bandwidth**2
    value = torch.rsqrt(1 + squared * rate)
    inverse = value.square()  # 1 / (1 + r2 / h^2)
    slope = value * inverse * (-0.5 * rate)
    return Radial(value, slope, slope * inverse * (-1.5 * rate))


RADIAL_KERNELS: dict[str, RadialKernel] = {
    "gaussian": gaussian_kernel,
    "imq": inverse_multiquadric,
}


def radial_mean(kernel: RadialKernel, squared: Tensor, bandwidths: Sequence[float]) -> Radial:
    """The mean of one kernel at several bandwidths."""
    first, *others = (kernel(squared, bandwidth) for bandwidth in bandwidths)
    for other in others:
        first = Radial(*(a + b for a, b in zip(first, other)))
    return first if not others else Radial(*(a / len(bandwidths) for a in first))


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """||a_i - b_j||^2, ``[n, m]`` from rows ``[n, d]`` and ``[m, d]``; centre them first.

    By one matrix product, so that the rounding error is relative to ||a||^2 + ||b||^2.
    """
    squares = a.square().sum(dim=1)[:, None] + b.square().sum(dim=1)
    return torch.addmm(squares, a, b.T, alpha=-2).clamp_(min=0)


def distance_quantile(x: Tensor, generator: torch.Generator, *, quantile: float = 0.5) -> float:
    """A quantile of the distances between distinct rows of ``x`` ``[n, d]``: 0.5 is the median.

    Taken from a random part of many rows, so that a median is known to about 1%.

    Raises:
        ValueError: fewer than two rows, or so many equal ones that it is zero.
    """
    if len(x) < 2:
        raise ValueError(f"x must have two rows or more for a median distance, got {len(x)}")
    order = torch.randperm(len(x), generator=generator, device=generator.device).to(x.device)
    part = x[order[:_QUANTILE_ROWS]]
    part = part - part.mean(dim=0)
    rows, columns = torch.triu_indices(len(part), len(part), offset=1, device=x.device)
    squared = squared_distances(part, part)[rows, columns]
    found = float(squared.kthvalue(max(1, math.ceil(quantile * len(squared)))).values.sqrt())
    if not found > 0:
        raise ValueError(
            f"the {f'{quantile:g} quantile of' if quantile != 0.5 else 'median'} distance must be "
            "positive, got 0: too many rows are equal"
        )
    return found


def stein_kernel(
    x: Tensor,
    score_x: Tensor,
    y: Tensor,
    score_y: Tensor,
    kernel: RadialKernel,
    bandwidths: Sequence[float],
) -> Tensor:
    """u(x_i, y_j), ``[n, m]``, from rows ``[n, d]``, ``[m, d]`` and the scores at them."""
    squared = squared_distances(x, y)
    phi = radial_mean(kernel, squared, bandwidths)
    across = _row_sum(score_x * x)[:, None] + _row_sum(score_y * y)
    across = across - score_x @ y.T - x @ score_y.T  # (s(x) - s(y))'(x - y)
    trace = -2 * x.shape[1] * phi.slope - 4 * squared * phi.curvature
    return (score_x @ score_y.T) * phi.value - 2 * phi.slope * across + trace


def stein_row_means(
    x: Tensor,
    score: Tensor,
    kernel: RadialKernel,
    bandwidths: Sequence[float],
    *,
    with_diagonal: bool,
) -> tuple[Tensor, Tensor]:
    """For each row i the mean over j of u(x_i, x_j), and the same for the score zero, ``[n]``.

    Args:
        x: rows ``[n, d]``, without a graph.
        score: s at them; the means are differentiable in it.
        kernel: phi.
        bandwidths: h, averaged over.
        with_diagonal: take j = i in (V-statistic, n terms) or leave it out (U-statistic, n - 1).

    The kernel's values are constants of the graph, which holds matrices by rows ``[n, d]`` only.
    Cost: n^2 values of the kernel, and products of those with n x d matrices.
    """
    count = len(x) if with_diagonal else len(x) - 1
    projections = _row_sum(score * x)[:, None]
    columns = torch.cat([score, projections], dim=1)
    means, trivial = [], []
    for rows, phi, trace in _blocks(x, kernel, bandwidths, with_diagonal):
        near, radial = phi.value @ score, phi.slope @ columns
        toward = phi.slope @ x
        own = projections[rows] * phi.slope.sum(dim=1, keepdim=True)
        across = own + radial[:, -1:] - _row_sum(score[rows] * toward)[:, None]
        across = across - _row_sum(x[rows] * radial[:, :-1])[:, None]
        sums = _row_sum(score[rows] * near) - 2 * across.squeeze(1)
        trivial.append(trace / count)
        means.append((sums + trace) / count)
    return torch.cat(means), torch.cat(trivial)


def _blocks(
    x: Tensor, kernel: RadialKernel, bandwidths: Sequence[float], with_diagonal: bool
) -> Iterator[tuple[slice, Radial, Tensor]]:
    """Blocks of rows: which, the kernel between them and all rows, and sums of its trace term."""
    for start in range(0, len(x), _BLOCK_ROWS):
        rows = slice(start, min(start + _BLOCK_ROWS, len(x)))
        squared = squared_distances(x[rows], x)
        phi = radial_mean(kernel, squared, bandwidths)
        if not with_diagonal:
            for part in phi:
                part.diagonal(start).zero_()
        trace = -2 * x.shape[1] * phi.slope.sum(dim=1)
        yield rows, phi, trace - 4 * (squared * phi.curvature).sum(dim=1)


def _row_sum(x: Tensor) -> Tensor:
    return x.sum(dim=1)
