"""How much memory a backward pass will hold, and how much there is.

A graph that does not fit ends the process without a word (or brings the machine to its knees), so
whoever builds a large one weighs it first on a few rows.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["available_memory", "bytes_kept"]

_CGROUP = Path("/sys/fs/cgroup")


def bytes_kept(function: Callable[[], object]) -> int:
    """Bytes of the tensors that ``function`` keeps for backward passes, each memory block once.

    Weights count when they are kept too; the difference between two sizes of input leaves them out.

    Example:
        >>> x = torch.ones(100, requires_grad=True)
        >>> bytes_kept(lambda: x.exp().sin())          # exp keeps its result, sin its input: one
        400
    """
    blocks: dict[int, tuple[int, Tensor]] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        # The tensor is held, so that its storage's handle is not given to another one. (Tensors
        # without numbers, as compilers trace with, have no address of their data.)
        blocks[storage._cdata] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        kept = function()
    del kept
    return sum(size for size, _ in blocks.values())


def available_memory(device: torch.device | str = "cpu") -> float:
    """Bytes that can still be allocated on ``device``; infinite where the system does not say."""
    device = torch.device(device)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # Blocks that torch holds and does not use are as good as free.
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type != "cpu":
        return math.inf
    return min(_machine_memory(), _container_memory())


def _machine_memory() -> float:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024.0 * int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):  # a system that does not say
        return math.inf


def _container_memory() -> float:
    """What the control group leaves, where a container sets a limit; caches can be given up."""
    try:
        limit = float((_CGROUP / "memory.max").read_text())
        used = float((_CGROUP / "memory.current").read_text())
        for line in (_CGROUP / "memory.stat").read_text().splitlines():
            if line.startswith("inactive_file "):
                used -= float(line.split()[1])
    except (OSError, ValueError):  # no such file, or "max"
        return math.inf
    return limit - used
