"""Coordinates in which a cloud of points is round, for kernels that take steps of one length.

    x = m + L y,      E_y(y) = E(m + L y),      s_y(y) = L's(m + L y)

m and L L' are the mean and covariance of the cloud. A kernel that leaves exp(-E_y) alone leaves
exp(-E) alone when its positions are mapped back, whatever m and L: only its speed depends on them.
Source: preconditioning; Roberts & Stramer 2002. Cost: a product with L beside each energy and two
beside each score.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from basin.core.gradients import score
from basin.core.types import Energy
from basin.core.validation import all_finite

__all__ = ["Coordinates", "SeenIn"]

_DRAWS_A_DIMENSION = 4
"""Draws a dimension that a covariance needs: the whitened cloud's condition number is then 9 at
most, ((1 + sqrt(d/n)) / (1 - sqrt(d/n)))^2, and with fewer the diagonal does better."""


@dataclass(frozen=True, eq=False)
class Coordinates:
    """x = ``mean`` + ``factor`` y on flattened events.

    Args:
        mean: ``[d]``.
        factor: ``[d]``, a scale for each coordinate, or lower triangular ``[d, d]``.

    >>> import torch
    >>> wide = Coordinates(torch.zeros(2), torch.tensor([1.0, 10.0]))
    >>> wide.back(torch.ones(1, 2))
    tensor([[ 1., 10.]])
    """

    mean: Tensor
    factor: Tensor

    @classmethod
    def of(cls, x: Tensor, weights: Tensor | None = None) -> Coordinates:
        """Those of the cloud ``x`` ``[n, *event]``; dense from four effective draws a dimension on.

        Args:
            x: points.
            weights: ``[n]``, zero or more, adding to 1; equal ones when left out.
        """
        all_finite("x", x)
        rows = x.flatten(1).double()
        if weights is None:
            weights = torch.full((len(rows),), 1 / len(rows), dtype=torch.float64)
        weights = weights.to(rows)
        mean = weights @ rows
        centred = rows - mean
        num_effective = float(1 / weights.square().sum())
        variance = weights @ centred.square()
        typical = variance.mean().clamp_min(torch.finfo(torch.float64).tiny)
        variance = variance.clamp_min(1e-12 * typical)  # a column that never moves
        factor = variance.sqrt()
        if num_effective >= _DRAWS_A_DIMENSION * rows.shape[1] and rows.shape[1] > 1:
            covariance = (centred * weights[:, None]).T @ centred
            dense, failed = torch.linalg.cholesky_ex(covariance)
            if not int(failed) and bool(torch.isfinite(dense).all()):
                factor = dense
        return cls(mean.to(x), factor.to(x))

    def back(self, y: Tensor) -> Tensor:
        """x of y, shape of ``y``."""
        flat = y.flatten(1)
        moved = flat * self.factor if self.factor.ndim == 1 else flat @ self.factor.T
        return (self.mean + moved).reshape(y.shape)

    def into(self, x: Tensor) -> Tensor:
        """y of x, shape of ``x``."""
        centred = x.flatten(1) - self.mean
        if self.factor.ndim == 1:
            return (centred / self.factor).reshape(x.shape)
        solved = torch.linalg.solve_triangular(self.factor, centred.T, upper=False)
        return solved.T.reshape(x.shape)

    def energy(self, energy: Energy) -> SeenIn:
        """``energy`` as one of y."""
        return SeenIn(energy, self)


@dataclass(frozen=True, eq=False)
class SeenIn:
    """E_y(y) = E(m + L y), with the score of the inner closed form where there is one."""

    inner: Energy
    coordinates: Coordinates

    def __call__(self, y: Tensor, /) -> Tensor:
        return self.inner(self.coordinates.back(y))

    def score(self, y: Tensor) -> Tensor:
        """L's(x), shape of ``y``."""
        keep_graph = torch.is_grad_enabled()
        s = score(self.inner, self.coordinates.back(y), create_graph=keep_graph).flatten(1)
        factor = self.coordinates.factor
        return (s * factor if factor.ndim == 1 else s @ factor).reshape(y.shape)
