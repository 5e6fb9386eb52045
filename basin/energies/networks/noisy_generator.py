"""A density by latent variables: a network's output plus Gaussian noise.

    x = g(z) + sigma e,    z ~ N(0, I) of latent_dim coordinates,  e ~ N(0, I)
    g(z) = mean + B'z + scale network(z)
    q(x) = E_z N(x; g(z), sigma^2 I),    grad log q(x) = E_{z | x} (g(z) - x) / sigma^2

q has no closed form. It is estimated by importance sampling over z from two laws at once:

* K draws of xi, the posterior of z given x, linearised at the z that made x: with J = dg/dz there
  and A = I + J'J / sigma^2 it is N(z + A^-1 (J'e/sigma - z), A^-1), the posterior itself where g is
  linear;
* M draws of p = N(0, I), shared by all rows: they find other places that g folds onto x, without
  which the entropy would be taken for larger than it is.

    q^(x) = mean_K h + mean_M h,    h(z) = p(z) N(x; g(z), sigma^2 I) / (xi(z) + p(z))

(multiple importance sampling, Veach & Guibas 1995). One candidate is the z that made x, in the
place of a draw of xi with probability xi/(xi + p) and of p otherwise. The candidates then have
their own law times q^/q, so that E log q^ >= E log q (a Kullback-Leibler divergence apart; Sobolev
& Vetrov 2019): -E log q^ bounds the entropy from below, as a bound on log Z needs, however few
candidates there are.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from basin.core.kernels import squared_distances
from basin.energies.analytic.gaussian import Gaussian

__all__ = []  # for the objectives, which import by path

_LOG_2_PI = math.log(2 * math.pi)
_NOISE = (0.02, 0.1, 0.3)  # least, first and largest sigma, in standard deviations of the data


class Draws(NamedTuple):
    """Rows ``x`` ``[n, d]`` with a graph to the network, and the ``z``, ``e`` they are made of."""

    x: Tensor
    latent: Tensor
    noise: Tensor


class NoisyGenerator(nn.Module):
    """x = mean + B'z + scale network(z) + sigma e; B, sigma and the network are learned.

    It starts near the Gaussian ``law`` of the data: B'B is the part of its covariance along the
    ``latent_dim`` largest axes. Sigma stays between 0.02 and 0.3 scale.

    Args:
        network: module ``[n, latent_dim] -> [n, d]`` with ``with_derivatives``, as VectorNetwork,
            in the type and on the device that everything is to have.
        latent_dim: coordinates of z, d at most.
        law: a Gaussian fitted to the data; scale is its root mean square deviation.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, network: Any, latent_dim: int, law: Gaussian) -> None:
        super().__init__()
        like = next(network.parameters())
        variances, axes = torch.linalg.eigh(law.covariance)  # in ascending order
        axes = (axes * variances.sqrt())[:, -latent_dim:].T
        self.network = network
        self.latent_dim = latent_dim
        self.linear = nn.Parameter(axes.to(like))
        self.register_buffer("mean", law.mean.to(like))
        self.register_buffer("scale", variances.mean().sqrt().to(like))
        least, first, largest = (math.log(noise) for noise in _NOISE)
        share = (first - least) / (largest - least)
        self.noise_logit = nn.Parameter(like.new_tensor(math.log(share / (1 - share))))

    def sigma(self) -> Tensor:
        """The noise's standard deviation, in the coordinates of the data."""
        least, largest = math.log(_NOISE[0]), math.log(_NOISE[2])
        share = torch.sigmoid(self.noise_logit)
        return self.scale * torch.exp(least + (largest - least) * share)

    def forward(self, latent: Tensor) -> Tensor:
        """g(z), ``[n, d]``."""
        return self.mean + latent @ self.linear + self.scale * self.network(latent)

    def draw(self, n: int, generator: torch.Generator) -> Draws:
        """``n`` independent rows."""
        latent = self._normal((n, self.latent_dim), generator)
        noise = self._normal((n, len(self.mean)), generator)
        return Draws(self(latent) + self.sigma() * noise, latent, noise)

    @torch.no_grad()
    def log_density_and_score(
        self, draws: Draws, generator: torch.Generator, *, num_local: int, num_shared: int
    ) -> tuple[Tensor, Tensor]:
        """Estimates of log q and grad log q at rows that were drawn, ``[n]`` and ``[n, d]``.

        Args:
            draws: what :meth:`draw` gave.
            generator: source of the candidates.
            num_local: K, even: they come in pairs on either side of the mean of xi, whose errors
                of first order cancel.
            num_shared: M.

        Cost: n K + M evaluations of the network, n M distances, n Jacobians (each as
        ``latent_dim`` evaluations) and Cholesky factors.
        """
        x, z, e = draws
        sigma = self.sigma()
        mean, factor = self._linearised_posterior(z, e, sigma)
        log_determinant = factor.diagonal(dim1=1, dim2=2).log().sum(1)[:, None]

        def own(points: Tensor) -> Tensor:
            """Points ``[n or 1, k, latent_dim]`` in coordinates where xi is N(0, I)."""
            return (points - mean[:, None]) @ factor

        def log_ratios(points: Tensor, u: Tensor, squared: Tensor) -> Tensor:
            """log h, ``[n, k]``, from the points, ``own`` of them and ||x - g||^2."""
            normal = 0.5 * self.latent_dim * _LOG_2_PI
            log_prior = -0.5 * points.square().sum(-1) - normal
            log_local = -0.5 * u.square().sum(-1) - normal + log_determinant
            log_noise = x.shape[1] * (torch.log(sigma) + 0.5 * _LOG_2_PI)
            log_joint = log_prior - 0.5 * squared / sigma**2 - log_noise
            return log_joint - torch.logaddexp(log_local, log_prior)

        true_u = own(z[:, None])
        log_local = -0.5 * true_u.square().sum(-1) + log_determinant  # both without 2 pi
        to_local = torch.sigmoid(log_local + 0.5 * z.square().sum(1, keepdim=True))
        is_local = self._uniform(to_local.shape, generator) < to_local  # [n, 1]

        half = self._normal((len(x), num_local // 2, self.latent_dim), generator)
        first = torch.where(is_local[..., None], true_u, half[:, :1])
        u = torch.cat([first, half[:, 1:]], dim=1)
        u = torch.cat([u, -u], dim=1)
        local = mean[:, None] + _solve(factor, u)
        shared = self._normal((num_shared, self.latent_dim), generator)
        outputs = self(torch.cat([local.flatten(0, 1), shared]))
        local_x, shared_x = outputs.split([len(x) * num_local, num_shared])
        to_local_x = local_x.view(*local.shape[:2], -1) - x[:, None]
        center = x.mean(0)
        squared = squared_distances(x - center, shared_x - center)

        of_local = log_ratios(local, u, to_local_x.square().sum(-1))
        of_shared = log_ratios(shared, own(shared), squared)
        of_true = log_ratios(z[:, None], true_u, (sigma * e).square().sum(1)[:, None])
        of_shared[:, :1].masked_fill_(~is_local, -math.inf)
        of_true = of_true.masked_fill(is_local, -math.inf)
        terms = torch.cat(
            [
                of_local - math.log(num_local),
                of_shared - math.log(num_shared),
                of_true - math.log(num_shared),
            ],
            dim=1,
        )
        weights = torch.softmax(terms, dim=1)
        on_local, on_shared, on_true = weights.split([num_local, num_shared, 1], dim=1)
        toward = (on_local[..., None] * to_local_x).sum(1) - on_true * sigma * e
        toward = toward + on_shared @ shared_x - on_shared.sum(1, keepdim=True) * x
        return torch.logsumexp(terms, dim=1), toward / sigma**2

    @torch.no_grad()
    def log_density(self, x: Tensor, generator: torch.Generator, *, num_shared: int) -> Tensor:
        """An estimate of log q at any rows, ``[n]``, by draws of N(0, I) alone: rather low."""
        center = x.mean(0)
        outputs = self(self._normal((num_shared, self.latent_dim), generator))
        log_noise = -0.5 * squared_distances(x - center, outputs - center) / self.sigma() ** 2
        normal = x.shape[1] * (torch.log(self.sigma()) + 0.5 * _LOG_2_PI)
        return torch.logsumexp(log_noise, dim=1) - normal - math.log(num_shared)

    def _linearised_posterior(self, z: Tensor, e: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Mean ``[n, k]`` and the Cholesky factor of the precision A ``[n, k, k]``.

        In float64: A's condition number is the square of the Jacobian's.
        """
        eye = torch.eye(self.latent_dim, dtype=z.dtype, device=z.device)
        _, jacobian = self.network.with_derivatives(z, eye)  # [n, k, d]: row i is dg/dz_i
        jacobian = ((self.linear + self.scale * jacobian) / sigma).double()
        factor = torch.linalg.cholesky(eye.double() + jacobian @ jacobian.mT)
        pull = (jacobian @ e.double()[..., None]).squeeze(-1) - z.double()
        step = torch.cholesky_solve(pull[..., None], factor).squeeze(-1)
        return (z + step).to(z.dtype), factor.to(z.dtype)

    def _uniform(self, size: torch.Size, generator: torch.Generator) -> Tensor:
        like = self.mean
        return torch.rand(size, generator=generator, dtype=like.dtype, device=like.device)

    def _normal(self, size: tuple[int, ...], generator: torch.Generator) -> Tensor:
        like = self.mean
        return torch.randn(size, generator=generator, dtype=like.dtype, device=like.device)


def _solve(factor: Tensor, u: Tensor) -> Tensor:
    """``factor'^-1 u`` for rows ``u`` ``[n, k, latent_dim]``: N(0, A^-1) from N(0, I)."""
    return torch.linalg.solve_triangular(factor.mT, u.mT, upper=True).mT
