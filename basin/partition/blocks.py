"""Many energies without a graph, in blocks: bounded memory, and values in float64 on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from basin.core.validation import batch_of_energies, positive_integer

__all__ = ["energies_in_blocks", "home_of"]


def home_of(energy: Any) -> tuple[torch.dtype | None, torch.device]:
    """Floating type and device of the first parameter or buffer; ``(None, cpu)`` without any."""
    if isinstance(energy, torch.nn.Module):
        for tensors in (energy.parameters(), energy.buffers()):
            for tensor in tensors:
                if tensor.is_floating_point():
                    return tensor.dtype, tensor.device
    inner = getattr(energy, "energy", None)
    return home_of(inner) if inner is not None else (None, torch.device("cpu"))


def energies_in_blocks(energy: Any, points: Tensor, *, block: int = 8192) -> Tensor:
    """E at each row of ``points`` ``[n, *event]``: ``[n]`` of float64 on the CPU.

    The points are given to the energy in the type and on the device of its parameters; an energy
    without any gets them as they are, or in float32 where it refuses float64 (a plain function
    around a network).

    Args:
        energy: ``[batch, *event] -> [batch]``, in nats.
        points: where to evaluate it, ``[n, *event]``.
        block: rows at a time.

    Raises:
        ValueError: NaN or minus infinity, with the first such point. Plus infinity is a density
            of zero and allowed.

    Example:
        >>> import torch
        >>> energies_in_blocks(lambda x: 0.5 * x.square().sum(1), torch.tensor([[3.0, 4.0]]))
        tensor([12.5000], dtype=torch.float64)
    """
    positive_integer(block=block)
    dtype, device = home_of(energy)
    dtype = dtype if dtype is not None else _accepted_dtype(energy, points[:1])
    values = torch.empty(len(points), dtype=torch.float64)
    with torch.no_grad():
        for start in range(0, len(points), block):
            x = points[start : start + block].to(device=device, dtype=dtype)
            values[start : start + block] = batch_of_energies(energy, x, energy(x)).cpu()
    bad = torch.isnan(values) | torch.isneginf(values)
    if bool(bad.any()):
        first = int(torch.nonzero(bad)[0])
        raise ValueError(
            f"energies must be finite or +inf, got {values[first].item()} at "
            f"{points[first].tolist()} ({int(bad.sum())} of {len(points)} points)"
        )
    return values


def _accepted_dtype(energy: Any, point: Tensor) -> torch.dtype:
    """The type of ``point``, or float32 where the energy only works in that."""
    if point.dtype != torch.float64 or len(point) == 0:
        return point.dtype
    with torch.no_grad():
        try:
            energy(point)
        except RuntimeError:
            energy(point.float())  # an error of its own is the caller's to see
            return torch.float32
    return torch.float64
