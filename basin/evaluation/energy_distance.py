"""Energy distance between samples and held-out data, with a permutation p-value.

    D² = 2 E‖x - y‖ - E‖x - x'‖ - E‖y - y'‖        x, x' samples; y, y' held-out rows

Zero when, and only when, both sets have one law (with a finite mean), at no length that has to be
chosen: unlike the MMD it has no bandwidth. In one dimension D² = 2 ∫ (F - G)² dx.
Source: Székely & Rizzo 2013 (theirs is D² too). The U-statistic, so the value may be negative
and is zero on average for a perfect model. The p-value is exact for any sample size.
Cost: (n + m)² distances once, times ``num_permutations`` in a matrix product; memory is that of
``block`` rows of the distance matrix.
"""

from __future__ import annotations

import torch
from torch import Tensor

from basin.core.kernels import squared_distances
from basin.core.validation import positive_integer
from basin.evaluation.estimate import About, Estimate
from basin.evaluation.kernel_two_sample import compare_by_kernel
from basin.evaluation.two_sample import ONE_LAW, pooled

__all__ = ["energy_distance"]


def energy_distance(
    samples: Tensor,
    held_out: Tensor,
    generator: torch.Generator | None = None,
    *,
    num_permutations: int = 500,
    about: About | None = None,
    block: int = 1024,
) -> Estimate:
    """D² between samples and held-out rows, in the units of x, null hypothesis: one law.

    Args:
        samples: draws of the model, ``[n, *event]``, independent; four or more.
        held_out: rows not trained on, ``[m, *event]``, blurred as the model is; four or more.
        generator: source of the permutations; a fresh one of seed 0 by default.
        num_permutations: the smallest p-value is 1 / (num_permutations + 1).
        about: what to state in the result.
        block: rows of the distance matrix held at a time.

    Returns:
        ``value``: D²; ``standard_error``: the larger of its spread under the null and of its
        first-order (Hoeffding) error; ``floor``: D² between two random halves of ``held_out``, one
        draw of what exact samples would score (0 on average) from half as many rows; ``details``:
        ``null_95``, the value that one in twenty perfect models exceeds.

    Example:
        >>> import torch
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(200, 2, generator=g), torch.randn(200, 2, generator=g)
        >>> energy_distance(x, y, g).p_value > 0.01, energy_distance(x + 1, y, g).p_value < 0.01
        (True, True)
    """
    positive_integer(num_permutations=num_permutations, block=block)
    generator = generator or torch.Generator().manual_seed(0)
    both = pooled(samples, held_out, fewest=4)
    found = compare_by_kernel(
        both,
        lambda a, b: -squared_distances(a, b).sqrt_(),
        on_diagonal=0.0,
        num_permutations=num_permutations,
        generator=generator,
        block=block,
    )
    return Estimate(
        value=found.value,
        standard_error=found.standard_error,
        floor=found.floor,
        p_value=found.p_value,
        n=min(both.n, both.m),
        meaning="energy distance D² between samples and held-out data, in units of x, unbiased",
        about=about or About(),
        null=ONE_LAW,
        details={"null_95": found.null_95, "n_samples": both.n, "n_held_out": both.m},
    )
