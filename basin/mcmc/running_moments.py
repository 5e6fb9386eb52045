"""Mean and covariance of draws that come a batch at a time, none of them kept.

    mean  <- mean + m (b - mean) / (n + m)              b, B: mean and sum of squares of a batch
    S     <- S + B + n m / (n + m) (b - mean)^2         of m rows, added to n rows seen before

Source: Chan, Golub & LeVeque 1979, equations 2.1, which never subtract two large sums. All chains
are pooled. Cost of a batch: m d products for variances, m d^2 for covariances, in float64.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["RunningMoments"]


class RunningMoments(NamedTuple):
    """``count`` rows of d numbers, their ``mean`` ``[d]``, and ``scatter`` about it.

    ``scatter`` is ``[d]`` (sums of squares) or ``[d, d]`` (sums of products).

    >>> import torch
    >>> moments = RunningMoments.of_coordinates(torch.zeros(1, 1))
    >>> for row in ([1.0], [2.0], [3.0]):
    ...     moments = moments.with_rows(torch.tensor([row]))
    >>> moments.covariance().tolist()
    [1.0]
    """

    count: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def of_coordinates(cls, x: Tensor) -> RunningMoments:
        """Nothing seen yet of rows like those of ``x`` ``[n, *event]``; variances alone."""
        mean = torch.zeros_like(x[0], dtype=torch.float64).reshape(-1)
        return cls(0, mean, torch.zeros_like(mean))

    @classmethod
    def of_pairs(cls, x: Tensor) -> RunningMoments:
        """Nothing seen yet of rows like those of ``x`` ``[n, *event]``; all covariances."""
        mean = torch.zeros_like(x[0], dtype=torch.float64).reshape(-1)
        return cls(0, mean, mean.new_zeros(len(mean), len(mean)))

    def with_rows(self, x: Tensor) -> RunningMoments:
        """The moments with the rows of ``x`` ``[n, *event]`` added."""
        rows = x.detach().double().reshape(len(x), -1)
        count = self.count + len(rows)
        mean = rows.mean(dim=0)
        shift = mean - self.mean
        weight = self.count * len(rows) / count
        scatter = self._products(rows - mean) + weight * self._products(shift.unsqueeze(0))
        return RunningMoments(count, self.mean + len(rows) / count * shift, self.scatter + scatter)

    def covariance(self) -> Tensor:
        """``scatter / (count - 1)``: variances ``[d]`` or covariances ``[d, d]``, unbiased."""
        return self.scatter / max(self.count - 1, 1)

    def _products(self, rows: Tensor) -> Tensor:
        return rows.square().sum(dim=0) if self.scatter.ndim == 1 else rows.mT @ rows
