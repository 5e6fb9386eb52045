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

from collections.abc import Sequence

import torch
from torch import Tensor

from basin.core.kernels import distance_quantile, squared_distances
from basin.core.validation import all_finite, positive, positive_integer, same_event_shape
from basin.evaluation.estimate import About, Estimate
from basin.evaluation.kernel_two_sample import compare_by_kernel
from basin.evaluation.two_sample import ONE_LAW, pooled

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
    both = pooled(x, y)
    median = distance_quantile(both.rows, generator)  # without regard to the labels
    found = compare_by_kernel(
        both,
        lambda a, b: _kernel(a, b, median, bandwidths),
        on_diagonal=1.0,
        num_permutations=num_permutations,
        generator=generator,
        block=block,
    )
    return Estimate(
        value=found.value,
        standard_error=found.standard_error,
        floor=found.floor,
        p_value=found.p_value,
        n=min(n, m),
        meaning="squared maximum mean discrepancy between samples and held-out data, unbiased",
        about=about or About(),
        null=ONE_LAW,
        details={
            "null_95": found.null_95,
            "bandwidth": median,
            "bandwidths": list(bandwidths),
            "n_samples": n,
            "n_held_out": m,
        },
    )


def _kernel(a: Tensor, b: Tensor, median: float, bandwidths: Sequence[float]) -> Tensor:
    distances = squared_distances(a, b)
    kernel = torch.zeros_like(distances)
    for multiple in bandwidths:
        kernel += torch.exp(distances * (-0.5 / (multiple * median) ** 2))
    return kernel / len(bandwidths)
