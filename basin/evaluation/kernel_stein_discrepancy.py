"""Kernel Stein discrepancy between rows and a model, with a wild-bootstrap p-value.

    KSD² = E u(x, x'),    u the Stein kernel of the model's score (see ``core.kernels``)

Zero when the rows are draws of exp(-E)/Z, without Z and without draws of the model. Source: Liu,
Lee & Jordan 2016, eq. 14: the U-statistic, so the value may be negative and is zero on average for
a perfect model. The p-value multiplies u(xᵢ, xⱼ) by random signs wᵢwⱼ (Chwialkowski, Strathmann &
Gretton 2016, section 2): right for many rows, not exact for few.

Held-out rows ask whether the model fits the data; draws of a sampler, whether it draws from the
model. A pass says little alone: like every check by scores it is blind to the weights of modes that
lie far apart, and to modes that no row comes from.
Cost: n scores, n² kernel values once, times ``num_bootstraps`` in a matrix product; memory is that
of ``block`` rows of the kernel matrix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from basin.core.gradients import score
from basin.core.kernels import RADIAL_KERNELS, distance_quantile, stein_kernel
from basin.core.validation import all_finite, positive, positive_integer
from basin.evaluation.estimate import About, Estimate
from basin.partition.blocks import home_of

__all__ = ["kernel_stein_discrepancy"]


def kernel_stein_discrepancy(
    energy: Any,
    x: Tensor,
    generator: torch.Generator | None = None,
    *,
    kernel: Literal["imq", "gaussian"] = "imq",
    bandwidth: float | Literal["median"] = "median",
    multiples: Sequence[float] = (1.0,),
    num_bootstraps: int = 500,
    flip_probability: float = 0.5,
    about: About | None = None,
    block: int = 1024,
) -> Estimate:
    """KSD² of rows ``x`` against exp(-E)/Z, null hypothesis: they are draws of it.

    Args:
        energy: ``[batch, *event] -> [batch]``, normalised or not.
        x: held-out rows, or draws of a sampler, ``[n, *event]``; two or more.
        generator: source of the bootstrap; a fresh one of seed 0 by default.
        kernel: "imq", (1 + r²/h²)^(-1/2), or "gaussian", exp(-r²/(2h²)).
        bandwidth: length in the units of x, or "median", the median distance between rows.
        multiples: the kernel is averaged over these multiples of the bandwidth.
        num_bootstraps: the smallest p-value is 1 / (num_bootstraps + 1).
        flip_probability: 0.5 for independent rows; for successive states of a chain less, about
            one over the number of steps that they remember (then ``standard_error`` is too small).
        about: what to state in the result.
        block: rows of the kernel matrix held at a time.

    Returns:
        ``value``: KSD²; ``standard_error``: the larger of its spread under the null and of its
        first-order (Hoeffding) error; ``details``: ``null_95``, the value that one in twenty
        perfect models exceeds, ``of_zero_score``, KSD² of a model that predicts nothing,
        ``v_statistic`` (the diagonal included, never negative) and ``bandwidths``.

    Example:
        >>> import torch
        >>> x = torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
        >>> right, narrow = (lambda x, v=v: x.square().sum(1) / (2 * v) for v in (1.0, 0.5))
        >>> [kernel_stein_discrepancy(energy, x).p_value > 0.01 for energy in (right, narrow)]
        [True, False]
    """
    positive_integer(num_bootstraps=num_bootstraps, block=block)
    if kernel not in RADIAL_KERNELS:
        raise ValueError(f"kernel must be one of {', '.join(RADIAL_KERNELS)}, got {kernel!r}")
    if not 0 < flip_probability <= 0.5:
        raise ValueError(
            f"flip_probability must lie above 0 and at most at 0.5, got {flip_probability}"
        )
    for multiple in multiples:
        positive(multiple=multiple)
    if len(x) < 2:
        raise ValueError(f"x must have two rows or more, got {len(x)}")
    all_finite("x", x)
    generator = generator or torch.Generator().manual_seed(0)
    scores = _scores(energy, x, block)
    rows = x.detach().flatten(1).double().cpu()
    rows = rows - rows.mean(dim=0)
    if bandwidth == "median":
        unit = distance_quantile(rows, generator)
    else:
        unit = bandwidth
        positive(bandwidth=unit)
    bandwidths = tuple(multiple * unit for multiple in multiples)
    radial = RADIAL_KERNELS[kernel]
    n = len(rows)

    signs = _signs(n, num_bootstraps, flip_probability, generator)
    columns = torch.cat([torch.ones(n, 1, dtype=signs.dtype), signs], dim=1)
    products = torch.empty_like(columns)
    diagonal = torch.empty(n, dtype=signs.dtype)
    trivial = 0.0
    for start in range(0, n, block):
        part = slice(start, start + block)
        matrix = stein_kernel(rows[part], scores[part], rows, scores, radial, bandwidths)
        products[part] = matrix @ columns
        diagonal[part] = matrix.diagonal(start)
        zero = torch.zeros_like(rows)
        of_zero = stein_kernel(rows[part], zero[part], rows, zero, radial, bandwidths)
        trivial += float(of_zero.sum() - of_zero.diagonal(start).sum())
    sums = (columns * products).sum(dim=0)  # of w_i w_j u_ij over all pairs, the diagonal included
    statistics = (sums - diagonal.sum()) / (n * (n - 1))
    value, bootstrapped = float(statistics[0]), statistics[1:]

    null_spread = float(bootstrapped.std()) if num_bootstraps > 1 else 0.0
    of_rows = (products[:, 0] - diagonal) / (n - 1)
    return Estimate(
        value=value,
        standard_error=max(null_spread, 2 * float(of_rows.std()) / math.sqrt(n)),
        floor=0.0,
        p_value=float(1 + (bootstrapped >= value).sum()) / (1 + num_bootstraps),
        n=n,
        meaning="squared kernel Stein discrepancy between rows and model, unbiased",
        about=about or About(),
        null="the rows are draws of the model",
        details={
            "null_95": float(bootstrapped.quantile(0.95)),
            "of_zero_score": trivial / (n * (n - 1)),
            "v_statistic": float(sums[0]) / n**2,
            "kernel": kernel,
            "bandwidths": list(bandwidths),
        },
    )


def _scores(energy: Any, x: Tensor, block: int) -> Tensor:
    """Scores of all rows, ``[n, d]``, in float64 on the CPU."""
    dtype, device = home_of(energy)
    parts = [
        score(energy, rows.detach().to(device=device, dtype=dtype or rows.dtype)).flatten(1)
        for rows in x.split(block)
    ]
    scores = torch.cat([part.double().cpu() for part in parts])
    all_finite("the score of the energy at x", scores)
    return scores


def _signs(n: int, count: int, flip_probability: float, generator: torch.Generator) -> Tensor:
    """``count`` sequences of n signs, each the one before it or, with that probability, flipped."""
    uniform = torch.rand(n, count, generator=generator, device=generator.device).cpu()
    flips = 1 - 2 * (uniform < flip_probability).double()
    flips[0] = 2 * (uniform[0] < 0.5).double() - 1
    return flips.cumprod(dim=0)
