"""Warm-up's windows are Stan's."""

from __future__ import annotations

import pytest

from basin.sampling.windows import slow_windows


def stan(num_warmup):
    """The last step of each slow window by Stan's own bookkeeping, which counts from 0."""
    first, base, last = 75, 25, 50
    if num_warmup < 20:
        return []
    if first + base + last > num_warmup:
        first, last = int(0.15 * num_warmup), int(0.1 * num_warmup)
        base = num_warmup - (first + last)
    ends, following, size = [], first + base - 1, base
    for counter in range(num_warmup):
        in_slow = first <= counter < num_warmup - last
        if in_slow and counter == following:
            ends.append(counter + 1)
            if following != num_warmup - last - 1:
                size *= 2
                following = counter + size
                if following != num_warmup - last - 1:
                    boundary = following + 2 * size
                    if boundary >= num_warmup - last:
                        following = num_warmup - last - 1
    return ends


@pytest.mark.parametrize("num_warmup", [0, 19, 20, 50, 149, 150, 200, 349, 350, 500, 1000, 3000])
def test_they_end_where_stans_end(num_warmup):
    assert [window[-1] for window in slow_windows(num_warmup)] == stan(num_warmup)


def test_but_for_a_stub_after_the_first_which_is_left_to_it():
    """Of 151 steps Stan makes a window of 25 draws and then one of a single draw."""
    assert stan(151) == [100, 101]
    assert [(window[0], window[-1]) for window in slow_windows(151)] == [(76, 101)]


@pytest.mark.parametrize("num_warmup", [20, 77, 150, 400, 1000, 5000])
def test_they_follow_one_another_and_leave_fast_intervals_at_both_ends(num_warmup):
    windows = slow_windows(num_warmup)
    steps = [step for window in windows for step in window]
    assert steps == list(range(steps[0], steps[-1] + 1))
    assert steps[0] > 1
    assert steps[-1] < num_warmup
