"""Denoising score-matching loss on held-out rows, relative to the predictor that says nothing.

    value = E‖s(x + σz) + z/σ‖² / E‖z/σ‖²        1 for s = 0; smaller is better

The floor is not 0: no score can know the noise. Where the truth is known, the floor is the same
ratio for the true score on the same draws, and the difference is the Fisher divergence in units of
d/σ². Source: Vincent 2011; conventions of DESIGN §1. About pσ.
Cost: two scores a row (z and -z), and two of the truth.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from basin.core.gradients import score
from basin.core.tensors import event_sum, normal_like
from basin.core.types import Density
from basin.core.validation import all_finite, positive, positive_integer
from basin.evaluation.estimate import About, Estimate
from basin.partition.blocks import home_of

__all__ = ["relative_loss"]


def relative_loss(
    energy: Any,
    x: Tensor,
    sigma: float,
    generator: torch.Generator | None = None,
    *,
    density: Density | None = None,
    about: About | None = None,
    block: int = 8192,
) -> Estimate:
    """The held-out denoising loss over that of the zero score.

    Args:
        energy: ``[batch, *event] -> [batch]`` at level ``sigma`` (``noisy.at(sigma)``), in the
            coordinates of ``x`` in which the noise is isotropic.
        x: held-out rows, ``[n, *event]``, clean, two or more.
        sigma: the noise standard deviation, > 0.
        generator: source of the noise; a fresh one of seed 0 by default.
        density: the clean truth, where it is known; gives the floor.
        about: what to state in the result; pσ by default.
        block: rows at a time.

    Example:
        >>> import torch
        >>> g = torch.Generator().manual_seed(0)
        >>> x = torch.randn(4000, 2, generator=g)
        >>> exact = lambda y: 0.5 * y.square().sum(1) / (1 + 1.0**2)
        >>> round(relative_loss(exact, x, 1.0, g).value, 1)  # 1 - 1/(1 + 1/σ²)
        0.5
    """
    positive(sigma=sigma)
    positive_integer(block=block)
    all_finite("x", x)
    if len(x) < 2:
        raise ValueError(f"x must have two rows or more, got {len(x)}")
    generator = generator or torch.Generator().manual_seed(0)
    dtype, device = home_of(energy)
    blurred = None if density is None else density.blurred(sigma)
    losses, trivial, floors = [], [], []
    for rows in x.split(block):
        clean = rows.to(device=device, dtype=dtype or rows.dtype)
        noise = normal_like(clean.cpu(), generator).to(device)
        loss, floor = torch.zeros(len(rows)).double(), torch.zeros(len(rows)).double()
        for z in (noise, -noise):
            y = clean + sigma * z
            loss += 0.5 * event_sum((score(energy, y) + z / sigma).double().square()).cpu()
            if blurred is not None:
                known = blurred.score(y.cpu())
                floor += 0.5 * event_sum((known + z.cpu() / sigma).double().square())
        losses.append(loss)
        floors.append(floor)
        trivial.append(event_sum((noise / sigma).double().square()).cpu())
    of_rows, of_zero = torch.cat(losses), torch.cat(trivial)
    all_finite("the denoising loss", of_rows)
    value = float(of_rows.mean() / of_zero.mean())
    spread = (of_rows - value * of_zero).std() / of_zero.mean()
    return Estimate(
        value=value,
        standard_error=float(spread) / math.sqrt(len(x)),
        floor=None if blurred is None else float(torch.cat(floors).mean() / of_zero.mean()),
        p_value=None,
        n=len(x),
        meaning="held-out denoising loss relative to that of the zero score",
        about=about or About("p_sigma", sigma),
        details={"loss": float(of_rows.mean()), "trivial": float(of_zero.mean())},
    )
