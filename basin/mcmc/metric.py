"""The metric of a kernel: an inverse mass matrix, M^-1 = L L'.

    whitened momentum   q = L' p ~ N(0, I)   of a momentum p ~ N(0, M), kinetic energy |q|^2 / 2
    velocity            dx/dt = M^-1 p = L q
    force               dq/dt = L' s(x),     s = -dE/dx

In q every metric looks like the identity: kinetic energies, the angles of a U-turn and the noise of
a Langevin proposal are those of M = I, and only L (``spread``) and L' (``pull``) know better. It is
the same as sampling y = L^-1 x with unit mass, and mixes best when M^-1 is the covariance of the
target. Any metric leaves the target invariant.

Source: Neal 2011, "MCMC using Hamiltonian dynamics", section 4.1; the regularisation of what is
learned is Stan's (reference manual, "HMC algorithm parameters": n / (n + 5) of the covariance of n
draws and 5 / (n + 5) of 0.001 I). Cost for each chain: d multiplications when diagonal, d^2 when
dense, and d^3 / 3 once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from basin.core.tensors import num_event_dimensions
from basin.core.validation import all_finite, same_event_shape
from basin.mcmc.running_moments import RunningMoments

__all__ = ["DenseMetric", "DiagonalMetric", "IdentityMetric", "Metric"]

_PRIOR_DRAWS = 5.0
_PRIOR_VARIANCE = 1e-3


class Metric(ABC):
    """An inverse mass matrix M^-1 = L L', given or learned in warm-up.

    Members are immutable, equal when their numbers are, and hashable, so that a kernel that holds
    one is a value. ``is_learned`` says whether warm-up replaces it by what the chains show.
    """

    is_learned: ClassVar[bool]

    @abstractmethod
    def spread(self, q: Tensor) -> Tensor:
        """L q for each row, shape of ``q`` ``[chains, *event]``."""

    @abstractmethod
    def pull(self, gradient: Tensor) -> Tensor:
        """L' g for each row, shape of ``gradient`` ``[chains, *event]``."""

    @abstractmethod
    def check(self, x: Tensor) -> None:
        """Raise ``ValueError`` when it is not for events like those of ``x``."""

    @abstractmethod
    def moments(self, x: Tensor) -> RunningMoments:
        """Empty moments of what it learns from draws like ``x`` ``[chains, *event]``."""

    @abstractmethod
    def learned(self, moments: RunningMoments, x: Tensor) -> Metric:
        """The metric that these moments of draws like ``x`` suggest."""


@dataclass(frozen=True)
class IdentityMetric(Metric):
    """M = I: all coordinates have one scale. Nothing is learned."""

    is_learned: ClassVar[bool] = False

    def spread(self, q: Tensor) -> Tensor:
        return q

    def pull(self, gradient: Tensor) -> Tensor:
        return gradient

    def check(self, x: Tensor) -> None:
        del x

    def moments(self, x: Tensor) -> RunningMoments:
        raise TypeError("IdentityMetric learns nothing; take DiagonalMetric() or DenseMetric()")

    def learned(self, moments: RunningMoments, x: Tensor) -> Metric:
        del moments, x
        return self


@dataclass(frozen=True, eq=False, repr=False)
class DiagonalMetric(Metric):
    """A diagonal M^-1: one scale for each coordinate, learned in warm-up.

    Args:
        variances: the diagonal of M^-1, ``[*event]``, positive, in squared units of x; best the
            variances of the target. None, until warm-up learns them, is one for each coordinate.

    >>> import torch
    >>> DiagonalMetric([1.0, 4.0]).spread(torch.ones(1, 2))
    tensor([[1., 2.]])
    """

    is_learned: ClassVar[bool] = True

    variances: Tensor | Sequence[float] | None = None
    _deviations: Tensor | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.variances is None:
            return
        variances = _numbers("variances", self.variances)
        if not bool((variances > 0).all()):
            raise ValueError(f"variances must be positive, got {_shown(self.variances)}")
        _keep(self, variances=variances, _deviations=variances.sqrt())

    def spread(self, q: Tensor) -> Tensor:
        return q if self._deviations is None else q * self._deviations.to(q)

    def pull(self, gradient: Tensor) -> Tensor:
        return self.spread(gradient)

    def check(self, x: Tensor) -> None:
        if isinstance(self.variances, Tensor):
            same_event_shape("x", x, self.variances.shape)

    def moments(self, x: Tensor) -> RunningMoments:
        return RunningMoments.of_coordinates(x)

    def learned(self, moments: RunningMoments, x: Tensor) -> DiagonalMetric:
        variances = _regularised(moments, torch.ones_like(moments.mean))
        return DiagonalMetric(variances.reshape(x.shape[1:]).to(x))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DiagonalMetric) and _same(self.variances, other.variances)

    def __hash__(self) -> int:
        return hash(("DiagonalMetric", _content(self.variances)))

    def __repr__(self) -> str:
        return _said("DiagonalMetric", self.variances)


@dataclass(frozen=True, eq=False, repr=False)
class DenseMetric(Metric):
    """A dense M^-1: scales and correlations of all coordinates, learned in warm-up.

    Args:
        covariance: M^-1, ``[d, d]``, symmetric and positive definite, in squared units of x, where
            d counts the coordinates of an event of any shape; best the covariance of the target.
            None, until warm-up learns it, is the identity.

    >>> import torch
    >>> DenseMetric([[4.0, 2.0], [2.0, 2.0]]).spread(torch.ones(1, 2))   # L = [[2, 0], [1, 1]]
    tensor([[2., 2.]])
    """

    is_learned: ClassVar[bool] = True

    covariance: Tensor | Sequence[Sequence[float]] | None = None
    _factor: Tensor | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.covariance is None:
            return
        covariance = _numbers("covariance", self.covariance)
        if covariance.ndim != 2 or not torch.allclose(covariance, covariance.mT):
            raise ValueError(
                f"covariance must be a symmetric matrix, got {_shown(self.covariance)}"
            )
        factor, failed = torch.linalg.cholesky_ex(covariance.double())
        if bool(failed):
            raise ValueError(
                f"covariance must be positive definite, got {_shown(self.covariance)}; "
                "take DiagonalMetric where coordinates are functions of one another"
            )
        _keep(self, covariance=covariance, _factor=factor.to(covariance))

    def spread(self, q: Tensor) -> Tensor:
        return q if self._factor is None else self._times(q, self._factor.mT)

    def pull(self, gradient: Tensor) -> Tensor:
        return gradient if self._factor is None else self._times(gradient, self._factor)

    def check(self, x: Tensor) -> None:
        if isinstance(self.covariance, Tensor) and len(self.covariance) != num_event_dimensions(x):
            raise ValueError(
                f"x must have {len(self.covariance)} coordinates for this inverse_mass, got "
                f"{num_event_dimensions(x)}"
            )

    def moments(self, x: Tensor) -> RunningMoments:
        return RunningMoments.of_pairs(x)

    def learned(self, moments: RunningMoments, x: Tensor) -> DenseMetric:
        identity = torch.eye(len(moments.mean), dtype=torch.float64, device=x.device)
        return DenseMetric(_regularised(moments, identity).to(x))

    @staticmethod
    def _times(rows: Tensor, matrix: Tensor) -> Tensor:
        return (rows.reshape(len(rows), -1) @ matrix.to(rows)).reshape(rows.shape)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DenseMetric) and _same(self.covariance, other.covariance)

    def __hash__(self) -> int:
        return hash(("DenseMetric", _content(self.covariance)))

    def __repr__(self) -> str:
        return _said("DenseMetric", self.covariance)


def _regularised(moments: RunningMoments, identity: Tensor) -> Tensor:
    total = moments.count + _PRIOR_DRAWS
    prior = _PRIOR_VARIANCE * _PRIOR_DRAWS / total
    return moments.count / total * moments.covariance() + prior * identity


def _numbers(name: str, value: Any) -> Tensor:
    """A tensor of its own; numbers that come as lists, as from a file, are float64."""
    tensor = value.detach().clone() if isinstance(value, Tensor) else None
    tensor = torch.tensor(value, dtype=torch.float64) if tensor is None else tensor
    all_finite(name, tensor.reshape(1, -1))
    return tensor


def _keep(metric: Metric, **values: Tensor) -> None:
    """Write on a frozen dataclass while it is made."""
    for name, value in values.items():
        object.__setattr__(metric, name, value)


def _same(first: Any, second: Any) -> bool:
    """Equal numbers, whatever precision and device hold them."""
    if first is None or second is None:
        return first is second
    return first.shape == second.shape and torch.equal(first.double().cpu(), second.double().cpu())


def _content(value: Any) -> object:
    return None if value is None else tuple(value.double().flatten().tolist())


def _said(name: str, value: Any) -> str:
    if value is None:
        return f"{name}()"
    numbers = value.tolist() if value.numel() <= 4 else _shown(value)
    return f"{name}({numbers})"


def _shown(value: Any) -> str:
    if isinstance(value, Tensor) and value.numel() > 4:
        return " x ".join(map(str, value.shape)) + " numbers"
    return str(value.tolist() if isinstance(value, Tensor) else value)
