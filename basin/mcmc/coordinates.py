"""Coordinates in which an energy is round on average, for kernels that take steps of one length.

    x = m + L y,      E_y(y) = E(m + L y),      s_y(y) = L's(m + L y),      L L' = (E s s')^-1

With these the mean Hessian of E_y is the identity, as E s s' = E d2E/dx2 where x follows exp(-E).
For a Gaussian L L' is the covariance. For far modes it is that of the inside of a mode, which is
what a step has to fit, and not that of the whole cloud, whose width is the distance between them.

A kernel that leaves exp(-E_y) alone leaves exp(-E) alone when its positions are mapped back,
whatever m and L: only its speed depends on them.

Source: Titsias 2023 (arXiv 2305.14442), proposition 2: this preconditioner maximises the expected
squared jump of Langevin steps. Cost: a product with L beside each energy and two beside each score.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from basin.core.gradients import score
from basin.core.types import Energy
from basin.core.validation import same_event_shape

__all__ = ["Coordinates", "SeenIn"]

_DRAWS_A_DIMENSION = 4
"""Draws a dimension that a matrix needs: a Gaussian's condition number in its coordinates is then 9
at most, ((1 + sqrt(d/n)) / (1 - sqrt(d/n)))^2; with fewer the diagonal does better."""

_FLATTEST = 1e-8  # of the mean square score: a direction flatter than that is taken as this flat


@dataclass(frozen=True, eq=False)
class Coordinates:
    """x = ``mean`` + ``factor`` y on flattened events.

    Args:
        mean: ``[d]``.
        factor: L: ``[d]``, a scale for each coordinate, or ``[d, d]``.
        inverse: of the factor, of the same shape.

    >>> import torch
    >>> wide = Coordinates(torch.zeros(2), torch.tensor([1.0, 10.0]), torch.tensor([1.0, 0.1]))
    >>> wide.back(torch.ones(1, 2))
    tensor([[ 1., 10.]])
    """

    mean: Tensor
    factor: Tensor
    inverse: Tensor

    @classmethod
    def of(cls, x: Tensor, scores: Tensor, weights: Tensor | None = None) -> Coordinates:
        """Those of points and scores there; dense from four effective draws a dimension on.

        Args:
            x: points, ``[n, *event]``, near exp(-E) / Z.
            scores: -dE/dx at them, of the same shape. Rows that are not finite (outside a support)
                are left out.
            weights: ``[n]``, zero or more, adding to 1; equal ones when left out.
        """
        same_event_shape("scores", scores, x.shape[1:])
        rows, s = x.flatten(1).double(), scores.flatten(1).double()
        if weights is None:
            weights = torch.full((len(rows),), 1 / len(rows), dtype=torch.float64)
        is_known = (torch.isfinite(rows) & torch.isfinite(s)).all(1)
        weights = weights.to(rows)[is_known]
        rows, s, weights = rows[is_known], s[is_known], weights / weights.sum().clamp_min(1e-300)
        num_effective = float(1 / weights.square().sum().clamp_min(1e-300))
        mean, squares = weights @ rows, weights @ s.square()
        typical = float(squares.mean()) if len(rows) else 0.0
        if not 0 < typical < math.inf:  # flat, or nothing known
            one = torch.ones(x[0].numel(), dtype=x.dtype, device=x.device)
            return cls(0 * one, one, one)
        floor = _FLATTEST * typical
        inverse = squares.clamp_min(floor).sqrt()
        factor = 1 / inverse
        dim = rows.shape[1]
        if dim > 1 and num_effective >= _DRAWS_A_DIMENSION * dim:
            information = (s * weights[:, None]).T @ s + floor * torch.eye(dim).to(s)
            lower, failed = torch.linalg.cholesky_ex(information)
            if not int(failed) and bool(torch.isfinite(lower).all()):
                inverse = lower.T
                factor = torch.linalg.solve_triangular(inverse, torch.eye(dim).to(s), upper=True)
        return cls(mean.to(x), factor.to(x), inverse.to(x))

    def back(self, y: Tensor) -> Tensor:
        """x of y, shape of ``y``."""
        return (self.mean + _times(self.factor, y.flatten(1))).reshape(y.shape)

    def into(self, x: Tensor) -> Tensor:
        """y of x, shape of ``x``."""
        return _times(self.inverse, x.flatten(1) - self.mean).reshape(x.shape)

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


def _times(matrix: Tensor, rows: Tensor) -> Tensor:
    """``matrix`` (or the diagonal of one) times each row."""
    return rows * matrix if matrix.ndim == 1 else rows @ matrix.T
