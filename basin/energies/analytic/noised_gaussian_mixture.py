"""A mixture of Gaussians blurred by noise, at every noise level at once.

    E(x, sigma) = -log sum_k w_k N(x; m_k, C_k + sigma^2 I),        log Z = 0 at every level

With C_k = U_k diag(l_k) U_k', c_k = U_k'(x - m_k), v_k = l_k + sigma^2 and the posterior
probabilities r_k of the components, both derivatives are in closed form:

    -dE/dx         = -sum_k r_k U_k (c_k / v_k)
    -dE/dlog sigma = -sum_k r_k sum_i sigma^2 / v_ki (1 - c_ki^2 / v_ki)

It solves the heat equation: what dual score matching (Guth, Kadkhodaie & Simoncelli 2025) ends in
where the data are such a mixture. Cost: two d x d products a row and component.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from basin.core.room import take_room
from basin.core.validation import all_finite, positive_integer, same_event_shape
from basin.energies.analytic.fitted import NUM_ROWS, fit_gaussian_mixture
from basin.energies.composed.at_noise_level import AtNoiseLevel

__all__ = ["NoisedGaussianMixture"]

_NUMBERS_AT_ONCE = 2**17  # rows x components x coordinates


class _Posterior(NamedTuple):
    """What both derivatives are made of."""

    precision: Tensor  # 1 / v_k, [K, batch, d]
    pull: Tensor  # c_k / v_k, [K, batch, d]
    log_joint: Tensor  # log w_k N(x; m_k, C_k + sigma^2 I), [K, batch]


class NoisedGaussianMixture(nn.Module):
    """-log of a blurred Gaussian mixture, ``[batch, d], sigma -> [batch]`` in nats.

    Args:
        dim: d, the number of coordinates of a row.
        num_components: K, the most that :meth:`fit` uses.

    Starts as N(0, I); :meth:`fit` sets it to rows. The buffers are the weights ``[K]``, means
    ``[K, d]``, axes U ``[K, d, d]`` and variances l ``[K, d]``; nothing of it is trained.

    Example:
        >>> import torch
        >>> energy = NoisedGaussianMixture(2)
        >>> energy(torch.zeros(1, 2), 1.0)                      # log(2 pi (1 + sigma^2))
        tensor([2.5310])
    """

    weights: Tensor
    means: Tensor
    axes: Tensor
    variances: Tensor

    def __init__(self, dim: int, num_components: int = 1) -> None:
        super().__init__()
        positive_integer(dim=dim, num_components=num_components)
        take_room("num_components", num_components, dim, dim)
        self.dim = dim
        self.event_shape = (dim,)
        self.num_components = num_components
        weights = torch.zeros(num_components)
        weights[0] = 1
        self.register_buffer("weights", weights)
        self.register_buffer("means", torch.zeros(num_components, dim))
        self.register_buffer("axes", torch.eye(dim).repeat(num_components, 1, 1))
        self.register_buffer("variances", torch.ones(num_components, dim))

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """E(x, sigma), ``[batch]``; ``sigma`` is a positive number or ``[batch]``."""

        def energy(x: Tensor, sigma: Tensor) -> tuple[Tensor]:
            return (-torch.logsumexp(self._posterior(x, sigma).log_joint, dim=0),)

        return self._in_blocks(energy, x, sigma)[0]

    def score(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """-dE/dx, shape of ``x``."""

        def score(x: Tensor, sigma: Tensor) -> tuple[Tensor]:
            return (self._space_score(self._posterior(x, sigma)),)

        return self._in_blocks(score, x, sigma)[0]

    def dual_score(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """``(-dE/dx, -dE/d log sigma)``, shapes of ``x`` and ``[batch]``."""

        def scores(x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
            posterior = self._posterior(x, sigma)
            # sum_i 1/v (1 - c^2/v) for each component
            by_component = posterior.precision.sum(2) - posterior.pull.square().sum(2)
            mean = (posterior.log_joint.softmax(0) * by_component).sum(0)
            return self._space_score(posterior), -sigma.square() * mean

        in_space, in_noise = self._in_blocks(scores, x, sigma)
        return in_space, in_noise

    def at(self, sigma: float) -> AtNoiseLevel:
        """The energy at one level, which samplers and quadratures take."""
        return AtNoiseLevel(self, sigma)

    @torch.no_grad()
    def fit(self, x: Tensor, generator: torch.Generator) -> None:
        """Set it to the rows ``x`` ``[n, d]``, n >= 2.

        One component takes the mean and covariance of all rows. Several are fitted by expectation
        maximisation to the first 4,096, from starts drawn by ``generator``; at most one for every
        d + 1 rows, which a covariance needs, and the others keep weight 0. Each direction of each
        component gets K/n of the mean variance on top: the n/K rows of a component cannot tell a
        direction without variance from one that moves once in so many rows (pixels that were always
        blank so far).
        """
        same_event_shape("x", x, self.event_shape)
        all_finite("x", x)
        if len(x) < 2:
            raise ValueError(f"x must have at least two rows to be fitted to, got {len(x)}")
        rows = x.double()
        mean_variance = rows.var(0).mean()
        few = rows[:NUM_ROWS]
        count = min(self.num_components, len(few) // (rows.shape[1] + 1))
        if count <= 1 or not bool(mean_variance > 0):
            weights, means = torch.ones(1), rows.mean(0, keepdim=True)
            centred = rows - means
            covariances = (centred.T @ centred / (len(rows) - 1)).unsqueeze(0)
            ridge = mean_variance / len(rows)
        else:
            width = math.sqrt(count / len(few))
            mixture = fit_gaussian_mixture(few, count, generator, width=width)
            weights, means, covariances = mixture.weights, mixture.means, mixture.covariances
            ridge = 0.0  # the fit has put it on
        variances, axes = torch.linalg.eigh(covariances)
        self.weights.zero_()
        self.weights[: len(weights)] = weights
        self.means[: len(weights)] = means
        self.axes[: len(weights)] = axes
        self.variances[: len(weights)] = variances.clamp_min(0) + ridge

    def moments(self, sigma: float) -> tuple[Tensor, Tensor]:
        """Mean ``[d]`` and covariance ``[d, d]`` of the whole mixture at a level."""
        mean = self.weights @ self.means
        within = (self.axes * (self.variances + sigma**2).unsqueeze(1)) @ self.axes.mT
        offset = self.means - mean
        between = (offset * self.weights[:, None]).T @ offset
        return mean, torch.einsum("k,kij->ij", self.weights, within) + between

    def sample_base(self, n: int, generator: torch.Generator, sigma: float) -> Tensor:
        """``n`` independent draws at a level, ``[n, d]``: where chains may start."""
        chosen = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        draws = torch.randn(
            (n, *self.event_shape),
            generator=generator,
            dtype=self.means.dtype,
            device=self.means.device,
        )
        for k, deviation in enumerate((self.variances + sigma**2).sqrt()):
            mine = chosen == k
            draws[mine] = (draws[mine] * deviation) @ self.axes[k].T + self.means[k]
        return draws

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        return f"dim={self.event_shape[0]}, num_components={self.num_components}"

    def _posterior(self, x: Tensor, sigma: Tensor) -> _Posterior:
        centred = torch.bmm(x - self.means.to(x).unsqueeze(1), self.axes.to(x))
        variance = self.variances.to(x).unsqueeze(1) + sigma.square().unsqueeze(1)
        precision = variance.reciprocal()
        pull = centred * precision
        log_density = -0.5 * ((centred * pull).sum(2) + (2 * math.pi * variance).log().sum(2))
        return _Posterior(precision, pull, self.weights.to(x).log().unsqueeze(1) + log_density)

    def _space_score(self, posterior: _Posterior) -> Tensor:
        pull = posterior.pull * posterior.log_joint.softmax(0).unsqueeze(2)
        return -torch.bmm(pull, self.axes.to(pull).mT).sum(0)

    def _in_blocks(
        self,
        function: Callable[[Tensor, Tensor], tuple[Tensor, ...]],
        x: Tensor,
        sigma: Tensor | float,
    ) -> tuple[Tensor, ...]:
        """``function(x, sigma [batch])``, block of rows by block where no graph needs them whole.

        On a CPU the numbers of a block stay in its cache: with 20 components in 64 dimensions, 512
        rows in one piece took four times as long.
        """
        same_event_shape("x", x, self.event_shape)
        level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).expand(len(x))
        size = max(1, _NUMBERS_AT_ONCE // (self.num_components * self.dim))
        is_whole = len(x) <= size or not x.is_cpu
        if is_whole or (torch.is_grad_enabled() and (x.requires_grad or level.requires_grad)):
            return function(x, level)
        blocks = zip(x.split(size), level.split(size), strict=True)
        parts = zip(*(function(*block) for block in blocks), strict=True)
        return tuple(torch.cat(part) for part in parts)
