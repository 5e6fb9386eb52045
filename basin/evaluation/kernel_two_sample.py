"""Two-sample statistics made of a kernel, with a permutation p-value and bounded memory.

    T = E k(x, x') + E k(y, y') - 2 E k(x, y)        x, x' samples; y, y' held-out rows

With a positive definite k it is the squared maximum mean discrepancy, with k = -‖x - y‖ the energy
distance (Sejdinovic et al. 2013, theorem 22): both files are a kernel and this. The means over
pairs of one set leave the diagonal out (Gretton et al. 2012, lemma 6), so that T is zero on average
when both sets have one law, and may be negative.
Cost: (n + m)² kernel values once, times the permutations in a matrix product; memory is that of
``block`` rows of the kernel matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from basin.evaluation.two_sample import Pooled, permutation_p_value, permuted_labels

__all__ = []  # for mmd and energy_distance


class KernelComparison(NamedTuple):
    """The statistic and all that is said of it."""

    value: float
    standard_error: float
    floor: float
    p_value: float
    null_95: float


def compare_by_kernel(
    both: Pooled,
    kernel: Callable[[Tensor, Tensor], Tensor],
    *,
    on_diagonal: float,
    num_permutations: int,
    generator: torch.Generator,
    block: int,
) -> KernelComparison:
    """T with its error, the value of two random halves of the held-out rows, and its p-value.

    Args:
        both: the pooled rows; the held-out ones are four or more.
        kernel: ``[a, d], [b, d] -> [a, b]``, the same whatever the labels.
        on_diagonal: k(x, x), one number for all x.
        num_permutations: of the labels.
        generator: of the halves and permutations.
        block: rows of the kernel matrix at a time.
    """
    rows, n, m = both
    indicators = _indicators(n, m, num_permutations, generator)
    products = torch.empty_like(indicators)
    for start in range(0, n + m, block):
        products[start : start + block] = kernel(rows[start : start + block], rows) @ indicators
    half, all_points, first, *_ = range(indicators.shape[1])
    within = (indicators * products).sum(dim=0)  # Σ k over pairs inside each labelled set
    row_sums = products[:, all_points]
    to_all = (indicators * row_sums[:, None]).sum(dim=0)
    total = float(row_sums.sum())

    def statistic(
        within_x: Tensor | float, across: Tensor | float, within_y: Tensor | float, n: int, m: int
    ) -> Tensor:
        """T from sums of k over ordered pairs, their diagonals taken out."""
        of_x = (within_x - n * on_diagonal) / (n * (n - 1))
        of_y = (within_y - m * on_diagonal) / (m * (m - 1))
        return torch.as_tensor(of_x + of_y - 2 * across / (n * m), dtype=torch.float64)

    statistics = statistic(within, to_all - within, total - 2 * to_all + within, n, m)[first:]
    value, permuted = float(statistics[0]), statistics[1:]

    held_out = indicators[:, all_points] - indicators[:, first]
    half_to_y = float((held_out * products[:, half]).sum())
    within_y = float(total - 2 * to_all[first] + within[first])
    within_half = float(within[half])
    across = half_to_y - within_half
    rest = within_y - 2 * across - within_half
    floor = statistic(within_half, across, rest, m // 2, m - m // 2)

    null_spread = float(permuted.std()) if num_permutations > 1 else 0.0
    first_order = _first_order_error(products[:, first], row_sums, n, m, on_diagonal)
    return KernelComparison(
        value=value,
        standard_error=max(null_spread, first_order),
        floor=float(floor),
        p_value=permutation_p_value(value, permuted, generator),
        null_95=float(permuted.quantile(0.95)),
    )


def _indicators(n: int, m: int, num_permutations: int, generator: torch.Generator) -> Tensor:
    """Columns of 0 and 1 ``[n + m, 3 + permutations]``: half of y, all, x, permuted copies of x."""
    columns = torch.zeros(3 + num_permutations, n + m, dtype=torch.float64)
    order = torch.randperm(m, generator=generator, device=generator.device).cpu()
    columns[0, n + order[: m // 2]] = 1
    columns[1] = 1
    columns[2, :n] = 1
    columns[3:] = permuted_labels(n, m, num_permutations, generator).double()
    return columns.T.contiguous()


def _first_order_error(to_x: Tensor, to_all: Tensor, n: int, m: int, on_diagonal: float) -> float:
    """Standard error from the projections E[k(a, x)] - E[k(a, y)] of the U-statistic."""
    to_y = to_all - to_x
    of_x = (to_x[:n] - on_diagonal) / (n - 1) - to_y[:n] / m
    of_y = (to_y[n:] - on_diagonal) / (m - 1) - to_x[n:] / n
    return 2 * math.sqrt(float(of_x.var()) / n + float(of_y.var()) / m)
