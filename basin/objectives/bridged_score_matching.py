"""Bridged score matching: score matching with a wide known density mixed into data and model.

    p~ = a p + (1 - a) m        q~ = a exp(-E - c) + (1 - a) m
    J  = E_{p~}[ ||s~||^2 + 2 div s~ ],      s~ = grad log q~

Source: Zhang, Key, Hayes, Barber, Paige & Briol 2022, "Towards healing the blindness of score
matching", the mixture Fisher divergence E_{p~} || grad log p~ - grad log q~ ||^2 = J + const. Its
bridge m joins modes that lie apart: at the rim of each mode p and m are equally likely, so the
score there tells the height of the mode over m, and with it the mode's weight. The paper trains
an energy of p~ and takes m out afterwards; here E is p's own, as everywhere in Basin.

The normaliser. With r = (1 - a)/a, J is at its least for each g = exp(-E - c) of a family,

    g = k p + (k - 1) r m        as then q~ = k p~: a score forgets the factor k,

and only k = 1 has integral one. The c of E is therefore settled by telling data from draws of m
with the logit -E - c - log m, as in noise-contrastive estimation (Gutmann & Hyvärinen 2010):

    c(E):  E_p[ 1 - sigmoid(-E - c - log m) ] = E_m[ sigmoid(-E - c - log m) ]

which asks that the integral of m (g - p)/(g + m) be zero; g - p = (k - 1)(p + r m) has one sign, so
k = 1. J(E, c(E)) has one minimiser, E = -log p - c with c = log Z, and a constant added to E
changes nothing. c(E) is the root for the batch at hand, found by bisection and differentiated with
it; its noise is that of one batch, and falls as the batch grows.

The share. Where the model has lost a mode (a g far below (1 - a) m) no score of q~ sees it, and
nothing brings it back: a network that digs its first well lifts everything else by hundreds of
nats. Every a in (0, 1) gives a criterion with the same minimiser, so each row draws its own,

    log(a/(1 - a)) = log_odds (1 - u)/u,      u uniform on (0, 1),

half of them below ``log_odds``, which tell the weights, and a long tail up to plain score matching,
which sees modes that the model has any number of nats too low.

m = N(mean, width^2 covariance) of the training rows. Targets p itself, where p has a density
without jumps; ``sigma`` blurs rows that have none, and the target is then p_sigma.

Cost: exact or Hutchinson's traces at the batch and at as many draws of m: two to three times that
of exact or sliced score matching; no sampling of the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from basin.core.conditions import repeated
from basin.core.curvature import score_and_curvatures, score_and_hessian_diagonal
from basin.core.directions import random_signs_like
from basin.core.noise import stratified_uniform
from basin.core.references import Reference
from basin.core.smoothing import Smoothing, smoothed, smoothing, smoothing_level
from basin.core.tensors import event_sum
from basin.core.types import Loss, Objective
from basin.core.validation import batch_of_energies, positive, positive_integer
from basin.energies.analytic.fitted import fit_gaussian
from basin.energies.analytic.gaussian import Gaussian
from basin.objectives.meanings import IMPLICIT_TERMS

__all__ = [
    "BridgedScoreMatching",
    "BridgedScoreMatchingState",
    "GaussianBridge",
    "bridged_score_matching",
]

_NUM_LOG_Z_DRAWS = 20_000


class GaussianBridge(NamedTuple):
    """m, a normalised Gaussian over flattened events."""

    law: Gaussian

    @classmethod
    def around(cls, x: Tensor, width: float, sigma: float = 0.0) -> GaussianBridge:
        """The Gaussian of rows ``[n, *event]`` blurred by sigma, ``width`` times as wide."""
        fitted = fit_gaussian(x)
        blur = sigma**2 * torch.eye(len(fitted.mean)).to(fitted.covariance)
        return cls(Gaussian(fitted.mean, width**2 * (fitted.covariance + blur)))

    def draw_like(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """As many draws as ``x`` has rows, of its shape, dtype and device."""
        return self.law.sample(len(x), generator).to(x).view_as(x)

    def log_prob(self, x: Tensor) -> Tensor:
        """log m, ``[batch]``."""
        return -self.law(x.flatten(1))


def contrastive_log_z(log_ratio: Tensor) -> Tensor:
    """c that tells rows from draws of m: log Z where the rows are draws of exp(-E)/Z.

    Args:
        log_ratio: u = -E - log m at n rows, then at n draws of m, ``[2n]``.

    The root of ``mean over rows of 1 - sigmoid(u - c) = mean over draws of sigmoid(u - c)``, by
    bisection of the difference of logarithms (which has no flat part where rows and draws are told
    apart at once), with its derivative in u.
    """
    u = log_ratio.detach()
    rows, draws = u.chunk(2)
    margin = math.log(len(u)) + 1
    low, high = u.min() - margin, u.max() + margin
    for _ in range(64):
        middle = 0.5 * (low + high)
        of_draws = torch.logsumexp(functional.logsigmoid(draws - middle), 0)
        of_rows = torch.logsumexp(functional.logsigmoid(middle - rows), 0)
        is_low = of_draws > of_rows
        low, high = torch.where(is_low, middle, low), torch.where(is_low, high, middle)
    c = 0.5 * (low + high)
    # dc/du_i is in proportion to sigmoid (1 - sigmoid), and these sum to one.
    slopes = torch.softmax(functional.logsigmoid(u - c) + functional.logsigmoid(c - u), dim=0)
    return c + (slopes * (log_ratio - u)).sum()


def bridged_score_matching(
    energy: Any,
    x: Tensor,
    *,
    bridge: GaussianBridge,
    log_z: Tensor | float,
    log_odds: Tensor | float = 2.0,
    num_probes: int | None = None,
    generator: torch.Generator,
) -> Tensor:
    """``a l(x_i) + (1 - a) l(m_i)``, ``l = ||s~||^2 + 2 div s~``, for each row, ``[batch]``.

    Args:
        energy: callable ``[batch, *event] -> [batch]``.
        x: data, ``[batch, *event]``.
        bridge: the wide density m.
        log_z: c, the energy's log Z.
        log_odds: log(a/(1 - a)) for the weight a of the data in the mixture; a number, or one for
            each row.
        num_probes: None for exact traces; else probes a row for Hutchinson's estimate.
        generator: source of the draws of m and of the probes.

    Source: Zhang et al. 2022, mixture Fisher divergence, by parts. Differentiable in the parameters
    and in ``log_z``.

    Example:
        >>> import torch, basin
        >>> g = torch.Generator().manual_seed(0)
        >>> x = torch.randn(50_000, 1, generator=g)
        >>> same = basin.objectives.GaussianBridge(basin.energies.Gaussian([0.0], [[1.0]]))
        >>> loss = basin.objectives.bridged_score_matching(
        ...     lambda x: 0.5 * x.square().sum(1), x, bridge=same,
        ...     log_z=0.5 * torch.log(torch.tensor(2 * torch.pi)), generator=g)
        >>> round(loss.mean().item(), 1)                    # p = m = N(0, 1): exact score matching
        -1.0
    """
    rows = torch.cat([x, bridge.draw_like(x, generator)])
    square, curvature = _terms(energy, rows, bridge, log_z, log_odds, num_probes, generator)
    return square + curvature


class BridgedScoreMatchingState(NamedTuple):
    """The blur of the rows and the bridge over them."""

    smoothing: Smoothing
    bridge: GaussianBridge


@dataclass(frozen=True)
class BridgedScoreMatching(Objective):
    """Score matching that sees the weights of far modes, by a bridge over them (Zhang et al. 2022).

    Args:
        log_odds: median of log(a/(1 - a)), where a is the weight of the data in the mixture with
            the bridge; each row draws its own, with a long tail towards a = 1.
        width: standard deviations of the bridge over those of the data.
        num_probes: None for exact traces (d products a row); a number for Hutchinson's estimate
            with as many.
        sigma: blur of the rows before; 0 for none, "auto" for none unless columns repeat their
            values (whole numbers, rounded or constant columns), which have no density.

    Source: Zhang et al. 2022 (arXiv 2209.07396), with log Z told from the bridge's draws.
    """

    uses_score: ClassVar[bool] = True
    needs_noise_level: ClassVar[bool] = False
    normalises: ClassVar[bool] = False
    meanings: ClassVar[Mapping[str, str]] = {
        "square": IMPLICIT_TERMS["square"] + ", of data and bridge mixed, s~",
        "curvature": "mean of 2 div s~; minus twice the square when s~ is right up to its scale",
        "logistic": "loss of telling rows from draws of the bridge by E + log Z, in nats a pair: "
        "1.386 when they cannot be told apart; many nats, and a mode has been lost",
        "log_z": "log Z of exp(-E) as the batch and as many draws of the bridge tell it, in nats",
    }
    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "Towards healing the blindness of score matching",
            (
                "Mingtian Zhang",
                "Oscar Key",
                "Peter Hayes",
                "David Barber",
                "Brooks Paige",
                "François-Xavier Briol",
            ),
            2022,
            "https://arxiv.org/abs/2209.07396",
        ),
    )

    log_odds: float = 4.0
    width: float = 1.5
    num_probes: int | None = 1
    sigma: float | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        positive(log_odds=self.log_odds, width=self.width)
        if self.num_probes is not None:
            positive_integer(num_probes=self.num_probes)
        smoothing_level(self.sigma)

    def init(self, x: Tensor, generator: torch.Generator) -> BridgedScoreMatchingState:
        del generator
        level = smoothing(self.sigma, x)
        bridge = GaussianBridge.around(x, self.width, level.sigma)
        return BridgedScoreMatchingState(level, bridge)

    def __call__(
        self, energy: Any, x: Tensor, state: BridgedScoreMatchingState, generator: torch.Generator
    ) -> Loss:
        y = smoothed(x, state.smoothing.sigma, generator)
        rows = torch.cat([y, state.bridge.draw_like(y, generator)])
        log_ratio = -repeated(energy, 2)(rows) - state.bridge.log_prob(rows)
        log_z = contrastive_log_z(log_ratio)
        u = stratified_uniform(len(y), generator).to(y)
        log_odds = self.log_odds * (1 - u) / u
        square, curvature = (
            part.mean()
            for part in _terms(
                energy, rows, state.bridge, log_z, log_odds, self.num_probes, generator
            )
        )
        with torch.no_grad():
            data, bridge = (log_ratio - log_z).chunk(2)
            logistic = functional.softplus(-data).mean() + functional.softplus(bridge).mean()
        terms = {
            "square": square.detach(),
            "curvature": curvature.detach(),
            "logistic": logistic.detach(),
            "log_z": log_z.detach(),
        }
        return Loss(square + curvature, terms, state)

    @torch.no_grad()
    def log_z(
        self, energy: Any, x: Tensor, state: BridgedScoreMatchingState, generator: torch.Generator
    ) -> tuple[float, float]:
        """log Z of a trained energy and its standard error, by importance sampling from the bridge.

        The rows ``x`` and as many draws give it another way, as in training; how far that would
        move the value counts as error.
        """
        bridge = state.bridge

        def log_ratio(rows: Tensor) -> Tensor:
            return -energy(rows).double() - bridge.log_prob(rows).double()

        blocks = -(-_NUM_LOG_Z_DRAWS // len(x))
        of_draws = [log_ratio(bridge.draw_like(x, generator)) for _ in range(blocks)]
        log_weights = torch.cat(of_draws)
        log_z = torch.logsumexp(log_weights, 0) - math.log(len(log_weights))
        relative_variance = (2 * (log_weights - log_z)).exp().mean() - 1
        error = math.sqrt(float(relative_variance) / len(log_weights))
        y = smoothed(x, state.smoothing.sigma, generator)
        told = contrastive_log_z(torch.cat([log_ratio(y), of_draws[0]]))
        return float(log_z), math.hypot(error, float(told - log_z))

    def noise_level(self, state: BridgedScoreMatchingState) -> float | None:
        return state.smoothing.level

    def explain(self, state: BridgedScoreMatchingState) -> str:
        return state.smoothing.why

    def blindness(self, state: BridgedScoreMatchingState) -> str:
        return ""  # at each mode's rim the score tells its height over the bridge


def _terms(
    energy: Any,
    rows: Tensor,
    bridge: GaussianBridge,
    log_z: Tensor | float,
    log_odds: Tensor | float,
    num_probes: int | None,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """``||s~||^2`` and ``2 div s~`` of each pair (row, draw of m), ``[batch]``."""
    both = repeated(energy, 2)
    log_odds = torch.as_tensor(log_odds).to(rows).expand(len(rows) // 2)
    log_share, log_rest = (functional.logsigmoid(part).repeat(2) for part in (log_odds, -log_odds))

    def mixed(y: Tensor) -> Tensor:
        log_model = -batch_of_energies(energy, y, both(y)) - log_z
        log_bridge = log_rest + bridge.log_prob(y)
        # log(u + v) = log v + softplus(log u - log v): torch's logaddexp has a second derivative
        # of nan where the two lie 90 nats apart.
        return -log_bridge - functional.softplus(log_share + log_model - log_bridge)

    if num_probes is None:
        s, diagonal = score_and_hessian_diagonal(mixed, rows)
        trace = event_sum(diagonal)
    else:
        probes = random_signs_like(rows.expand(num_probes, *rows.shape), generator)
        s, curvatures = score_and_curvatures(mixed, rows, probes)
        trace = curvatures.mean(0)
    parts = (event_sum(s.square()), -2 * trace)
    square, curvature = (
        torch.sigmoid(log_odds) * of_data + torch.sigmoid(-log_odds) * of_bridge
        for of_data, of_bridge in (part.chunk(2) for part in parts)
    )
    return square, curvature
