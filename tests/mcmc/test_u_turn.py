"""The U-turn criterion on circles, where the answer is an angle."""

from __future__ import annotations

import math

import pytest
import torch

from basin.mcmc.u_turn import MomentumPath, has_turned, is_joint_turning


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
