"""Six posteriors of posteriordb with reference draws, as energies of unconstrained numbers.

Each is written from its Stan model: likelihood, priors and the Jacobian of the map from the real
line. Constants are left out. Reference draws: 10 chains of 1,000, thinned until nearly independent.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "posteriordb"

Parameters = dict[str, Tensor]


@dataclass(frozen=True)
class Posterior:
    """``energy`` of ``[chains, dim]``; ``constrain`` gives the model's parameters by name.

    Chains start uniformly within ``reach`` of ``centre``, 2 of zero where none: Stan's starts.
    """

    name: str
    dim: int
    energy: Callable[[Tensor], Tensor]
    constrain: Callable[[Tensor], Parameters]
    centre: tuple[float, ...] | None = None
    reach: float = 2.0

    def start(self, num_chains: int, generator: torch.Generator) -> Tensor:
        """``[chains, dim]`` in float64."""
        size = (num_chains, self.dim)
        around = 2 * torch.rand(size, generator=generator, dtype=torch.float64) - 1
        centre = torch.tensor(self.centre or [0.0] * self.dim, dtype=torch.float64)
        return centre + self.reach * around

    def reference(self) -> Parameters:
        """``[chain, draw]`` of each parameter."""
        chains: Any = _read(FOLDER / self.name / "draws.json.zip")
        names = chains[0]
        return {
            name: torch.tensor([chain[name] for chain in chains], dtype=torch.float64)
            for name in names
        }


def posterior(name: str) -> Posterior:
    """One of :data:`POSTERIORS`, with its data."""
    return POSTERIORS[name](name, observations(name))


def observations(name: str) -> dict[str, Any]:
    """The data of one, lists as tensors."""
    data = _read(FOLDER / name / "data.json.zip")
    return {
        key: torch.tensor(value, dtype=torch.float64) if isinstance(value, list) else value
        for key, value in data.items()
    }


def _eight_schools(name: str, data: dict[str, Any]) -> Posterior:
    """theta = mu + tau t, t ~ N(0, 1), mu ~ N(0, 5), tau ~ half-Cauchy(0, 5); y ~ N(theta, s)."""

    def constrain(u: Tensor) -> Parameters:
        mu, tau = u[..., 8], u[..., 9].exp()
        theta = mu.unsqueeze(-1) + tau.unsqueeze(-1) * u[..., :8]
        return _numbered("theta", theta) | {"mu": mu, "tau": tau}

    def energy(u: Tensor) -> Tensor:
        t, mu, log_tau = u[:, :8], u[:, 8], u[:, 9]
        theta = mu.unsqueeze(1) + log_tau.exp().unsqueeze(1) * t
        likelihood = 0.5 * ((data["y"] - theta) / data["sigma"]).square().sum(1)
        prior = 0.5 * t.square().sum(1) + 0.5 * (mu / 5).square()
        return likelihood + prior + _half_cauchy(log_tau, 5.0)

    return Posterior(name, 10, energy, constrain)


def _regression(
    name: str, design: Tensor, y: Tensor, prior: Callable[[Tensor, Tensor], Tensor]
) -> Posterior:
    """y ~ N(X beta, sigma), of (beta, log sigma); ``prior`` includes the Jacobian of log sigma."""
    k = design.shape[1]

    def energy(u: Tensor) -> Tensor:
        beta, log_sigma = u[:, :k], u[:, k]
        residuals = (y - beta @ design.mT) / log_sigma.exp().unsqueeze(1)
        likelihood = 0.5 * residuals.square().sum(1) + len(y) * log_sigma
        return likelihood + prior(beta, log_sigma)

    def constrain(u: Tensor) -> Parameters:
        return _numbered("beta", u[..., :k]) | {"sigma": u[..., k].exp()}

    return Posterior(name, k + 1, energy, constrain)


def _kidiq(name: str, data: dict[str, Any]) -> Posterior:
    design = _with_intercept(data["mom_iq"])
    prior = lambda beta, log_sigma: _half_cauchy(log_sigma, 2.5)  # noqa: E731
    return _regression(name, design, data["kid_score"], prior)


def _earnings(name: str, data: dict[str, Any]) -> Posterior:
    """Flat in beta and sigma: what is left is the Jacobian."""
    prior = lambda beta, log_sigma: -log_sigma  # noqa: E731
    return _regression(name, _with_intercept(data["height"]), data["earn"].log(), prior)


def _sblrc(name: str, data: dict[str, Any]) -> Posterior:
    def prior(beta: Tensor, log_sigma: Tensor) -> Tensor:
        return 0.5 * (beta / 10).square().sum(1) + _half_normal(log_sigma, 10.0)

    return _regression(name, data["X"], data["y"], prior)


def _autoregression(name: str, data: dict[str, Any]) -> Posterior:
    """y_t ~ N(alpha + sum_k beta_k y_(t-k), sigma)."""
    y, order = data["y"], data["K"]
    past = [y[order - k : len(y) - k] for k in range(1, order + 1)]
    design = torch.stack([torch.ones_like(past[0]), *past], dim=1)

    def prior(beta: Tensor, log_sigma: Tensor) -> Tensor:
        return 0.5 * (beta / 10).square().sum(1) + _half_cauchy(log_sigma, 2.5)

    regression = _regression(name, design, y[order:], prior)

    def constrain(u: Tensor) -> Parameters:
        rest = _numbered("beta", u[..., 1 : order + 1])
        return {"alpha": u[..., 0], "sigma": u[..., order + 1].exp()} | rest

    return Posterior(name, order + 2, regression.energy, constrain)


def _mixture(name: str, data: dict[str, Any]) -> Posterior:
    """theta N(mu_1, s_1) + (1 - theta) N(mu_2, s_2); mu ordered, mu ~ N(0, 2), s ~ half-N(0, 2).

    The order is Stan's transform, mu_2 = mu_1 + exp(u_1): labels cannot switch. What is left of
    the other labelling is a plateau at mu_1 = mu_2, each component over both clusters, which chains
    from Stan's starts fall into and leave only by chance. Chains start around the clusters instead,
    at -3 and 3; ``test_the_plateau_of_the_mixture_has_no_mass`` says what that leaves out.
    """

    def split(u: Tensor) -> tuple[Tensor, Tensor]:
        mu = torch.stack([u[..., 0], u[..., 0] + u[..., 1].exp()], dim=-1)
        return mu, u[..., 4]

    def energy(u: Tensor) -> Tensor:
        mu, logit = split(u)
        log_s = u[:, 2:4]
        z = (data["y"] - mu.unsqueeze(2)) / log_s.exp().unsqueeze(2)
        weights = torch.stack([logsigmoid(logit), logsigmoid(-logit)], dim=1)
        parts = weights.unsqueeze(2) - 0.5 * z.square() - log_s.unsqueeze(2)
        likelihood = -torch.logsumexp(parts, dim=1).sum(1)
        prior = 0.5 * (mu / 2).square().sum(1) + _half_normal(log_s, 2.0).sum(1)
        prior = prior - 5 * weights.sum(1)  # Beta(5, 5) and the Jacobian of the logit
        return likelihood + prior - u[:, 1]  # the Jacobian of the ordering

    def constrain(u: Tensor) -> Parameters:
        mu, logit = split(u)
        return (
            _numbered("mu", mu)
            | _numbered("sigma", u[..., 2:4].exp())
            | {"theta": torch.sigmoid(logit)}
        )

    centre = (-3.0, math.log(6.0), 0.0, 0.0, 0.0)
    return Posterior(name, 5, energy, constrain, centre, reach=0.5)


POSTERIORS: dict[str, Callable[[str, dict[str, Any]], Posterior]] = {
    "eight_schools-eight_schools_noncentered": _eight_schools,
    "kidiq-kidscore_momiq": _kidiq,
    "earnings-logearn_height": _earnings,
    "low_dim_gauss_mix-low_dim_gauss_mix": _mixture,
    "sblrc-blr": _sblrc,
    "arK-arK": _autoregression,
}

logsigmoid = torch.nn.functional.logsigmoid


def _half_cauchy(log_scale: Tensor, width: float) -> Tensor:
    """-log of the half-Cauchy density of exp(log_scale), less the Jacobian."""
    return torch.log1p((2 * (log_scale - math.log(width))).exp()) - log_scale


def _half_normal(log_scale: Tensor, width: float) -> Tensor:
    return 0.5 * (log_scale.exp() / width).square() - log_scale


def _with_intercept(column: Tensor) -> Tensor:
    return torch.stack([torch.ones_like(column), column], dim=1)


def _numbered(name: str, values: Tensor) -> Parameters:
    return {f"{name}[{i + 1}]": column for i, column in enumerate(values.unbind(-1))}


def _read(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(archive.namelist()[0]))
