"""The Gaussian as an energy, normalised.

    E(x) = 1/2 (x - m)' C^-1 (x - m) + 1/2 log det(2 pi C) = -log N(x; m, C),      log Z = 0

Cost: one triangular solve a call, O(d^2) a row.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from basin.core.validation import all_finite, same_event_shape

__all__ = ["Gaussian"]

_LOG_TWO_PI = math.log(2 * math.pi)


class Gaussian(nn.Module):
    """-log N(mean, covariance), ``[batch, d] -> [batch]`` in nats.

    Args:
        mean: ``[d]``.
        covariance: ``[d, d]``, symmetric and positive definite, in squared units of ``x``.

    Attributes:
        log_z: 0, as the energy is normalised.

    Mean and covariance are buffers in float64, rounded to the type of ``x`` only when used.

    Raises:
        ValueError: shapes that do not fit, or a covariance that is not one.

    Example:
        >>> import basin, torch
        >>> energy = Gaussian([0.0, 0.0], [[1.0, 0.0], [0.0, 4.0]])
        >>> basin.score(energy, torch.tensor([[1.0, 2.0]]))
        tensor([[-1.0000, -0.5000]])
    """

    mean: Tensor
    covariance: Tensor
    factor: Tensor
    precision: Tensor
    log_z: float = 0.0

    def __init__(self, mean: Any, covariance: Any) -> None:
        super().__init__()
        mean = torch.as_tensor(mean, dtype=torch.float64).clone()
        covariance = torch.as_tensor(covariance, dtype=torch.float64).clone()
        if mean.ndim != 1 or len(mean) == 0:
            raise ValueError(f"mean must have shape (d,), got {tuple(mean.shape)}")
        all_finite("mean", mean)
        if covariance.shape != (len(mean), len(mean)):
            raise ValueError(
                f"covariance must have shape ({len(mean)}, {len(mean)}) to go with its mean, "
                f"got {tuple(covariance.shape)}"
            )
        self.event_shape = (len(mean),)
        self.register_buffer("mean", mean)
        self.register_buffer("covariance", covariance)
        self._derive()
        self.register_load_state_dict_post_hook(_derive_after_loading)

    def forward(self, x: Tensor) -> Tensor:
        """E(x) = -log N(x; mean, covariance), ``[batch]``."""
        same_event_shape("x", x, self.event_shape)
        centred = x - self.mean.to(x)
        log_normaliser = self.factor.diagonal().log().sum() + 0.5 * len(self.mean) * _LOG_TWO_PI
        quadratic = (centred * (centred @ self.precision.to(x))).sum(dim=1)
        return 0.5 * quadratic + log_normaliser.to(x)

    def score(self, x: Tensor) -> Tensor:
        """C^-1 (mean - x), shape of ``x``."""
        same_event_shape("x", x, self.event_shape)
        return (self.mean.to(x) - x) @ self.precision.to(x)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` independent draws, ``[n, d]``, of PyTorch's default type."""
        noise = torch.randn(
            n, len(self.mean), generator=generator, dtype=self.mean.dtype, device=self.mean.device
        )
        return (self.mean + noise @ self.factor.T).to(torch.get_default_dtype())

    def sample_base(self, n: int, generator: torch.Generator) -> Tensor:
        """Where chains may start: exact draws."""
        return self.sample(n, generator)

    def _derive(self) -> None:
        """What follows from the covariance; again after a file is loaded."""
        factor = cholesky_factor("covariance", self.covariance)
        self.register_buffer("factor", factor, persistent=False)
        self.register_buffer("precision", torch.cholesky_inverse(factor), persistent=False)


def _derive_after_loading(energy: Gaussian, incompatible_keys: object) -> None:
    energy._derive()


def cholesky_factor(name: str, covariance: Tensor) -> Tensor:
    """Lower factor L of ``L L' = covariance``, for one matrix or a batch of them.

    Raises:
        ValueError: a matrix is not finite, not symmetric or not positive definite.
    """
    matrices = covariance.reshape(-1, *covariance.shape[-2:])
    all_finite(name, matrices)
    largest = matrices.abs().amax(dim=(1, 2), keepdim=True)
    skew = (matrices - matrices.mT).abs()
    if bool((skew > 1e-6 * largest).any()):
        raise ValueError(
            f"{name} must be symmetric, got a difference of {skew.max().item():.3g} across the "
            "diagonal"
        )
    factor, info = torch.linalg.cholesky_ex(covariance)
    if bool((info != 0).any()):
        smallest = torch.linalg.eigvalsh(matrices).min().item()
        raise ValueError(
            f"{name} must be positive definite, got a smallest eigenvalue of {smallest:.3g}"
        )
    return factor
