"""Noise-contrastive estimation: tell data from noise of a known law, and learn log Z on the way.

    J = E_data[ log(1 + exp(-G(x))) ] + nu E_noise[ log(1 + exp(G(y))) ],    y ~ q
    G(x) = -E(x) - log Z - log q(x) + log(n_data / n_noise),                 n_noise = nu n_data

Source: Gutmann & Hyvaerinen 2010, "Noise-contrastive estimation: a new estimation principle for
unnormalized statistical models", AISTATS (2012, JMLR, eq. 8, for any nu); here the sign that is
minimised. The minimiser over E and log Z is -E - log Z = log p wherever q > 0: targets p itself.

E and log Z trade a constant between them; what is learned is their sum. Under conditions,
p(x | c) = exp(-E(x | c)) / Z with the one Z that the energy makes right for every c.

The noise q has to fall wherever the data do: where it never does nothing is learned, and the
weights of modes that no noise joins are not seen. With noise that covers the data they are.
An adaptive noise (a flow that is trained against the energy, climbing J: Gao et al. 2020, "Flow
contrastive estimation") is a module with ``sample`` and ``log_prob``.

Cost: 1 + nu energies a row and one backward pass; no scores, no sampling by chains.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from basin.core.conditions import repeated
from basin.core.references import Reference
from basin.core.types import Density, Learned, Loss, Objective
from basin.core.validation import all_finite, positive, positive_integer, same_event_shape
from basin.energies.analytic.fitted import fit_covering_mixture, fit_gaussian
from basin.energies.analytic.gaussian_mixture import GaussianMixture

__all__ = [
    "LogNormaliser",
    "NoiseContrastiveEstimation",
    "NoiseContrastiveState",
    "nce_log_z",
    "noise_contrastive_estimation",
]

_NUM_COMPONENTS = 16
_NUM_CHECKED = 4096  # draws of the noise that its coverage is judged by
_LEAST_COVERED = 0.99
_NUM_LOG_Z_DRAWS = 20_000
# log Z starts so far below balance, in nats: the energy then rises everywhere first, and networks
# go on to find fine detail three times faster than from balance (eight Gaussians, 1,500 steps).
_BELOW_BALANCE = 4.0


def noise_contrastive_estimation(
    energy: Any,
    x: Tensor,
    *,
    log_z: Tensor | float,
    noise: Any,
    noise_ratio: int = 1,
    generator: torch.Generator,
) -> Tensor:
    """``log(1 + exp(-G(x)))`` plus the sum of ``log(1 + exp(G(y)))`` over a row's noise, ``[batch]``.

    Args:
        energy: callable ``[batch, *event] -> [batch]``.
        x: data, ``[batch, *event]``.
        log_z: in nats; differentiable when it is a tensor that is learned.
        noise: has ``sample(n, generator) -> [n, *event]`` and ``log_prob(x) -> [n]``, a
            :class:`Density` or an object of yours.
        noise_ratio: nu, draws of the noise for each row.
        generator: source of the noise.

    Source: Gutmann & Hyvaerinen 2010. Differentiable in the parameters of energy, log Z and noise.

    Example:
        >>> import math, torch, basin
        >>> truth = basin.datasets.StandardGaussian(2)
        >>> exact = lambda x: 0.5 * x.square().sum(1)
        >>> g = torch.Generator().manual_seed(0)
        >>> loss = basin.objectives.noise_contrastive_estimation(      # noise = data: 2 log 2
        ...     exact, truth.sample(5, g), log_z=math.log(2 * math.pi), noise=truth, generator=g)
        >>> loss[:2]
        tensor([1.3863, 1.3863])
    """  # noqa: E501
    log_odds = _log_odds(energy, x, log_z, noise, noise_ratio, generator)
    return softplus(-log_odds[0]) + softplus(log_odds[1:]).sum(0)


@torch.no_grad()
def nce_log_z(
    energy: Any,
    x: Tensor,
    noise: Any,
    generator: torch.Generator,
    *,
    noise_ratio: int = 1,
) -> tuple[float, float]:
    """log Z of a given energy and its standard error, from rows and fresh noise.

    The one-dimensional logistic regression, solved for log Z in float64: the sum over rows and
    noise of 1 / (1 + exp(-G)) equals the number of rows. It is Bennett's estimate (1976) of a
    ratio of normalisers, and so ``x`` has to be drawn from the energy's own density: for rows of
    another law (a model that is not perfect) the answer is the log Z that tells them best from the
    noise, and the standard error knows nothing of the difference.

    Args:
        energy: callable ``[batch, *event] -> [batch]``.
        x: independent rows, ``[n, *event]``, two at least.
        noise: has ``sample(n, generator)`` and ``log_prob(x)``.
        generator: source of the noise.
        noise_ratio: draws of the noise for each row.

    Returns:
        log Z in nats and its asymptotic standard error (sandwich: the variances of rows and noise
        apart, as their numbers are fixed).

    Example:
        >>> import torch, basin
        >>> truth, g = basin.datasets.StandardGaussian(2), torch.Generator().manual_seed(0)
        >>> energy = lambda x: 0.5 * x.square().sum(1)                 # log 2 pi = 1.838
        >>> wide = basin.datasets.MixtureOfGaussians([[0.0, 0.0]], 2.0)     # of variance 2
        >>> log_z, error = nce_log_z(energy, truth.sample(20_000, g), wide, g)
        >>> round(log_z, 1), error < 0.02
        (1.8, True)
    """
    if len(x) < 2:
        raise ValueError(f"x must have at least two rows for a standard error, got {len(x)}")
    positive_integer(noise_ratio=noise_ratio)
    data, noisy = _log_ratios(energy, x, noise, noise_ratio, generator)
    return _solve(data - math.log(noise_ratio), noisy - math.log(noise_ratio))


class LogNormaliser(nn.Module):
    """One learned number, log Z in nats.

    Args:
        value: where it starts.
    """

    def __init__(self, value: float | Tensor) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.as_tensor(value).detach().clone())


class NoiseContrastiveState(NamedTuple):
    """The learned log Z, the noise in use, and the share of the data that the noise covers."""

    log_z: LogNormaliser
    noise: Any
    covered: float
    num_rows: int


@dataclass(frozen=True)
class NoiseContrastiveEstimation(Objective):
    """Tells data from noise of a known law; learns p itself together with log Z.

    Args:
        noise: "gaussian" (mean and covariance of the data), "mixture" (16 Gaussians fitted to the
            data and a wide one), a :class:`Density`, or any object with ``sample(n, generator)``
            and ``log_prob(x)``. A module whose parameters are trainable, with draws that are
            differentiable in them, is trained to make the task hard.
        noise_ratio: nu, draws of the noise for each row.
        noise_scale: factor on the standard deviations of noise fitted to the data; far below one
            the noise misses data.

    Source: Gutmann & Hyvaerinen 2010; Gao et al. 2020 (arXiv 1912.00589) for trained noise.
    """

    uses_score: ClassVar[bool] = False
    needs_noise_level: ClassVar[bool] = False
    normalises: ClassVar[bool] = False
    learned: ClassVar[Mapping[str, Learned]] = {
        "log_z": Learned(rate=10.0),
        "noise": Learned(ascends=True),
    }
    meanings: ClassVar[Mapping[str, str]] = {
        "data": "mean of log(1 + exp(-G)) over the rows, log 2 where they look like noise",
        "noise": "mean of log(1 + exp(G)) over the noise, times its number for each row",
        "log_z": "the learned log Z, in nats",
        "trivial": "what an energy that cannot tell loses, 2 log 2 for equal numbers",
    }
    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "Noise-contrastive estimation: a new estimation principle for unnormalized "
            "statistical models",
            ("Michael Gutmann", "Aapo Hyvärinen"),
            2010,
            "https://proceedings.mlr.press/v9/gutmann10a.html",
        ),
        Reference(
            "Flow contrastive estimation of energy-based models",
            ("Ruiqi Gao", "Erik Nijkamp", "Diederik P. Kingma", "Zhen Xu", "Andrew M. Dai"),
            2020,
            "https://arxiv.org/abs/1912.00589",
        ),
    )

    noise: Literal["gaussian", "mixture"] | Density | nn.Module = "gaussian"
    noise_ratio: int = 1
    noise_scale: float = 1.0

    def __post_init__(self) -> None:
        positive_integer(noise_ratio=self.noise_ratio)
        positive(noise_scale=self.noise_scale)
        if isinstance(self.noise, str):
            if self.noise not in ("gaussian", "mixture"):
                raise ValueError(
                    f'noise must be "gaussian", "mixture", a Density or an object with sample and '
                    f"log_prob, got {self.noise!r}"
                )
        elif not (hasattr(self.noise, "sample") and hasattr(self.noise, "log_prob")):
            raise ValueError(
                "noise must have sample(n, generator) and log_prob(x), got "
                f"{type(self.noise).__name__}"
            )
        elif self.noise_scale != 1.0:
            raise ValueError(
                f"noise_scale must be left at 1 for noise of your own, got {self.noise_scale}; "
                "it widens what is fitted to the data"
            )

    @property
    def is_a_score_of_fit(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Not so against noise that is trained: the loss is one side of a game."""
        return not _is_trained(self.noise)

    @torch.no_grad()
    def init(self, x: Tensor, generator: torch.Generator) -> NoiseContrastiveState:
        noise = self._noise(x, generator)
        y = _checked_draws(noise, x, generator)
        log_q = noise.log_prob(x)
        # The data lie where at least one in a thousand draws of the noise does.
        rarest = noise.log_prob(y.to(x)).quantile(1e-3)
        return NoiseContrastiveState(
            LogNormaliser((-log_q).mean().to(x) - _BELOW_BALANCE),
            noise,
            float((log_q >= rarest).double().mean()),
            len(x),
        )

    def __call__(
        self, energy: Any, x: Tensor, state: NoiseContrastiveState, generator: torch.Generator
    ) -> Loss:
        log_z, nu = state.log_z.value, self.noise_ratio
        log_odds = _log_odds(energy, x, log_z, state.noise, nu, generator)
        data, noise = softplus(-log_odds[0]).mean(), nu * softplus(log_odds[1:]).mean()
        terms = {
            "data": data.detach(),
            "noise": noise.detach(),
            "log_z": log_z.detach().clone(),
            "trivial": data.new_tensor(math.log1p(nu) + nu * math.log1p(1 / nu)),
        }
        return Loss(data + noise, terms, state)

    @torch.no_grad()
    def log_z(
        self, energy: Any, x: Tensor, state: NoiseContrastiveState, generator: torch.Generator
    ) -> tuple[float, float]:
        """log Z of a trained energy from rows ``x`` and fresh noise, and its standard error.

        The value is that of :func:`nce_log_z`, which takes the rows for draws of the model. The
        noise alone, by importance sampling, needs no such belief; how far it would move the value
        counts as error.
        """
        ratio = max(self.noise_ratio, math.ceil(_NUM_LOG_Z_DRAWS / len(x)))
        data, noisy = _log_ratios(energy, x, state.noise, ratio, generator)
        value, error = _solve(data - math.log(ratio), noisy - math.log(ratio))
        from_noise = float(torch.logsumexp(noisy, 0)) - math.log(len(noisy))
        return value, math.hypot(error, value - from_noise)

    def noise_level(self, state: NoiseContrastiveState) -> None:
        return None

    def explain(self, state: NoiseContrastiveState) -> str:
        scale = f", standard deviations times {self.noise_scale:g}" if self.noise_scale != 1 else ""
        name = self.noise if isinstance(self.noise, str) else repr(self.noise)
        return (
            f"noise: {name}{scale}, {self.noise_ratio} for each row; {state.covered:.1%} of "
            f"{state.num_rows} rows lie where at least one in a thousand draws of it does"
        )

    def blindness(self, state: NoiseContrastiveState) -> str:
        if state.covered >= _LEAST_COVERED:
            return ""
        return (
            f"{1 - state.covered:.1%} of the data lie where the noise hardly ever falls (below the "
            "density of one in a thousand of its draws): the weights of modes there are not seen"
        )

    def _noise(self, x: Tensor, generator: torch.Generator) -> Any:
        """The law that is compared with; a module only if it is trained, as a copy."""
        if self.noise == "gaussian":
            fitted = fit_gaussian(x)
            covariance = fitted.covariance * self.noise_scale**2
            return _as_law(GaussianMixture(fitted.mean[None], covariance), x.shape[1:])
        if self.noise == "mixture":
            mixture = fit_covering_mixture(x, _NUM_COMPONENTS, generator, scale=self.noise_scale)
            return _as_law(mixture, x.shape[1:])
        noise: Any = self.noise
        return copy.deepcopy(noise) if _is_trained(noise) else _Law(noise.sample, noise.log_prob)


class _Law(NamedTuple):
    """Draws and log density of a noise that is not trained."""

    sample: Callable[[int, torch.Generator], Tensor]
    log_prob: Callable[[Tensor], Tensor]


def _as_law(energy: GaussianMixture, event_shape: torch.Size) -> _Law:
    """A normalised energy of flattened events, as a law of events."""
    return _Law(
        lambda n, generator: energy.sample(n, generator).reshape(n, *event_shape),
        lambda x: -energy(x.flatten(1)),
    )


def _is_trained(noise: Any) -> bool:
    return isinstance(noise, nn.Module) and any(p.requires_grad for p in noise.parameters())


def _checked_draws(noise: Any, x: Tensor, generator: torch.Generator) -> Tensor:
    """Draws to judge the noise by; they have to fit the rows, and carry a gradient if trained."""
    with torch.enable_grad():
        y = noise.sample(_NUM_CHECKED, generator)
    same_event_shape("noise.sample(n, generator)", y, x.shape[1:])
    if _is_trained(noise) and not y.requires_grad:
        raise ValueError(
            f"{type(noise).__name__} is trained, so its draws must be differentiable in its "
            "parameters, got draws without a gradient; draw by reparametrisation (rsample), or "
            "freeze it by noise.requires_grad_(False)"
        )
    return y.detach().to(x)


def _log_odds(
    energy: Any,
    x: Tensor,
    log_z: Tensor | float,
    noise: Any,
    noise_ratio: int,
    generator: torch.Generator,
) -> Tensor:
    """G of the rows (first) and of their noise, ``[1 + nu, batch]``."""
    y = noise.sample(noise_ratio * len(x), generator).to(x)
    same_event_shape("noise.sample(n, generator)", y, x.shape[1:])
    points = torch.cat([x, y])
    log_ratios = -repeated(energy, 1 + noise_ratio)(points) - noise.log_prob(points).to(x)
    log_odds = log_ratios - log_z - math.log(noise_ratio)
    return log_odds.unflatten(0, (1 + noise_ratio, len(x)))


def _log_ratios(
    energy: Any, x: Tensor, noise: Any, noise_ratio: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """-E - log q of rows ``[n]`` and of noise ``[noise_ratio n]``, in float64."""

    def log_ratio(points: Tensor) -> Tensor:
        return -energy(points).double() - noise.log_prob(points).double()

    draws = (noise.sample(len(x), generator).to(x) for _ in range(noise_ratio))
    return log_ratio(x), torch.cat([log_ratio(y) for y in draws])


def _solve(data: Tensor, noisy: Tensor) -> tuple[float, float]:
    """log Z with sum of 1 / (1 + exp(log Z - log_odds)) = number of rows, and its error.

    The sum falls in log Z, so the root is bisected to the last bit: beyond the smallest and the
    largest log odds by log of the count, it lies on either side of the number of rows.
    """
    log_odds = torch.cat([data, noisy])
    all_finite("log odds of rows and noise", log_odds)
    margin = math.log(len(log_odds)) + 1
    lower, upper = float(log_odds.min()) - margin, float(log_odds.max()) + margin
    for _ in range(64):
        log_z = (lower + upper) / 2
        if float(torch.sigmoid(log_odds - log_z).sum()) > len(data):
            lower = log_z
        else:
            upper = log_z
    log_z = (lower + upper) / 2
    of_data, of_noise = torch.sigmoid(data - log_z), torch.sigmoid(noisy - log_z)
    slope = sum(float((part * (1 - part)).sum()) for part in (of_data, of_noise))
    variance = sum(len(part) * float(part.var()) for part in (of_data, of_noise))
    return log_z, math.sqrt(variance) / slope if slope > 0 else math.inf
