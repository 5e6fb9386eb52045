"""Moves from one noise level of an energy to the next one down, shared by the kernels that walk.

    ancestral         x <- x + r sigma^2 s(x, sigma) + sqrt(r (1 - r)) sigma z
    probability flow  dx / d sigma = -sigma s(x, sigma)          the same laws p_sigma, no noise

where r = 1 - (sigma_next / sigma)^2. Source: Song et al. 2021 (arXiv 2011.13456), equation 47 of
appendix F, and equation 13 with f = 0 and g^2 = d sigma^2 / dt. The energy knows its level as the
attribute ``sigma``, as ``noisy_energy.at(sigma)`` has it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from basin.core.gradients import score
from basin.core.references import Reference
from basin.core.tensors import normal_like
from basin.core.types import Energy

__all__ = ["SCORE_SDE", "ancestral_move", "noise_level", "probability_flow"]

SCORE_SDE = Reference(
    "Score-based generative modeling through stochastic differential equations",
    ("Yang Song", "Jascha Sohl-Dickstein", "Diederik P. Kingma", "Abhishek Kumar")
    + ("Stefano Ermon", "Ben Poole"),
    2021,
    "https://arxiv.org/abs/2011.13456",
)


def noise_level(energy: Energy, name: str) -> Any:
    """sigma of the energy; a ``ValueError`` on behalf of the kernel ``name`` if it has none."""
    sigma = getattr(energy, "sigma", None)
    if sigma is None:
        raise ValueError(
            f"{name} needs an energy with a noise level, got {type(energy).__name__} "
            "without attribute sigma; give basin.paths.Noised(noisy_energy, schedule)"
        )
    return sigma


def ancestral_move(
    energy: Energy, x: Tensor, sigma: Any, share: float, generator: torch.Generator
) -> Tensor:
    """From the level ``sigma`` to sqrt(1 - ``share``) ``sigma``, shape of ``x``; one score."""
    noise = (share * (1 - share)) ** 0.5 * sigma * normal_like(x, generator)
    return x + share * sigma**2 * score(energy, x) + noise


def probability_flow(energy: Energy, x: Tensor, sigma: Any) -> Tensor:
    """dx / d sigma at the level ``sigma`` of the energy, shape of ``x``; one score.

    >>> import torch
    >>> blurred_point = lambda x: x.square().sum(1) / (2 * 3.0**2)      # the data: zero
    >>> probability_flow(blurred_point, torch.tensor([[6.0]]), 3.0)     # x / sigma
    tensor([[2.]])
    """
    return -sigma * score(energy, x)
