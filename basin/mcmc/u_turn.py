"""The generalised U-turn criterion: when a path in phase space stops getting anywhere.

    a path of points with whitened momenta q_1 ... q_n, and R = q_1 + ... + q_n, turns when

        q_1 . R <= 0    or    q_n . R <= 0

R is, up to a factor, the way that the path has gone: along L^-1 (x_n - x_1) as h goes to 0. When
two paths are joined, it is also asked of the first one with the first point of the second, and
of the last point of the first one with the second: two halves that each fit in a full period
would otherwise join to a whole period without being seen.

A path that grows to 2^j points is asked whenever a block of 2^k of them is full, the blocks being
those of a recursion that halves: points 1-2, 3-4 and then 1-4, 5-6 ... Of all points only those
are kept at which an unfinished block began, j + 1 at most. It may also grow by whole blocks of
equal size, each of which has been asked what lies within it.

Source: Betancourt 2017 (arXiv 1701.02434), appendix A.4.2; the checks across the joint are Stan's
since version 2.21; the unrolled recursion is that of Phan, Pradhan & Jankowiak 2019
(arXiv 1912.11554), appendix A. Cost of a point: about four inner products.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from basin.core.tensors import event_sum
from basin.core.trees import mapped

__all__ = ["Blocks", "MomentumPath", "has_turned", "is_joint_turning"]


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
    asked = mapped(lambda *momenta: torch.cat(momenta), whole, into_after, out_of_before)
    return has_turned(asked).reshape(3, -1).any(dim=0)


class Opening(NamedTuple):
    """Where a block begins, or the path ends: what the criterion will ask of it."""

    momentum: Tensor
    """Of the point that begins it."""
    momentum_before: Tensor
    """Of the point before, which ends the block before."""
    total_before: Tensor
    """Sum of the momenta of all points before."""

    def until(self, following: Opening) -> MomentumPath:
        """The points from here to just before ``following``."""
        total = following.total_before - self.total_before
        return MomentumPath(self.momentum, following.momentum_before, total)


class Blocks(NamedTuple):
    """A path that grows by pieces, points or blocks of them, and the blocks that these make.

    ``openings`` by the number of the piece, counted from 0; ``last`` momentum and ``total`` of all.
    """

    piece_size: int
    num_pieces: int
    openings: dict[int, Opening]
    last: Tensor
    total: Tensor

    @classmethod
    def after(cls, momentum: Tensor, piece_size: int = 1) -> Blocks:
        """No points yet, after one with this ``momentum`` ``[chains, *event]``."""
        return cls(piece_size, 0, {}, momentum, torch.zeros_like(momentum))

    def with_point(self, momentum: Tensor) -> Blocks:
        """The path with one more point."""
        return self.with_piece(MomentumPath(momentum, momentum, momentum))

    def with_piece(self, piece: MomentumPath) -> Blocks:
        """The path with one more piece of ``piece_size`` points, a power of two."""
        number = self.num_pieces
        unfinished = {_block_start(number, level) for level in range(number.bit_length() + 1)}
        openings = {start: self.openings[start] for start in unfinished if start < number}
        openings[number] = Opening(piece.first, self.last, self.total)
        total = self.total + piece.total
        return Blocks(self.piece_size, number + 1, openings, piece.last, total)

    def whole(self) -> MomentumPath:
        """The path from its first point to its last."""
        return self.openings[0].until(self._end())

    def has_turned(self) -> Tensor:
        """Whether a block of several pieces that ends at the last one turns, ``[chains]``."""
        is_turning = torch.zeros(len(self.last), dtype=torch.bool, device=self.last.device)
        level = 1
        while self.num_pieces % 2**level == 0:
            start = self.openings[_block_start(self.num_pieces - 1, level)]
            middle = self.openings[_block_start(self.num_pieces - 1, level - 1)]
            if self.piece_size == level == 1:  # two points: nothing more to ask across their joint
                is_turning = is_turning | has_turned(start.until(self._end()))
            else:
                halves = start.until(middle), middle.until(self._end())
                is_turning = is_turning | is_joint_turning(*halves)
            level += 1
        return is_turning

    def _end(self) -> Opening:
        return Opening(self.last, self.last, self.total)


def _block_start(number: int, level: int) -> int:
    """The first piece of the block of 2^level pieces that piece ``number`` lies in."""
    return number - number % 2**level
