"""Weights of pairs of units, as the pairwise energies keep them: one number for i < j.

(0, 1), (0, 2), ..., (0, d-1), (1, 2), ...        row by row, d (d - 1) / 2 numbers
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from basin.core.validation import all_finite

__all__ = []  # for the energies of this folder, which import by path


def given_pairs(name: str, value: Any, size: int) -> Tensor:
    """The pairs of a symmetric matrix, or one number for all, in float64; or an error by name."""
    matrix = numbers_of_shape(name, value, (size, size))
    if not torch.allclose(matrix, matrix.mT):
        skew = float((matrix - matrix.mT).abs().max())
        raise ValueError(
            f"{name} must be symmetric, got a difference of {skew:.3g} across the diagonal"
        )
    row, column = torch.triu_indices(size, size, offset=1)
    return matrix[row, column]


def upper(pairs: Tensor, size: int) -> Tensor:
    """The matrix ``[d, d]`` with the pairs above its diagonal and zeros elsewhere."""
    row, column = torch.triu_indices(size, size, offset=1, device=pairs.device)
    return pairs.new_zeros(size, size).index_put((row, column), pairs)


def pairs_of(pairs: Tensor, size: int, unit: int) -> Tensor:
    """Weights of one unit with each, zero with itself, ``[d]``: a row of the symmetric matrix."""
    other = torch.arange(size, device=pairs.device)
    row, column = other.clamp(max=unit), other.clamp(min=unit)
    place = row * (2 * size - row - 1) // 2 + column - row - 1
    is_other = other != unit
    return pairs.new_zeros(size).masked_scatter(is_other, pairs[place[is_other]])


def numbers_of_shape(name: str, value: Any, shape: tuple[int, ...]) -> Tensor:
    """``value`` as float64 of that shape: a single number is repeated."""
    numbers = torch.as_tensor(value, dtype=torch.float64)
    all_finite(name, numbers.reshape(-1))
    if numbers.ndim and numbers.shape != shape:
        raise ValueError(
            f"{name} must be a number or have shape {shape}, got {tuple(numbers.shape)}"
        )
    return numbers.expand(shape).clone()


def as_given(value: Any) -> Any:
    """A number, or nested lists of them: what a description holds."""
    return torch.as_tensor(value, dtype=torch.float64).tolist()
