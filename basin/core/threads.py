"""How many threads a piece of work is worth.

Waking a second thread for a small matrix product costs more than it saves, and on a machine that
others use too, waiting for it can cost ten times the work (measured: a step of 16 ms became
one of 40 to 250 ms). Below ``_ENOUGH_WORK`` multiply-adds at a time one thread is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from basin.core.validation import positive_integer

__all__ = ["num_threads_for", "threads"]

_ENOUGH_WORK = 1e8


def num_threads_for(energy: nn.Module, num_rows: int) -> int:
    """Threads for one pass of ``energy`` over ``num_rows`` rows: 1, or what torch is set to.

    The work is counted as rows times parameters, which is right for fully connected networks and
    low for convolutions.
    """
    work = num_rows * sum(parameter.numel() for parameter in energy.parameters())
    return 1 if work < _ENOUGH_WORK else torch.get_num_threads()


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Use ``number`` threads inside, and as many as before afterwards."""
    positive_integer(num_threads=number)
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
