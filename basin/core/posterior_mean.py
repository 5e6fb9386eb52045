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
In two dimensions these targets are half of a dual score matching step when written with cdist and
softmax, and an eighth with one product and one matrix changed in place.
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

# Rows in few coordinates may lie arbitrarily close to each other against their spread, and a
# product then loses their distances; n rows in five are about n^(-1/5) of the spread apart.
_FEW_COORDINATES = 4
_LOST_NATS = 0.01  # of a log weight, by the rounding of a product: less than anyone can see
_NEGLIGIBLE = (
    -60.0
)  # a log weight against the largest; numbers below e^-87 are slow to compute with


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
    members = reference.flatten(1)
    centre = members.mean(0)
    points, members = y.flatten(1) - centre, members - centre
    variance = sigma.square()[:, None]
    moments = _by_product if _may_multiply_out(members, variance) else _by_differences
    mean, squared = moments(points, members, variance)
    space, noise = (mean - points) / variance, squared / variance[:, 0] - members.shape[1]
    return space.view_as(y), noise


def _by_product(points: Tensor, members: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """``(sum_i w_i x_i, sum_i w_i |y - x_i|^2)`` with the squares multiplied out.

    |y|^2 is the same for every member, so that log w_i = (y'x_i - |x_i|^2 / 2) / sigma^2 + c.
    """
    columns = torch.cat([members, members.square().sum(1, keepdim=True)], dim=1)
    factors = torch.cat([points, torch.full_like(variance, -0.5)], dim=1) / variance
    weights = factors @ columns.t()
    # In place: fresh memory for a second matrix of this size costs more than its arithmetic.
    weights.sub_(weights.amax(1, keepdim=True)).clamp_(min=_NEGLIGIBLE).exp_()
    # Transposed, for a few rows times a wide matrix take a third of the time.
    sums = torch.cat([columns, torch.ones_like(columns[:, :1])], dim=1).t() @ weights.t()
    means = (sums[:-1] / sums[-1]).t()
    mean, mean_square = means[:, :-1], means[:, -1]
    return mean, mean_square + (points * (points - 2 * mean)).sum(1)


def _by_differences(points: Tensor, members: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """The same from exact distances, for noise levels far below the spread of the rows."""
    mode = "donot_use_mm_for_euclid_dist"
    squared = torch.cdist(points, members, compute_mode=mode).square_()
    weights = torch.softmax(squared / (-2 * variance), dim=1)
    return weights @ members, (weights * squared).sum(1)


def _may_multiply_out(members: Tensor, variance: Tensor) -> bool:
    """Whether log weights by a matrix product keep their meaning after rounding."""
    if members.shape[1] > _FEW_COORDINATES:
        return True
    if not members.is_cpu:
        return False  # differences cost little there, and to ask would stop the device
    lost = members.square().sum(1).max() * torch.finfo(members.dtype).eps / variance.min()
    return bool(lost < _LOST_NATS)
