"""Every schedule: a pure function of t in [0, 1] that meets its ends."""

from __future__ import annotations

import dataclasses
import math

import pytest

from basin.schedules.constant import Constant
from basin.schedules.cosine import Cosine
from basin.schedules.geometric import Geometric
from basin.schedules.linear import Linear

ENDS = [(schedule(3.0, 0.2), 3.0, 0.2) for schedule in (Linear, Geometric, Cosine)]
ENDS.append((Constant(0.7), 0.7, 0.7))


@pytest.mark.parametrize(("schedule", "start", "end"), ENDS, ids=lambda value: str(value))
def test_meets_both_ends_exactly(schedule, start, end):
    assert schedule(0.0) == start
    assert schedule(1.0) == end
    assert isinstance(schedule(0), float)


@pytest.mark.parametrize("schedule", [case[0] for case in ENDS], ids=str)
def test_refuses_t_outside_the_unit_interval_and_is_frozen(schedule):
    for t in (-0.01, 1.01, float("nan")):
        with pytest.raises(ValueError, match="t must lie between 0 and 1"):
            schedule(t)
    with pytest.raises(dataclasses.FrozenInstanceError):
        schedule.start = 1.0


def test_values_between_the_ends():
    assert Linear(2.0, 6.0)(0.25) == pytest.approx(3.0)
    assert Geometric(8.0, 1.0)(1 / 3) == pytest.approx(4.0)
    assert Cosine(1.0)(0.25) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert Cosine(1.0, 0.5)(0.5) == pytest.approx(0.75)


@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (1.0, -1.0), (float("inf"), 1.0)])
def test_geometric_needs_positive_ends(start, end):
    with pytest.raises(ValueError, match="must be positive"):
        Geometric(start, end)
