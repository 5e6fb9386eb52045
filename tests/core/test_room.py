"""Sizes that no memory holds are refused before anything is allocated."""

from __future__ import annotations

import pytest
import torch

from basin.core.room import at_most, take_room
from basin.energies import MLP, Conv, NoiseConditional, ResNet

HUGE = 10**9


@pytest.fixture
def nothing_is_allocated(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("allocated")

    for module in (torch.nn.Linear, torch.nn.Conv2d):
        monkeypatch.setattr(module, "to_empty", refuse)


@pytest.mark.usefixtures("nothing_is_allocated")
@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: MLP(2, hidden=(HUGE * HUGE,)), "hidden must fit this machine's memory, got a bl"),
        (lambda: MLP(HUGE, hidden=(HUGE, HUGE)), "block of 1,000,000,000 x 1,000,000,000 numbers"),
        (lambda: NoiseConditional(2, hidden=(HUGE * HUGE,)), "hidden must fit"),
        (lambda: NoiseConditional(HUGE, hidden=(4,)), "dim must fit.*; an energy of all noise lev"),
        (lambda: ResNet(2, width=HUGE), "width and num_blocks must fit"),
        (lambda: ResNet(2, num_blocks=HUGE * HUGE), "width and num_blocks must fit"),
        (lambda: Conv((1, 8, 8), channels=(HUGE * HUGE,)), "channels must fit"),
    ],
)
def test_networks_of_impossible_sizes(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def test_a_budget_counts_all_blocks_together_and_ends():
    with at_most(100, "the file"):
        take_room("a", 9, 10)
        with pytest.raises(ValueError, match="b must fit the file, got a block of 11 numbers"):
            take_room("b", 11)
    take_room("b", 11)
