"""Noised points and what a score at them is regressed on, at one noise level.

y = x + sigma z        target -z / sigma, or its mean given (y, batch)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from basin.core.conditions import first_rows, repeated
from basin.core.noise import antithetic
from basin.core.posterior_mean import posterior_mean_targets
from basin.core.tensors import normal_like

__all__ = ["denoising_targets"]


def denoising_targets(
    energy: Any,
    x: Tensor,
    sigma: float,
    *,
    num_noised: int | None,
    in_pairs: bool,
    posterior_mean: bool,
    generator: torch.Generator,
) -> tuple[Any, Tensor, Tensor]:
    """``(energy of the rows of y, y, target)``.

    Args:
        energy: callable ``[batch, *event] -> [batch]``, maybe under a condition for each row.
        x: the batch, ``[batch, *event]``.
        sigma: noise standard deviation.
        num_noised: rows that are noised, the first ones; None is all of them.
        in_pairs: noise each with z and with -z.
        posterior_mean: average the targets over the whole batch as possible sources.
        generator: source of z.

    Returns:
        y and target are ``[num_noised, *event]``, or twice as many rows in pairs.
    """
    source = x[:num_noised]
    energy = first_rows(energy, num_noised)
    z = normal_like(source, generator)
    if in_pairs:
        z, source, energy = antithetic(z), torch.cat([source, source]), repeated(energy, 2)
    y = torch.add(source, z, alpha=sigma)
    if not posterior_mean:
        return energy, y, z / -sigma
    levels = torch.full((len(y),), sigma, dtype=y.dtype, device=y.device)
    return energy, y, posterior_mean_targets(y, x, levels)[0]
