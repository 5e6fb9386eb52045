"""A mixture of Gaussians as an energy, normalised.

    E(x) = -log sum_k w_k N(x; m_k, C_k),      log Z = 0
    s(x) = sum_k r_k(x) C_k^-1 (m_k - x),      r_k(x) = posterior probability of component k

Cost: O(K d^2) a row for K components.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from basin.core.validation import all_finite, same_event_shape
from basin.energies.analytic.gaussian import cholesky_factor

__all__ = ["GaussianMixture"]


class GaussianMixture(nn.Module):
    """-log of a Gaussian mixture density, ``[batch, d] -> [batch]`` in nats.

    Args:
        means: ``[K, d]``.
        covariances: ``[K, d, d]``, each symmetric and positive definite; one ``[d, d]`` serves all.
        weights: ``[K]``, zero or more, adding to 1 (to 1e-6); equal ones when left out.

    Attributes:
        log_z: 0, as the energy is normalised.

    Raises:
        ValueError: shapes that do not fit, covariances or weights that are not ones.

    Example:
        >>> import torch
        >>> energy = GaussianMixture([[-2.0], [2.0]], [[1.0]], [0.5, 0.5])
        >>> energy.score(torch.zeros(1, 1))
        tensor([[0.]])
    """

    means: Tensor
    covariances: Tensor
    weights: Tensor
    factors: Tensor
    precisions: Tensor
    log_constants: Tensor
    log_z: float = 0.0

    def __init__(self, means: Any, covariances: Any, weights: Any = None) -> None:
        super().__init__()
        means = torch.as_tensor(means, dtype=torch.float64).clone()
        covariances = torch.as_tensor(covariances, dtype=torch.float64).clone()
        if means.ndim != 2 or means.numel() == 0:
            raise ValueError(f"means must have shape (components, d), got {tuple(means.shape)}")
        all_finite("means", means)
        num_components, dim = means.shape
        if covariances.shape == (dim, dim):
            covariances = covariances.expand(num_components, dim, dim).clone()
        if covariances.shape != (num_components, dim, dim):
            raise ValueError(
                f"covariances must have shape ({num_components}, {dim}, {dim}) or ({dim}, {dim}) "
                f"to go with their means, got {tuple(covariances.shape)}"
            )
        self.event_shape = (dim,)
        self.register_buffer("means", means)
        self.register_buffer("covariances", covariances)
        self.register_buffer("weights", _checked_weights(weights, num_components))
        self._derive()
        self.register_load_state_dict_post_hook(_derive_after_loading)

    def forward(self, x: Tensor) -> Tensor:
        """E(x) = -log p(x), ``[batch]``."""
        return -torch.logsumexp(self._log_joint(x)[0], dim=1)

    def score(self, x: Tensor) -> Tensor:
        """The pull of each component, weighted by its responsibility; shape of ``x``."""
        log_joint, pulls = self._log_joint(x)
        return (torch.softmax(log_joint, dim=1).unsqueeze(-1) * pulls).sum(dim=1)

    def responsibilities(self, x: Tensor) -> Tensor:
        """Posterior probability of each component, ``[batch, K]``."""
        return torch.softmax(self._log_joint(x)[0], dim=1)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` independent draws, ``[n, d]``, of PyTorch's default type."""
        chosen = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn(
            n,
            self.means.shape[1],
            1,
            generator=generator,
            dtype=self.means.dtype,
            device=self.means.device,
        )
        draws = self.means[chosen] + (self.factors[chosen] @ noise).squeeze(-1)
        return draws.to(torch.get_default_dtype())

    def sample_base(self, n: int, generator: torch.Generator) -> Tensor:
        """Where chains may start: exact draws."""
        return self.sample(n, generator)

    def _derive(self) -> None:
        """What follows from covariances and weights; again after a file is loaded."""
        factors = cholesky_factor("covariances", self.covariances)
        log_determinants = factors.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)
        log_two_pi = self.means.shape[1] * math.log(2 * math.pi)
        log_constants = self.weights.log() - log_determinants - 0.5 * log_two_pi
        self.register_buffer("factors", factors, persistent=False)
        self.register_buffer("precisions", torch.cholesky_inverse(factors), persistent=False)
        self.register_buffer("log_constants", log_constants, persistent=False)

    def _log_joint(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """log w_k N(x; m_k, C_k) ``[batch, K]`` and C_k^-1 (m_k - x) ``[batch, K, d]``."""
        same_event_shape("x", x, self.event_shape)
        from_mean = self.means.to(x) - x.unsqueeze(1)
        pulls = torch.einsum("bki,kij->bkj", from_mean, self.precisions.to(x))
        return self.log_constants.to(x) - 0.5 * (from_mean * pulls).sum(dim=-1), pulls


def _derive_after_loading(energy: GaussianMixture, incompatible_keys: object) -> None:
    energy._derive()


def _checked_weights(weights: Any, num_components: int) -> Tensor:
    if weights is None:
        return torch.full((num_components,), 1 / num_components, dtype=torch.float64)
    weights = torch.as_tensor(weights, dtype=torch.float64).clone()
    if weights.shape != (num_components,):
        raise ValueError(
            f"weights must have shape ({num_components},), one a component, "
            f"got {tuple(weights.shape)}"
        )
    if not bool((weights >= 0).all()) or abs(weights.sum().item() - 1) > 1e-6:
        raise ValueError(
            f"weights must be zero or positive and add to 1, got {weights.tolist()} "
            f"(sum {weights.sum().item():.6g})"
        )
    return weights / weights.sum()
