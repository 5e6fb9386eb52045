"""Densities smeared along a curve: p(x) = integral w(t) kernel(x; t) dt by quadrature.

``panels`` lays Gauss-Legendre nodes along t, panels equally long when length is counted in widths
of the kernel, so that the sum over nodes has a known relative error: on a straight line a Gaussian
kernel is integrated to 3e-15 at 5 widths a panel (16 nodes), to 1e-9 at 8. Far out on the outer
side of a bend the integrand narrows by sqrt(1 + distance / radius of the bend), which costs
accuracy only there: 1e-10 (5 widths) where it is 1.5 times narrower, 1e-7 where 2 times.

``log_sum`` adds the kernels in logarithms, leaving out, tile by tile of the plane, the ones that
together cannot matter: less than a part in 1e10 divided by their number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from basin.datasets.toy_density import in_chunks

__all__ = ["gaussian_sum", "log_sum", "panels"]

NODES_PER_PANEL = 16
LEAST_PANELS = 4
TABLE = 8192
"""Cells of the table that turns t into widths; it only places the edges of panels."""
NEGLIGIBLE = 25.0
"""Terms below exp(-25) = 1e-11 of the largest are left out."""
NUMBERS_AT_ONCE = 2**18
"""Rows times kernels in memory at a time: 2 MB for each intermediate, which caches hold."""
MOST_TILES_A_SIDE = 32


def panels(
    speed: Callable[[Tensor], Tensor], start: float, stop: float, *, widths_per_panel: float = 5.0
) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre nodes and weights on [start, stop], float64.

    Args:
        speed: widths of the kernel per unit of t, ``[nodes] -> [nodes]``: |c'(t)| / width.
        start: lower end of t.
        stop: upper end of t.
        widths_per_panel: 5 for a relative error of 3e-15 on a straight line, 8 for 1e-9.

    >>> import torch
    >>> t, weight = panels(lambda t: 10 + 0 * t, 0.0, 2.0)
    >>> len(t), round(float((weight * t.exp()).sum()), 12)
    (64, 6.389056098931)
    """
    edges = torch.linspace(start, stop, TABLE + 1, dtype=torch.float64)
    length = speed((edges[1:] + edges[:-1]) / 2) * (stop - start) / TABLE
    travelled = torch.cat([torch.zeros(1, dtype=torch.float64), length.cumsum(0)])
    count = max(LEAST_PANELS, int(np.ceil(float(travelled[-1]) / widths_per_panel)))
    stops = np.linspace(0.0, float(travelled[-1]), count + 1)
    edge = torch.from_numpy(np.interp(stops, travelled.numpy(), edges.numpy()))
    node, weight = np.polynomial.legendre.leggauss(NODES_PER_PANEL)
    middle, half = (edge[1:] + edge[:-1]) / 2, (edge[1:] - edge[:-1]) / 2
    t = middle[:, None] + half[:, None] * torch.from_numpy(node)
    return t.flatten(), (half[:, None] * torch.from_numpy(weight)).flatten()


def gaussian_sum(x: Tensor, centres: Tensor, log_weights: Tensor, width: float) -> Tensor:
    """log of sum_k w_k N(x; c_k, width^2 I) in the plane, ``[batch]``; see :func:`log_sum`."""
    centres = centres.to(x.device)
    peaks = log_weights.to(x.device) - float(np.log(2 * np.pi * width**2))

    def log_terms(part: Tensor, which: Tensor | slice) -> Tensor:
        first, second = (part[:, None, i] - centres[which, i] for i in (0, 1))
        return peaks[which] - (first.square() + second.square()) / (2 * width**2)

    return log_sum(x, log_terms, peaks, width)


def log_sum(
    x: Tensor,
    log_terms: Callable[[Tensor, Tensor | slice], Tensor],
    peaks: Tensor,
    narrowest: float,
) -> Tensor:
    """log of the sum over k of exp(log_terms(x)[:, k]), ``[batch]``, for points of the plane.

    Args:
        x: ``[batch, 2]`` float64.
        log_terms: ``(x [n, 2], which) -> [n, chosen]``, the terms ``which`` (indices or a slice).
        peaks: ``[k]`` the largest value of each term over the plane.
        narrowest: a length s such that no second derivative of any -log term exceeds 1/s^2
            (the smallest standard deviation of the kernels).

    How terms are left out: d_k = sqrt(2 (peak_k - term_k)) changes by at most r/s over a distance
    r, because f >= 0 with f'' <= 1/s^2 has |f'| <= sqrt(2 f)/s. From its value at the middle of a
    tile follow bounds for the whole tile, and a term goes whose upper bound is 25 nats below the
    best lower bound.
    """
    size = len(peaks)
    if len(x) * size <= 2 * NUMBERS_AT_ONCE:
        return _dense(x, log_terms, slice(None), size)
    corner, far_corner = x.detach().amin(0), x.detach().amax(0)
    span = float((far_corner - corner).max())
    side = max(1.5 * narrowest, span / MOST_TILES_A_SIDE, 1e-9)
    cell = ((x.detach() - corner) / side).long()
    across = int(span / side) + 1
    key, order = (cell[:, 0] * across + cell[:, 1]).sort(stable=True)
    tiles, counts = key.unique_consecutive(return_counts=True)
    middles = torch.stack([tiles // across, tiles % across], 1).to(x) * side + corner + side / 2

    slack = side / 2**0.5 / narrowest
    chosen = _needed(middles, log_terms, peaks, slack)
    values = [
        _dense(part, log_terms, which, len(which))
        for part, which in zip(x[order].split(counts.tolist()), chosen, strict=True)
    ]
    return torch.cat(values)[order.argsort()]


def _dense(
    x: Tensor,
    log_terms: Callable[[Tensor, Tensor | slice], Tensor],
    which: Tensor | slice,
    size: int,
) -> Tensor:
    rows = max(1, NUMBERS_AT_ONCE // size)
    return in_chunks(lambda part: torch.logsumexp(log_terms(part, which), dim=1), x, rows)


def _needed(
    middles: Tensor,
    log_terms: Callable[[Tensor, Tensor | slice], Tensor],
    peaks: Tensor,
    slack: float,
) -> Iterator[Tensor]:
    """For each tile the indices of the terms that matter somewhere in it."""
    for part in middles.split(max(1, NUMBERS_AT_ONCE // len(peaks))):
        with torch.no_grad():
            distance = (2 * (peaks - log_terms(part, slice(None))).clamp(min=0)).sqrt()
            highest = peaks - 0.5 * (distance - slack).clamp(min=0).square()
            surest = (peaks - 0.5 * (distance + slack).square()).amax(1, keepdim=True)
            is_needed = highest > surest - NEGLIGIBLE - np.log(len(peaks))
        for mask in is_needed:
            yield mask.nonzero().flatten()
