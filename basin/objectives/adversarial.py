"""Adversarial training: a generator draws where the energy is low, the energy rises there.

    log Z >= E_q[-E] + H(q)                      equal when q is the model, for any density q
    J = min_E max_q  E_p[E] - E_q[E] + H(q)      the negative log-likelihood, with that bound for Z
        + gradient_penalty E_p || grad E ||^2

Source: Grathwohl, Kelly, Hashemi, Norouzi, Swersky & Duvenaud 2021, "No MCMC for me: amortized
sampling for fast and stable training of energy-based models" (VERA), eq. 6 to 10, after Zhao,
Mathieu & LeCun 2017 (no entropy) and Kumar et al. 2019 (mutual information for it). q draws
x = g(z) + sigma e; its entropy goes up along

    grad H(q) = -E[ grad log q(x) dx/d(parameters) ].

What differs: log q and its gradient are importance sampled from the *linearised* posterior of z and
from the prior, so that folds of g are seen (``energies.networks.noisy_generator``), where VERA
learns a Gaussian around each z; and the draws in the energy's gradient are weighed by
(exp(-E)/q)^a. Even weights, a = 0, are VERA's; a = 1 is the gradient of the tighter bound
log Z >= E log mean exp(-E)/q (Burda, Grosse & Salakhutdinov 2016), which is right before the
generator has caught up, and where it cannot: even weights raise the energy without end in the gaps
that a continuous g has to cross. The power is as near one as ``effective_fraction`` allows.

About p itself (blurred where its rows have no density, see ``sigma``). The generator and the
weights move mass between far modes, so that their weights are seen as long as the draws reach them.

Cost: the energy and its parameter gradient at two batches; a batch of draws; no chains.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from basin.core.conditions import Given
from basin.core.gradients import score
from basin.core.references import Reference
from basin.core.smoothing import Smoothing, smoothed, smoothing, smoothing_level
from basin.core.tensors import event_sum
from basin.core.types import Learned, Loss, Objective, Watched
from basin.core.validation import in_unit_interval, non_negative, positive_integer
from basin.energies.networks.noisy_generator import NoisyGenerator
from basin.energies.networks.vector_network import VectorNetwork

__all__ = ["Adversarial", "AdversarialState", "adversarial"]

_LARGEST_LATENT_DIM = 16  # by default; a Jacobian costs as many evaluations for each draw
_BASE_WIDTH = 3.0  # standard deviations of the data
_POWERS = 65  # tried for the importance weights, evenly from 0 to 1
_MEMORY = 0.99  # of the running gap: about a hundred steps
_GAP_BAND = 20.0  # nats a dimension
_FAR = 10.0  # standard deviations of the data
_SHARE_OUTSIDE = 0.5


def adversarial(
    energy: Any,
    generator_network: NoisyGenerator,
    x: Tensor,
    *,
    gradient_penalty: float = 0.0,
    effective_fraction: float = 1.0,
    base_share: float = 0.0,
    num_local: int = 2,
    num_shared: int = 256,
    generator: torch.Generator,
) -> Tensor:
    """``E(x) - E(y) - log q(y) + gradient_penalty || grad E(x) ||^2`` with a draw y of q a row.

    ``[batch]``. Its mean estimates the bound J from below. The gradient of the mean is that of J:
    the energy descends it, the generator ascends it.

    Args:
        energy: callable ``[batch, *event] -> [batch]``.
        generator_network: q, over rows of d coordinates.
        x: data, ``[batch, *event]``.
        gradient_penalty: weight on the squared slope of the energy at the data.
        effective_fraction: the draws' weights in the energy's gradient, (exp(-E)/q)^a, take the
            largest power a in [0, 1] that leaves this share of them effective, 1/(n sum w^2): 0
            for a = 1 always, 1 for even weights.
        base_share: draws of a wide Gaussian, three times the data's standard deviation, for each
            of q's; q is their mixture then in those weights. They find where the energy is low
            and g does not go. Zero with even weights.
        num_local: candidates a row from the linearised posterior, even.
        num_shared: candidates from N(0, I), shared by all rows.
        generator: source of draws and candidates.

    Source: Grathwohl et al. 2021, eq. 6 to 10.
    """
    rows, _ = _rows_and_terms(
        energy,
        generator_network,
        x,
        gradient_penalty,
        effective_fraction,
        base_share,
        num_local,
        num_shared,
        generator,
    )
    return rows


class AdversarialState(NamedTuple):
    """The generator, the running mean of E_data - E_model, and the blur of the rows."""

    generator_network: NoisyGenerator
    running_gap: Tensor
    smoothing: Smoothing


@dataclass(frozen=True)
class Adversarial(Objective, Watched):
    """Adversarial training with an entropy term: a generator instead of chains.

    Args:
        gradient_penalty: weight on the squared slope of the energy at the data; it steadies the
            game, and smooths what is learned.
        latent_dim: coordinates of the generator's z; None is d, and 16 at most.
        hidden: widths of the generator's hidden layers.
        effective_fraction: as for :func:`adversarial`.
        base_share: likewise.
        num_local: likewise.
        num_shared: likewise.
        learned_steps: steps of the generator for each one of the energy (``num_steps`` counts the
            generator's).
        sigma: blur of the rows before; 0 for none, "auto" for none unless columns repeat their
            values (whole numbers, rounded or constant columns), which have no density.

    Source: Grathwohl et al. 2021, algorithm 1.
    """

    uses_score: ClassVar[bool] = False
    needs_noise_level: ClassVar[bool] = False
    normalises: ClassVar[bool] = False
    is_a_score_of_fit: ClassVar[bool] = False
    learned: ClassVar[Mapping[str, Learned]] = {"generator_network": Learned(ascends=True)}
    meanings: ClassVar[Mapping[str, str]] = {
        "E_data": "mean energy of the batch, in nats",
        "E_model": "mean energy of the generator's draws, in nats",
        "entropy": "entropy of the generator in nats, a lower bound",
        "penalty": "gradient_penalty times the mean squared slope of the energy at the data",
        "power": "power of the importance weights of the draws: 1 when the generator is near the "
        "model, 0 for even weights",
        "generator_sigma": "the noise that the generator adds to its output",
        "gap_per_dimension": "running mean of E_data - E_model, over d; beyond 20 nats either way "
        "the generator does not follow the energy",
        "outside": "share of draws farther than 10 standard deviations of the data from its mean; "
        "beyond a half they have left it",
    }
    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "No MCMC for me: amortized sampling for fast and stable training of energy-based "
            "models",
            (
                "Will Grathwohl",
                "Jacob Kelly",
                "Milad Hashemi",
                "Mohammad Norouzi",
                "Kevin Swersky",
                "David Duvenaud",
            ),
            2021,
            "https://arxiv.org/abs/2010.04230",
        ),
        Reference(
            "Energy-based generative adversarial networks",
            ("Junbo Zhao", "Michael Mathieu", "Yann LeCun"),
            2017,
            "https://arxiv.org/abs/1609.03126",
        ),
        Reference(
            "Maximum entropy generators for energy-based models",
            ("Rithesh Kumar", "Sherjil Ozair", "Anirudh Goyal", "Aaron Courville", "Yoshua Bengio"),
            2019,
            "https://arxiv.org/abs/1901.08508",
        ),
        Reference(
            "Importance weighted autoencoders",
            ("Yuri Burda", "Roger Grosse", "Ruslan Salakhutdinov"),
            2016,
            "https://arxiv.org/abs/1509.00519",
        ),
        Reference(
            "Importance weighted hierarchical variational inference",
            ("Artem Sobolev", "Dmitry Vetrov"),
            2019,
            "https://arxiv.org/abs/1905.03290",
        ),
    )

    gradient_penalty: float = 0.001
    latent_dim: int | None = None
    hidden: tuple[int, ...] = (128, 128)
    effective_fraction: float = 0.1
    base_share: float = 0.1
    num_local: int = 2
    num_shared: int = 256
    learned_steps: int = 1
    sigma: float | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        non_negative(gradient_penalty=self.gradient_penalty)
        if self.latent_dim is not None:
            positive_integer(latent_dim=self.latent_dim)
        if len(self.hidden) == 0:
            raise ValueError("hidden must name at least one width, got ()")
        positive_integer(**{f"hidden[{i}]": width for i, width in enumerate(self.hidden)})
        _require_numbers(self.effective_fraction, self.base_share, self.num_local, self.num_shared)
        positive_integer(learned_steps=self.learned_steps)
        smoothing_level(self.sigma)

    def init(self, x: Tensor, generator: torch.Generator) -> AdversarialState:
        flat = x.flatten(1)
        deviation = float(flat.var(0, correction=0).mean().sqrt())
        if not deviation > 0:
            raise ValueError("x must vary, got rows that are all the same; give two rows or more")
        dim = flat.shape[1]
        latent_dim = self.latent_dim or min(dim, _LARGEST_LATENT_DIM)
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        weights = torch.Generator().manual_seed(seed)  # drawn on the CPU, wherever x lives
        network = VectorNetwork(latent_dim, dim, self.hidden, weights)
        q = NoisyGenerator(network, latent_dim, flat.mean(0), deviation).to(x)
        return AdversarialState(q, x.new_zeros(()), smoothing(self.sigma, x))

    def __call__(
        self, energy: Any, x: Tensor, state: AdversarialState, generator: torch.Generator
    ) -> Loss:
        if isinstance(energy, Given):
            raise ValueError(
                "Adversarial trains energies without conditions: its generator does not see them"
            )
        rows, terms = _rows_and_terms(
            energy,
            state.generator_network,
            smoothed(x, state.smoothing.sigma, generator),
            self.gradient_penalty,
            self.effective_fraction,
            self.base_share,
            self.num_local,
            self.num_shared,
            generator,
        )
        gap = (terms["E_data"] - terms["E_model"]) / x[0].numel()
        running = _MEMORY * state.running_gap + (1 - _MEMORY) * gap
        terms = {**terms, "gap_per_dimension": running}
        return Loss(rows.mean(), terms, state._replace(running_gap=running))

    def alarm(self, terms: Mapping[str, float]) -> str:
        gap, outside = terms["gap_per_dimension"], terms["outside"]
        if abs(gap) > _GAP_BAND:
            return (
                f"the generator does not follow the energy, as E_data - E_model is {gap:.3g} nats "
                f"a dimension on average, outside -{_GAP_BAND:g} to {_GAP_BAND:g}"
            )
        if outside > _SHARE_OUTSIDE:
            return (
                f"the generator has left the data, as {outside:.0%} of its draws are farther than "
                f"{_FAR:g} standard deviations from their mean"
            )
        return ""

    def calmer(self) -> Adversarial:
        return replace(
            self,
            learned_steps=2 * self.learned_steps,
            gradient_penalty=max(0.01, 4 * self.gradient_penalty),
        )

    def noise_level(self, state: AdversarialState) -> float | None:
        return state.smoothing.level

    def explain(self, state: AdversarialState) -> str:
        return state.smoothing.why

    def blindness(self, state: AdversarialState) -> str:
        return ""


def _rows_and_terms(
    energy: Any,
    q: NoisyGenerator,
    x: Tensor,
    gradient_penalty: float,
    effective_fraction: float,
    base_share: float,
    num_local: int,
    num_shared: int,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    non_negative(gradient_penalty=gradient_penalty)
    _require_numbers(effective_fraction, base_share, num_local, num_shared)
    n = len(x)
    draws = q.draw(n, generator)
    log_q, score_q = q.log_density_and_score(
        draws, generator, num_local=num_local, num_shared=num_shared
    )
    y, log_mixture = draws.x.detach(), log_q
    if base_share > 0:
        base = _Base(q, math.ceil(base_share * n) / n)
        wide = base.draw(n, generator)
        log_q_wide = q.log_density(wide, generator, num_shared=num_shared)
        y, log_mixture = (
            torch.cat([y, wide]),
            base.mixed(torch.cat([log_q, log_q_wide]), torch.cat([y, wide])),
        )
    y = y.reshape(-1, *x.shape[1:])
    of_data, of_draws = energy(x), energy(y)
    penalty = torch.zeros_like(of_data)
    if gradient_penalty > 0:
        slope = score(energy, x, create_graph=True)
        penalty = gradient_penalty * event_sum(slope.square())
    with torch.no_grad():
        value = of_data - of_draws[:n] - log_q + penalty
        weights, power = _tempered_weights(-of_draws - log_mixture, effective_fraction)
    # Whose gradients: the first line's the energy's, the second's the generator's.
    graph = of_data + penalty - (weights * of_draws).sum()
    graph = graph + event_sum((score(energy, y[:n]).flatten(1) - score_q) * draws.x)
    distances = (draws.x.detach() - q.shift).square().mean(1).sqrt()
    terms = {
        "E_data": of_data.mean(),
        "E_model": of_draws[:n].mean(),
        "entropy": -log_q.mean(),
        "penalty": penalty.mean(),
        "power": power,
        "generator_sigma": q.sigma(),
        "outside": (distances > _FAR * q.scale).to(x.dtype).mean(),
    }
    return value + graph - graph.detach(), {n: term.detach() for n, term in terms.items()}


class _Base:
    """N(m, (3 s)^2 I) of the data's mean and standard deviation, mixed into the generator's law."""

    def __init__(self, q: NoisyGenerator, share: float) -> None:
        self.mean, self.width, self.share = q.shift, _BASE_WIDTH * q.scale, share

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """As many as go with ``n`` draws of the generator."""
        shape = (round(self.share * n), len(self.mean))
        like = self.mean
        z = torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)
        return self.mean + self.width * z

    def mixed(self, log_q: Tensor, x: Tensor) -> Tensor:
        """The log density of 1 : share draws of the generator and of this, taken together."""
        square = ((x - self.mean) / self.width).square().sum(1)
        log_base = -0.5 * square - x.shape[1] * torch.log(self.width * math.sqrt(2 * math.pi))
        together = torch.logaddexp(log_q, log_base + math.log(self.share))
        return together - math.log1p(self.share)


def _tempered_weights(log_ratios: Tensor, effective_fraction: float) -> tuple[Tensor, Tensor]:
    """Weights ~ exp(a log_ratios), which add up to one, and the largest power a that is allowed.

    The effective share 1 / (n sum w^2) falls from 1 at a = 0 as a grows.
    """
    powers = torch.linspace(0, 1, _POWERS, dtype=log_ratios.dtype, device=log_ratios.device)
    weights = torch.softmax(powers[:, None] * log_ratios, dim=1)
    effective = 1 / (len(log_ratios) * weights.square().sum(dim=1))
    # Rounding must not forbid the even weights.
    allowed = (effective >= effective_fraction) | (powers == 0)
    chosen = int(allowed.nonzero().max())
    return weights[chosen], powers[chosen]


def _require_numbers(
    effective_fraction: float, base_share: float, num_local: int, num_shared: int
) -> None:
    in_unit_interval(effective_fraction=effective_fraction, base_share=base_share)
    if effective_fraction == 1 and base_share > 0:
        raise ValueError(
            f"base_share must be 0 where weights are even (effective_fraction 1), got {base_share}"
        )
    positive_integer(num_local=num_local, num_shared=num_shared)
    if num_local % 2 == 1:
        raise ValueError(f"num_local must be even, got {num_local}")
