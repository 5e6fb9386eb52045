"""Rows with the conditions that belong to them, carried side by side through one batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from basin.core.validation import all_finite
from basin.datasets.rows import TensorRows

__all__ = ["ConditionedRows"]

_LARGEST_CLASS = 2**24  # whole numbers up to here are exact in float32


class ConditionedRows(TensorRows):
    """``x`` and its ``condition``, drawn together: a batch is both, side by side, ``[n, d + k]``.

    Args:
        x: ``[rows, *event]``.
        condition: one for each row: classes ``[rows]`` of an integer type, or numbers
            ``[rows]`` or ``[rows, k]``.

    ``split`` takes a batch apart again. ``row_shape`` is the shape of one row of x.

    Raises:
        ValueError: another number of conditions than rows, or non-finite ones.

    Example:
        >>> rows = ConditionedRows(torch.zeros(3, 2), torch.tensor([0, 1, 2]))
        >>> x, condition = rows.split(rows.take(1, 3))
        >>> x.shape, condition
        (torch.Size([2, 2]), tensor([1, 2]))
    """

    def __init__(self, x: Tensor, condition: Tensor) -> None:
        condition = torch.as_tensor(condition)
        if condition.ndim == 0 or len(condition) != len(x):
            raise ValueError(
                f"condition must have one entry for each of the {len(x)} rows of x, got shape "
                f"{tuple(condition.shape)}"
            )
        if condition.is_floating_point():
            all_finite("condition", condition)
        elif int(condition.abs().max()) > _LARGEST_CLASS:
            raise ValueError(f"condition must be classes up to {_LARGEST_CLASS}, got larger ones")
        self.row_shape = tuple(x.shape[1:])
        self.condition_shape = tuple(condition.shape[1:])
        self.condition_dtype = condition.dtype
        super().__init__(torch.cat([x.flatten(1), condition.reshape(len(x), -1).to(x)], dim=1))

    def split(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Rows ``[n, *event]`` and conditions of a batch ``[n, d + k]``."""
        d = math.prod(self.row_shape)
        condition = batch[:, d:].reshape(len(batch), *self.condition_shape)
        if not self.condition_dtype.is_floating_point:
            condition = condition.round().long()
        return batch[:, :d].reshape(len(batch), *self.row_shape), condition
