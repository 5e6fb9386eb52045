"""Distance from each query to the nearest of many rows, in bounded memory.

The nearest row is found with one matrix product a block, about the mean of the queries, and its
distance is then taken again by subtraction: a copied row has distance zero, not rounding noise.
The product is in float64, which tells rows apart down to about 1e-8 of the spread. In float32 that
would be 3e-4 of it, and 10,000 rows along a line lie closer than that.
Cost: queries × rows × d products; memory ``query_block`` × ``row_block``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from basin.core.validation import positive_integer, same_event_shape

__all__ = ["nearest_distances"]


def nearest_distances(
    queries: Tensor, rows: Any, *, query_block: int = 1024, row_block: int = 8192
) -> Tensor:
    """Euclidean distance from each query to its nearest row, ``[n]`` of float64.

    Args:
        queries: ``[n, *event]``.
        rows: ``[m, *event]``, or anything with ``num_rows`` and ``take(start, stop)``.
        query_block: queries at a time.
        row_block: rows at a time.

    Example:
        >>> import torch
        >>> nearest_distances(torch.tensor([[0.0], [4.0]]), torch.tensor([[1.0], [9.0]]))
        tensor([1., 3.], dtype=torch.float64)
    """
    positive_integer(query_block=query_block, row_block=row_block)
    flat = queries.flatten(1).double().cpu()
    centre = flat.mean(dim=0)
    nearest = torch.full((len(flat),), torch.inf, dtype=torch.float64)
    for block in _blocks(rows, row_block):
        same_event_shape("rows", block, queries.shape[1:])
        reference = block.flatten(1).double().cpu()
        centred = reference - centre
        half_squares = 0.5 * centred.square().sum(dim=1)
        for start in range(0, len(flat), query_block):
            part = flat[start : start + query_block]
            closest = torch.addmm(half_squares, part - centre, centred.T, alpha=-1)
            found = (part - reference[closest.argmin(dim=1)]).square().sum(dim=1).sqrt()
            kept = nearest[start : start + query_block]
            nearest[start : start + query_block] = torch.minimum(kept, found)
    if not bool(torch.isfinite(nearest).all()):
        raise ValueError(
            "rows must hold at least one row and all values must be finite, got "
            f"{int((~torch.isfinite(nearest)).sum())} queries without a nearest row"
        )
    return nearest


def _blocks(rows: Any, size: int) -> Iterator[Tensor]:
    if isinstance(rows, Tensor):
        yield from rows.split(size) if len(rows) else ()
        return
    if rows.num_rows is None:
        raise ValueError("rows must be finite in number, got a source of fresh draws")
    for start in range(0, rows.num_rows, size):
        yield rows.take(start, min(start + size, rows.num_rows))
