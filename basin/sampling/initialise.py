"""Where chains start: at given positions, or at draws from the energy's base law.

The state of a chain is kept in float32 or float64. Half precision is refused, because a Langevin
step is far below its resolution: on N(3, 1) with step 1e-3 bfloat16 gives a standard deviation of
1.9 and float16 1.2 instead of 1 (the energy itself may run under autocast). Rows of whole numbers
are kept in the same types, as data are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from basin.core.types import Energy
from basin.core.validation import all_finite, positive_integer

__all__ = ["device_of", "initial_positions"]


def initial_positions(
    energy: Energy, x0_or_num_chains: Tensor | int, generator: torch.Generator
) -> Tensor:
    """Starting points ``[chains, *event]``: a copy of ``x0``, or that many draws.

    Args:
        energy: asked for ``sample_base(n, generator)`` when a number is given.
        x0_or_num_chains: positions ``[chains, *event]``, finite, float32 or float64; or a number.

    >>> import torch
    >>> initial_positions(lambda x: x.sum(1), torch.zeros(3, 2), torch.Generator()).shape
    torch.Size([3, 2])
    """
    if isinstance(x0_or_num_chains, Tensor):
        return _checked(x0_or_num_chains).detach().clone()
    if isinstance(x0_or_num_chains, bool) or not isinstance(x0_or_num_chains, int):
        raise TypeError(
            "x0 must be a Tensor of positions [chains, *event] or a number of chains, got "
            f"{type(x0_or_num_chains).__name__}"
        )
    positive_integer(num_chains=x0_or_num_chains)
    base: Any = getattr(energy, "sample_base", None)
    if base is None:
        raise ValueError(
            f"{type(energy).__name__} has no base law to start {x0_or_num_chains} chains from "
            "(no method sample_base); give x0, a tensor of positions [chains, *event]"
        )
    return _checked(base(x0_or_num_chains, generator)).detach()


def device_of(energy: Energy) -> torch.device:
    """Where the energy lives: the device of its first parameter or buffer, else the CPU."""
    inner: Any = energy
    for _ in range(8):  # wrappers such as energy.at(sigma) hold what they wrap as .energy
        if isinstance(inner, nn.Module):
            for tensor in (*inner.parameters(), *inner.buffers()):
                return tensor.device
        inner = getattr(inner, "energy", None)
        if inner is None:
            break
    return torch.device("cpu")


def _checked(x: Tensor) -> Tensor:
    if x.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"x0 must be float32 or float64, got {x.dtype}: chains in half precision have "
            "the wrong law, and whole numbers are kept as floating-point ones; use x0.float()"
        )
    if x.ndim == 0 or x.shape[0] == 0:
        raise ValueError(
            f"x0 must have shape (chains, *event), one chain at least, got {tuple(x.shape)}"
        )
    all_finite("x0", x)
    return x
