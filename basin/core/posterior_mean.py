"""Regression targets for the two derivatives of log p_sigma, with the variance taken out.

For y = x + sigma z the single-draw targets are -z/sigma (space) and |z|^2 - d (noise). Given a
reference batch x_1..x_n, both may be replaced by their mean under the posterior over the source,

    w_i = exp(-|y - x_i|^2 / 2 sigma^2) / sum_j exp(-|y - x_j|^2 / 2 sigma^2)
    space   sum_i w_i (x_i - y) / sigma^2          noise   sum_i w_i |y - x_i|^2 / sigma^2 - d

Source: Xu, Tong & Jaakkola, Stable Target Field for Reduced Variance Score Estimation, ICLR 2023,
for the first. If the batch is drawn anew at each step and holds y's own source as an equal
member, this is the conditional expectation of the single-draw target given (y, batch): the
gradient of the loss keeps its mean exactly and only loses variance. Leaving the source out
biases it (a test shows by how much).

Cost: points x references x d multiply-adds and as many exponentials; memory points x references.
"""

from __future__ import annotations

import torch
from torch import Tensor

from basin.core.references import Reference
from basin.core.tensors import expand_like

__all__ = ["STABLE_TARGETS", "posterior_mean_targets", "single_draw_targets"]

STABLE_TARGETS = Reference(
    "Stable target field for reduced variance score estimation in diffusion models",
    ("Yilun Xu", "Shangyuan Tong", "Tommi Jaakkola"),
    2023,
    "https://arxiv.org/abs/2302.00670",
)

# Direct differences are exact but cost d passes; beyond this the matrix product is used.
_DIRECT_DISTANCE_DIMENSIONS = 4


def single_draw_targets(z: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """``(-z/sigma [points, *event], |z|^2 - d [points])`` for noise z and levels sigma [points]."""
    flat = z.flatten(1)
    return -z / expand_like(sigma, z), flat.square().sum(1) - flat.shape[1]


def posterior_mean_targets(y: Tensor, reference: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Targets of both derivatives at ``y``, averaged over the posterior on ``reference``.

    Args:
        y: noised points, ``[points, *event]``.
        reference: the batch that holds each point's source, ``[references, *event]``.
        sigma: noise standard deviation of each point, ``[points]``.

    Returns:
        ``(space [points, *event], noise [points])``.
    """
    centre = reference.flatten(1).mean(0)
    points, members = y.flatten(1) - centre, reference.flatten(1) - centre
    dimension = members.shape[1]
    direct = dimension <= _DIRECT_DISTANCE_DIMENSIONS
    mode = "donot_use_mm_for_euclid_dist" if direct else "use_mm_for_euclid_dist"
    squared = torch.cdist(points, members, compute_mode=mode).square_()
    variance = sigma.square()[:, None]
    weights = torch.softmax(squared / (-2 * variance), dim=1)
    space = (weights @ members - points) / variance
    noise = (weights * squared).sum(1) / variance[:, 0] - dimension
    return space.view_as(y), noise
