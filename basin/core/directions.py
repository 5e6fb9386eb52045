"""Random directions v with E v = 0 and E vv' = I: what estimates a trace or a squared norm.

E v'Hv = tr H        E (v's)^2 = ||s||^2
"""

from __future__ import annotations

import torch
from torch import Tensor

from basin.core.references import Reference
from basin.core.tensors import event_sum, expand_like, normal_like, num_event_dimensions

__all__ = ["FINITE_DIFFERENCES", "random_signs_like", "sphere_like"]

FINITE_DIFFERENCES = Reference(
    "Efficient learning of generative models via finite-difference score matching",
    ("Tianyu Pang", "Kun Xu", "Chongxuan Li", "Yang Song", "Stefano Ermon", "Jun Zhu"),
    2020,
    "https://arxiv.org/abs/2007.03317",
)


def random_signs_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """+1 or -1 with equal probability (Rademacher), of the shape, dtype and device of ``x``."""
    bits = torch.randint(0, 2, x.shape, generator=generator, device=x.device)
    return bits.to(x.dtype) * 2 - 1


def sphere_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform on the sphere of radius sqrt(d) for each row, like ``x`` ``[batch, *event]``."""
    z = normal_like(x, generator)
    norm = event_sum(z.square()).sqrt()
    if not bool((norm > 0).all()):  # in one dimension float32 draws an exact zero once in 10^7
        return sphere_like(x, generator)
    return z * expand_like(num_event_dimensions(x) ** 0.5 / norm, z)
