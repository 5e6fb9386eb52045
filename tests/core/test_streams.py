"""Streams: a branch leaves its parent one draw on, whatever is taken from it."""

from __future__ import annotations

import torch

from basin.core.streams import branch


def test_a_branch_costs_its_parent_one_draw_however_many_it_gives():
    parents = [torch.Generator().manual_seed(5) for _ in range(3)]
    for parent, n in zip(parents[:2], (1, 1000), strict=True):
        torch.rand(n, generator=branch(parent))
    draws = [torch.rand(4, generator=parent) for parent in parents]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])  # no branch taken


def test_branches_are_the_same_for_the_same_seed_and_unlike_one_another():
    first, second = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    draws = [torch.rand(4, generator=branch(g)) for g in (first, second, first)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
