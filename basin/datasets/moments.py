"""Mean, standard deviation and range of columns, in one streamed pass in float64.

Chunks of n_a and n_b rows with means m and sums of squared deviations M combine as

    d = m_b - m_a,   m = m_a + d n_b / n,   M = M_a + M_b + d^2 n_a n_b / n

(Chan, Golub & LeVeque 1979), which loses nothing to cancellation when the mean is far from zero.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Moments", "moments"]


@dataclass(frozen=True, eq=False)
class Moments:
    """Statistics of each column, ``[columns]`` of float64 each; ``num_rows`` rows were seen."""

    num_rows: int
    mean: NDArray[np.float64]
    standard_deviation: NDArray[np.float64]
    smallest: NDArray[np.float64]
    largest: NDArray[np.float64]


def moments(parts: Iterable[NDArray[np.float64]]) -> Moments:
    """Moments of the rows of all ``parts``, each ``[rows, columns]``; at least one row in all.

    Returns:
        Moments, where the standard deviation divides by the number of rows.

    Cost: one pass; memory of one part.

    Example:
        >>> moments([np.array([[1.0], [3.0]]), np.array([[5.0]])]).mean
        array([3.])
    """
    total: Moments | None = None
    squares = np.zeros(1)
    for part in parts:
        if len(part) == 0:
            continue
        by_column = np.array(part.T, order="C")  # numpy reduces along rows of memory fastest
        mean, low, high = by_column.mean(axis=1), by_column.min(axis=1), by_column.max(axis=1)
        by_column -= mean[:, None]
        here = np.einsum("ij,ij->i", by_column, by_column)
        if total is None:
            total, squares = Moments(len(part), mean, mean, low, high), here
            continue
        n = total.num_rows + len(part)
        step = mean - total.mean
        squares = squares + here + np.square(step) * (total.num_rows * len(part) / n)
        total = Moments(
            n,
            total.mean + step * (len(part) / n),
            mean,
            np.minimum(total.smallest, low),
            np.maximum(total.largest, high),
        )
    if total is None:
        raise ValueError("moments need at least one row, got none")
    deviation = np.sqrt(squares / total.num_rows)
    return Moments(total.num_rows, total.mean, deviation, total.smallest, total.largest)
