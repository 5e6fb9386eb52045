"""The generalised U-turn criterion: when a path in phase space stops getting anywhere.

    a path of points with whitened momenta q_1 ... q_n, and R = q_1 + ... + q_n, turns when

        q_1 . R <= 0    or    q_n . R <= 0

R is, up to a factor, the way that the path has gone: along L^-1 (x_n - x_1) as h goes to 0. When
two paths are joined, it is also asked of the first one with the first point of the second, and
of the last point of the first one with the second: two halves that each fit in a full period
would otherwise join to a whole period without being seen.

Source: Betancourt 2017 (arXiv 1701.02434), appendix A.4.2; the checks across the joint are Stan's
since version 2.21. Cost: six inner products.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from basin.core.tensors import event_sum

__all__ = ["MomentumPath", "has_turned", "is_joint_turning"]


class MomentumPath(NamedTuple):
    """What the criterion needs of a path: the momenta at its ends, and the sum of all of them."""

    first: Tensor
    last: Tensor
    total: Tensor


def has_turned(path: MomentumPath) -> Tensor:
    """Whether an end of the path moves against the way that it has gone, ``[chains]``."""
    ahead = event_sum(path.last * path.total) > 0
    return ~(ahead & (event_sum(path.first * path.total) > 0))


def is_joint_turning(before: MomentumPath, after: MomentumPath) -> Tensor:
    """Whether ``before`` followed by ``after`` turns as a whole or across the joint, ``[chains]``.

    The same answer for both read backwards, so that a path grown to the past is asked with what
    was there as ``before``.
    """
    whole = MomentumPath(before.first, after.last, before.total + after.total)
    into_after = MomentumPath(before.first, after.first, before.total + after.first)
    out_of_before = MomentumPath(before.last, after.last, before.last + after.total)
    return has_turned(whole) | has_turned(into_after) | has_turned(out_of_before)
