"""Maximum mean discrepancy between samples and held-out data, with a permutation p-value.

    MMD² = E k(x, x') + E k(y, y') - 2 E k(x, y),    k(a, b) = mean over c of exp(-‖a-b‖²/(2c²h²))

h is the median distance in the pooled sample. Source: Gretton et al. 2012, A Kernel Two-Sample
Test: the unbiased statistic of lemma 6, so the value may be negative, and is zero on average when
both sets have one law. The p-value is exact for any sample size: labels are permuted, and the
kernel (h included) does not change under permutation.
Cost: (n + m)² kernel values once, times ``num_permutations`` in a matrix product; memory is that
of ``block`` rows of the kernel matrix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from basin.core.kernels import distance_quantile, squared_distances
from basin.core.validation import all_finite, positive, positive_integer, same_event_shape
from basin.evaluation.estimate import About, Estimate

__all__ = ["mmd"]


def mmd(
    x: Tensor,
    y: Tensor,
    generator: torch.Generator | None = None,
    *,
    num_permutations: int = 500,
    bandwidths: Sequence[float] = (0.25, 0.5, 1.0, 2.0),
    about: About | None = None,
    block: int = 1024,
) -> Estimate:
    """MMD² between samples ``x`` and held-out rows ``y``, null hypothesis: one law.

    Args:
        x: samples of the model, ``[n, *event]``, independent.
        y: held-out rows, ``[m, *event]``, blurred as the model is; four or more.
        generator: source of the permutations; a fresh one of seed 0 by default.
        num_permutations: the smallest p-value is 1 / (num_permutations + 1).
        bandwidths: multiples c of the median distance, whose kernels are averaged.
        about: what to state in the result.
        block: rows of the kernel matrix held at a time.

    Returns:
        ``value``: MMD²; ``standard_error``: the larger of its spread under the null and of its
        first-order (Hoeffding) error; ``floor``: MMD² between two random halves of ``y``, one draw
        of what exact samples would score (0 on average) from half as many rows; ``details``:
        ``null_95``, the value that one in twenty perfect models exceeds, and ``bandwidth``.

    Example:
        >>> import torch
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(200, 2, generator=g), torch.randn(200, 2, generator=g)
        >>> mmd(x, y, g).p_value > 0.01, mmd(x + 1, y, g).p_value < 0.01
        (True, True)
    """
    positive_integer(num_permutations=num_permutations, block=block)
    for multiple in bandwidths:
        positive(bandwidth=multiple)
    same_event_shape("x", x, y.shape[1:])
    all_finite("x", x)
    all_finite("y", y)
    n, m = len(x), len(y)
    if n < 2 or m < 4:
        raise ValueError(f"mmd must have two samples and four held-out rows or more, got {n}, {m}")
    generator = generator or torch.Generator().manual_seed(0)
    pooled = torch.cat([x.flatten(1).double().cpu(), y.flatten(1).double().cpu()])
    pooled = pooled - pooled.mean(dim=0)
    median = distance_quantile(pooled, generator)  # without regard to the labels
    indicators = _indicators(n, m, num_permutations, generator)
    products = torch.empty_like(indicators)
    for start in range(0, n + m, block):
        kernel = _kernel(pooled[start : start + block], pooled, median, bandwidths)
        products[start : start + block] = kernel @ indicators
    half, all_points, first, *_ = range(indicators.shape[1])
    within = (indicators * products).sum(dim=0)  # Σ k over pairs inside each labelled set
    row_sums = products[:, all_points]
    to_all = (indicators * row_sums[:, None]).sum(dim=0)
    total = float(row_sums.sum())
    statistics = _statistic(within, to_all - within, total - 2 * to_all + within, n, m)[first:]
    value, permuted = float(statistics[0]), statistics[1:]

    held_out = indicators[:, all_points] - indicators[:, first]
    half_to_y = float((held_out * products[:, half]).sum())
    within_y = float(total - 2 * to_all[first] + within[first])
    within_half = float(within[half])
    across = half_to_y - within_half
    rest = within_y - 2 * across - within_half
    floor = _statistic(within_half, across, rest, m // 2, m - m // 2)

    null_spread = float(permuted.std()) if num_permutations > 1 else 0.0
    first_order = _first_order_error(products[:, first], row_sums, n, m)
    return Estimate(
        value=value,
        standard_error=max(null_spread, first_order),
        floor=float(floor),
        p_value=float(1 + (permuted >= value).sum()) / (1 + num_permutations),
        n=min(n, m),
        meaning="squared maximum mean discrepancy between samples and held-out data, unbiased",
        about=about or About(),
        null="samples and held-out data have one law",
        details={
            "null_95": float(permuted.quantile(0.95)),
            "bandwidth": median,
            "bandwidths": list(bandwidths),
            "n_samples": n,
            "n_held_out": m,
        },
    )


def _indicators(n: int, m: int, num_permutations: int, generator: torch.Generator) -> Tensor:
    """Columns of 0 and 1 ``[n + m, 3 + permutations]``: half of y, all, x, permuted copies of x."""
    columns = torch.zeros(3 + num_permutations, n + m, dtype=torch.float64)
    device = generator.device
    columns[0, n + torch.randperm(m, generator=generator, device=device).cpu()[: m // 2]] = 1
    columns[1] = 1
    columns[2, :n] = 1
    for row in columns[3:]:
        row[torch.randperm(n + m, generator=generator, device=device).cpu()[:n]] = 1
    return columns.T.contiguous()


def _statistic(
    within_x: Tensor | float, across: Tensor | float, within_y: Tensor | float, n: int, m: int
) -> Tensor:
    """Unbiased MMD² from sums of k over ordered pairs, whose diagonals are k(a, a) = 1."""
    value = (within_x - n) / (n * (n - 1)) + (within_y - m) / (m * (m - 1)) - 2 * across / (n * m)
    return torch.as_tensor(value, dtype=torch.float64)


def _first_order_error(to_x: Tensor, to_all: Tensor, n: int, m: int) -> float:
    """Standard error from the projections E[k(a, x)] - E[k(a, y)] of the U-statistic."""
    to_y = to_all - to_x
    of_x = (to_x[:n] - 1) / (n - 1) - to_y[:n] / m
    of_y = (to_y[n:] - 1) / (m - 1) - to_x[n:] / n
    return 2 * math.sqrt(float(of_x.var()) / n + float(of_y.var()) / m)


def _kernel(a: Tensor, b: Tensor, median: float, bandwidths: Sequence[float]) -> Tensor:
    distances = squared_distances(a, b)
    kernel = torch.zeros_like(distances)
    for multiple in bandwidths:
        kernel += torch.exp(distances * (-0.5 / (multiple * median) ** 2))
    return kernel / len(bandwidths)
