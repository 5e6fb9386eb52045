"""Fisher divergence between a known density and the model: the mean squared error of the score.

    F(p‖pθ) = E_p ‖∇log p(x) - s(x)‖²,   s = -∇E        (no ½, summed over coordinates)

Source: Hyvärinen 2005; the conventions are those of DESIGN §1, so that for pσ this is the denoising
loss minus its constant. It is blind to the weights of modes that lie far apart: read it beside the
mode weights, never instead of them.
Cost: ``num_samples`` scores of each.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from basin.core.gradients import score
from basin.core.tensors import event_sum
from basin.core.types import Density
from basin.core.validation import positive_integer
from basin.evaluation.estimate import About, Estimate
from basin.partition.blocks import home_of

__all__ = ["fisher_divergence"]


def fisher_divergence(
    energy: Any,
    density: Density,
    num_samples: int = 20_000,
    generator: torch.Generator | None = None,
    *,
    about: About | None = None,
    block: int = 8192,
) -> Estimate:
    """E_p ‖∇log p - s‖² by Monte Carlo over exact draws of ``density``.

    Args:
        energy: ``[batch, *event] -> [batch]``.
        density: the truth, blurred to the level of the energy; it must have a score.
        num_samples: draws, two or more.
        generator: source of the draws; a fresh one of seed 0 by default.
        about: what to state in the result.
        block: points at a time.

    Returns:
        ``details`` has ``of_zero_score``, E_p‖∇log p‖²: what a model that predicts nothing gets.

    Example:
        >>> from basin.datasets import StandardGaussian
        >>> twice = lambda x: x.square().sum(1)  # score -2x where the truth has -x
        >>> round(fisher_divergence(twice, StandardGaussian(2)).value, 1)  # E‖x‖² = 2
        2.0
    """
    positive_integer(num_samples=num_samples, block=block)
    if num_samples < 2:
        raise ValueError(f"num_samples must be two or more, got {num_samples}")
    generator = generator or torch.Generator().manual_seed(0)
    dtype, device = home_of(energy)
    x = density.sample(num_samples, generator)
    errors, squares = [], []
    for rows in x.split(block):
        truth = density.score(rows).double()
        model = score(energy, rows.to(device=device, dtype=dtype or rows.dtype)).double().cpu()
        errors.append(event_sum((truth.cpu() - model).square()))
        squares.append(event_sum(truth.square()).cpu())
    of_rows = torch.cat(errors)
    return Estimate(
        value=float(of_rows.mean()),
        standard_error=float(of_rows.std()) / math.sqrt(num_samples),
        floor=0.0,
        p_value=None,
        n=num_samples,
        meaning="Fisher divergence E‖∇log p - s‖² between truth and model",
        about=about or About(),
        details={"of_zero_score": float(torch.cat(squares).mean())},
    )
