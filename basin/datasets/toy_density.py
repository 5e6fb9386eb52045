"""What every toy density shares: the blur, the checks on entry, float64 inside, bounded memory.

    Y = X + sigma Z,   Z ~ N(0, I)        blurring again adds variances: sigma <- sqrt(s1^2 + s2^2)

A toy density writes down how to draw X, and the log density of Y; everything else is here.
"""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from basin.core.types import Density
from basin.core.validation import all_finite, positive, positive_integer, same_event_shape

__all__ = ["ToyDensity", "in_chunks"]

ROWS_AT_ONCE = 16_384
"""Rows per chunk: 16,384 rows by 100 numbers of float64 are 13 MB, small enough for a laptop."""


class ToyDensity(Density):
    """A :class:`~basin.core.types.Density` that knows its own blur ``sigma``.

    Subclasses are frozen dataclasses with a field ``sigma`` (0 is the density itself, above 0
    the density blurred by N(0, sigma^2 I)) and define ``sample_clean``, ``log_density``,
    ``mode_of``, ``bounds`` and ``mode_weights``.

    ``mode_weights`` are always the probabilities of the *regions* that ``mode_of`` tells apart,
    under this very density (blur included): so the share of samples in each mode may be compared
    with them without a correction.

    ``rows_at_once`` bounds the rows given to ``log_density`` in one call; None for those that
    split their rows themselves.
    """

    sigma: float
    rows_at_once: int | None = ROWS_AT_ONCE

    @abstractmethod
    def sample_clean(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw ``n`` points before the blur, float32 on the generator's device."""

    @abstractmethod
    def log_density(self, x: Tensor) -> Tensor:
        """The log density, blur included, of float64 rows ``x``; differentiable."""

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw ``n`` independent points, float32 ``[n, *event]`` on the generator's device."""
        positive_integer(n=n)
        x = self.sample_clean(n, generator)
        if self.sigma == 0:
            return x
        return x + self.sigma * torch.randn(x.shape, generator=generator, device=x.device)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density in nats, ``[batch]`` in the dtype of ``x``, computed in float64.

        Raises:
            ValueError: ``x`` has another event shape, or holds NaN or infinity.
            TypeError: ``x`` is not floating point.
        """
        same_event_shape("x", x, self.event_shape)
        if not x.is_floating_point():
            raise TypeError(f"x must be floating point, got {x.dtype}; use x.float()")
        all_finite("x", x)
        if len(x) == 0:
            return x.new_zeros(0)
        return self._log_prob(x.double()).to(x.dtype)

    def blurred(self, sigma: float) -> Self:
        """The density of Y + sigma Z, Z standard normal: the same class with a larger blur."""
        positive(sigma=sigma)
        itself: Any = self
        return dataclasses.replace(itself, sigma=math.hypot(self.sigma, sigma))

    def __repr__(self) -> str:
        """The class with what differs from its defaults: ``Rings(sigma=0.1)``."""
        itself: Any = self
        changed = [
            f"{field.name}={value:g}" if isinstance(value, float) else f"{field.name}={value!r}"
            for field in dataclasses.fields(itself)
            if (value := getattr(self, field.name)) != field.default
        ]
        return f"{type(self).__name__}({', '.join(changed)})"

    def _log_prob(self, x: Tensor) -> Tensor:
        if self.rows_at_once is None:
            return self.log_density(x)
        return in_chunks(self.log_density, x, self.rows_at_once)


def in_chunks(function: Callable[[Tensor], Tensor], x: Tensor, rows: int) -> Tensor:
    """``function(x)`` over chunks of rows, so that memory does not grow with the batch.

    Where a gradient is wanted each chunk keeps only its input and is computed once more on the
    way back (gradient checkpointing, twice differentiable).
    """
    parts = x.split(rows)
    if not (x.requires_grad and torch.is_grad_enabled()):
        return torch.cat([function(part) for part in parts])
    values = [
        checkpoint(function, part, use_reentrant=False, preserve_rng_state=False) for part in parts
    ]
    return torch.cat([value for value in values if isinstance(value, Tensor)])
