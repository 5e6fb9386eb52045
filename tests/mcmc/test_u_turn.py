"""The U-turn criterion on circles, where the answer is an angle."""

from __future__ import annotations

import math

import pytest
import torch

from basin.mcmc.u_turn import Blocks, MomentumPath, has_turned, is_joint_turning


def path(start, stop, step):
    """Momenta at the angles start * step ... (stop - 1) * step of a circle."""
    angles = step * torch.arange(start, stop, dtype=torch.float64)
    momenta = torch.stack([angles.cos(), angles.sin()], dim=1)
    return MomentumPath(momenta[:1], momenta[-1:], momenta.sum(0, keepdim=True))


@pytest.mark.parametrize("num_points", [3, 5, 20])
def test_it_turns_at_half_a_circle(num_points):
    """The sum points to the middle angle, so an end is square to it half the span away: pi / 2."""
    for span, answer in ((0.99 * math.pi, False), (1.01 * math.pi, True)):
        assert bool(has_turned(path(0, num_points, span / (num_points - 1)))) == answer


def test_the_checks_across_the_joint_see_a_whole_period():
    """Points 2 radians apart: neither two of them nor all four seem to turn, but three do."""
    before, after = path(0, 2, 2.0), path(2, 4, 2.0)
    assert not has_turned(before)
    assert not has_turned(after)
    assert not has_turned(path(0, 4, 2.0))  # the mutant: the whole alone
    assert is_joint_turning(before, after)
    assert is_joint_turning(reversed_path(after), reversed_path(before))


def reversed_path(path):
    return MomentumPath(path.last, path.first, path.total)


def test_one_answer_a_chain_and_standing_still_is_turning():
    ends = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    assert has_turned(MomentumPath(ends, ends, 2 * ends)).tolist() == [False, True]


# --- the unrolled recursion ----------------------------------------------------------------------


def has_turned_somewhere(momenta):
    """Stan's recursion: a block turns, or one of its halves did, or across their joint."""
    if len(momenta) == 1:
        return torch.zeros(momenta.shape[1], dtype=torch.bool)
    left, right = momenta.chunk(2)
    turned = has_turned_somewhere(left) | has_turned_somewhere(right)

    def asked(rows):
        return has_turned(MomentumPath(rows[0], rows[-1], rows.sum(0)))

    turned |= asked(momenta)
    turned |= asked(torch.cat([left, right[:1]]))
    return turned | asked(torch.cat([left[-1:], right]))


@pytest.mark.parametrize("num_points", [2, 4, 8, 16, 32])
def test_blocks_are_those_of_the_recursion(num_points, generator):
    """On 2,000 random walks of momenta: the same ones have turned."""
    steps = torch.randn(num_points, 2000, 3, generator=generator, dtype=torch.float64)
    drift = torch.randn(2000, 3, generator=generator, dtype=torch.float64)
    momenta = drift + 1.5 / num_points**0.5 * steps.cumsum(0)
    blocks = Blocks.after(torch.zeros(2000, 3, dtype=torch.float64))
    is_back = torch.zeros(2000, dtype=torch.bool)
    for momentum in momenta:
        blocks = blocks.with_point(momentum)
        is_back |= blocks.has_turned()
        assert len(blocks.openings) <= math.log2(num_points) + 1
    assert torch.equal(is_back, has_turned_somewhere(momenta))
    assert 20 < int(is_back.sum()) < 1980
    whole = MomentumPath(momenta[0], momenta[-1], momenta.sum(0))
    torch.testing.assert_close(blocks.whole(), whole)
