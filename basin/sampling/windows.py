"""When warm-up learns what: Stan's windows.

    | fast |  slow, slow, slow ...                    | fast |
    |  75  |  25,  50, 100, ... the last one longer   |  50  |       steps

In the fast intervals the step size alone is adapted: first to reach the typical set, at the end for
the final metric. At the end of each slow window the metric is learned from the draws of this
window alone, and the next one is twice as long, so that what was seen on the way is forgotten.

Source: Stan reference manual, "HMC algorithm parameters", automatic parameter tuning. Fewer than
150 steps are shared out as 15, 75 and 10 per cent, and fewer than 20 are all fast, as there. Unlike
there the first window too takes what is too short for the next one.
"""

from __future__ import annotations

__all__ = ["slow_windows"]

_FIRST_FAST, _FIRST_SLOW, _LAST_FAST = 75, 25, 50
_FEWEST_STEPS = 20


def slow_windows(num_warmup: int) -> tuple[range, ...]:
    """The slow windows of ``num_warmup`` steps, which are numbered from 1.

    >>> [(window[0], window[-1]) for window in slow_windows(1000)]
    [(76, 100), (101, 150), (151, 250), (251, 450), (451, 950)]
    """
    if num_warmup < _FEWEST_STEPS:
        return ()
    start, length, end = _FIRST_FAST, _FIRST_SLOW, num_warmup - _LAST_FAST
    if num_warmup < _FIRST_FAST + _FIRST_SLOW + _LAST_FAST:
        start, end = int(0.15 * num_warmup), num_warmup - int(0.1 * num_warmup)
        length = end - start
    windows = []
    while start < end:
        # A next window that would not fit is left to this one.
        stop = start + length if start + 3 * length <= end else end
        windows.append(range(start + 1, stop + 1))
        start, length = stop, 2 * length
    return tuple(windows)
