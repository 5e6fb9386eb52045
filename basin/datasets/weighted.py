"""Rows drawn with probability proportional to their weights.

    E over batches of any row's loss  =  sum_i w_i loss_i / sum_i w_i

Weighting the draw and not the loss serves every objective alike: chains, noised copies and
posterior means over a batch then come from the weighted data too.
"""

from __future__ import annotations

import torch
from torch import Tensor

from basin.core.validation import positive_integer
from basin.datasets.rows import Rows

__all__ = ["WeightedRows"]


class WeightedRows(Rows):
    """``rows`` with a weight for each: a weight of 2 is the row written twice.

    Args:
        rows: a finite source of rows.
        weight: ``[num_rows]``, finite and not negative, with a positive sum.

    Raises:
        ValueError: another number of weights, a negative or non-finite one, or all zero.

    Example:
        >>> from basin.datasets.rows import TensorRows
        >>> rows = WeightedRows(TensorRows(torch.tensor([[0.0], [1.0]])), torch.tensor([0.0, 3.0]))
        >>> rows.draw(4, torch.Generator().manual_seed(0)).flatten()
        tensor([1., 1., 1., 1.])
    """

    def __init__(self, rows: Rows, weight: Tensor) -> None:
        if rows.num_rows is None:
            raise ValueError(
                "sample_weight must belong to rows, got a Density, which is drawn afresh; weight "
                "its modes instead"
            )
        weight = torch.as_tensor(weight).detach().double().cpu()
        if tuple(weight.shape) != (rows.num_rows,):
            raise ValueError(
                f"sample_weight must have one number for each of the {rows.num_rows} rows, got "
                f"shape {tuple(weight.shape)}"
            )
        is_bad = ~(torch.isfinite(weight) & (weight >= 0))
        if bool(is_bad.any()):
            row = int(is_bad.nonzero()[0])
            raise ValueError(
                f"sample_weight must be finite and not negative, got {weight[row].item()} for row "
                f"{row}"
            )
        if float(weight.sum()) == 0:
            raise ValueError("sample_weight must have a positive sum, got zeros only")
        self.rows = rows
        self.event_shape = rows.event_shape
        self.num_rows = rows.num_rows
        self._cumulative = (weight / weight.sum()).cumsum(0)
        self._last = int(weight.nonzero().max())  # rounding must not draw a row of weight zero

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        positive_integer(n=n)
        uniform = torch.rand(n, generator=generator, dtype=torch.float64, device=generator.device)
        rows = torch.searchsorted(self._cumulative, uniform.cpu(), right=True)
        return self.rows.at(rows.clamp_(max=self._last))

    def at(self, positions: Tensor) -> Tensor:
        return self.rows.at(positions)

    def take(self, start: int, stop: int) -> Tensor:
        return self.rows.take(start, stop)
