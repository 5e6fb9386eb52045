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
learns a Gaussian around each z. And the draws in the energy's gradient, with some of a base law
among them, are weighed by exp(-E)/q (``importance_weighted``): it is the gradient of the tighter
bound log Z >= E log mean exp(-E)/q (Burda, Grosse & Salakhutdinov 2016), right before the
generator has caught up and where it cannot. The base is a mixture of Gaussians fitted to the rows:
the generator's gradient, that of a reverse KL, gathers it in a few modes and moves it on through
draws between modes only, and in a mode that nobody draws from the energy would fall without end.
Even weights, VERA's, raise the energy without end in the gaps that a continuous g has to cross,
until the penalty stops them.

About p itself (blurred where its rows have no density, see ``sigma``). Weights of far modes are
seen through the base, in as many dimensions as importance weights last: about sixteen.

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
from basin.core.streams import weights_generator
from basin.core.tensors import event_sum
from basin.core.types import Learned, Loss, Objective, Watched
from basin.core.validation import non_negative, positive, positive_integer
from basin.energies.analytic.fitted import fit_covering_mixture, fit_gaussian
from basin.energies.analytic.gaussian import Gaussian
from basin.energies.analytic.gaussian_mixture import GaussianMixture
from basin.energies.networks.noisy_generator import NoisyGenerator
from basin.energies.networks.vector_network import VectorNetwork, check_widths

__all__ = ["Adversarial", "AdversarialState", "adversarial"]

_LARGEST_LATENT_DIM = 16  # by default; a Jacobian costs as many evaluations for each draw
_MOST_DIMENSIONS = 16  # in which weights of draws of a fitted mixture tell one mode from another
_BASE_COMPONENTS = 16
_BASE_SCALE = 1.2  # a little wider than what was fitted: its tails must not end before the model's
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
    base: Gaussian | GaussianMixture | None = None,
    base_share: float = 0.5,
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
        base: density whose draws go with those of q into the energy's gradient, all weighed by
            exp(-E) over the mixture's density; None takes q's alone, with even weights.
        base_share: draws of ``base`` for each one of q.
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
        base,
        base_share,
        num_local,
        num_shared,
        generator,
    )
    return rows


class _Base(NamedTuple):
    """A module that the optimiser and the checkpoint leave alone: ``init`` settles it again."""

    law: GaussianMixture


class AdversarialState(NamedTuple):
    """The generator, the base law, the running mean of E_data - E_model, the blur of the rows."""

    generator_network: NoisyGenerator
    base: _Base
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
        importance_weighted: weigh the draws in the energy's gradient by exp(-E)/q; otherwise
            evenly, as VERA does (then with a gradient_penalty of 0.1, say).
        base_share: draws of the base, a mixture of Gaussians fitted to the rows, for each of the
            generator's, where weighed: they keep the modes that the generator leaves.
        num_local: as for :func:`adversarial`.
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
        "effective": "share of the draws that their importance weights leave effective, "
        "1/(n sum w^2): 1 for even weights, lower the farther the generator is from the model",
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
    importance_weighted: bool = True
    base_share: float = 0.5
    num_local: int = 2
    num_shared: int = 256
    learned_steps: int = 1
    sigma: float | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        non_negative(gradient_penalty=self.gradient_penalty)
        if self.latent_dim is not None:
            positive_integer(latent_dim=self.latent_dim)
        check_widths(self.hidden)
        _require_numbers(self.base_share, self.num_local, self.num_shared)
        positive_integer(learned_steps=self.learned_steps)
        smoothing_level(self.sigma)

    def init(self, x: Tensor, generator: torch.Generator) -> AdversarialState:
        law = fit_gaussian(x)
        dim = len(law.mean)
        latent_dim = min(dim, self.latent_dim or _LARGEST_LATENT_DIM)
        weights = weights_generator(generator)
        network = VectorNetwork(latent_dim, dim, self.hidden, weights).to(x)
        q = NoisyGenerator(network, latent_dim, law)
        base = fit_covering_mixture(x, _BASE_COMPONENTS, generator, scale=_BASE_SCALE)
        return AdversarialState(q, _Base(base), x.new_zeros(()), smoothing(self.sigma, x))

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
            state.base.law if self.importance_weighted else None,
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
        dim = len(state.generator_network.mean)
        if self.importance_weighted and dim <= _MOST_DIMENSIONS:
            return ""
        why = (
            f"importance weights leave few effective draws in {dim} dimensions"
            if self.importance_weighted
            else "its draws are not weighed"
        )
        return (
            f"{why}, and the generator moves mass between modes that lie far apart only through "
            "draws that lie between them"
        )


def _rows_and_terms(
    energy: Any,
    q: NoisyGenerator,
    x: Tensor,
    gradient_penalty: float,
    base: Gaussian | GaussianMixture | None,
    base_share: float,
    num_local: int,
    num_shared: int,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    non_negative(gradient_penalty=gradient_penalty)
    _require_numbers(base_share, num_local, num_shared)
    n = len(x)
    draws = q.draw(n, generator)
    log_q, score_q = q.log_density_and_score(
        draws, generator, num_local=num_local, num_shared=num_shared
    )
    y = draws.x.detach()
    if base is not None:
        wide = base.sample(math.ceil(base_share * n), generator).to(y)
        log_q_of_wide = q.log_density(wide, generator, num_shared=num_shared)
        y = torch.cat([y, wide])
    of_data, of_draws = energy(x), energy(y.reshape(-1, *x.shape[1:]))
    penalty = torch.zeros_like(of_data)
    if gradient_penalty > 0:
        slope = score(energy, x, create_graph=True)
        penalty = gradient_penalty * event_sum(slope.square())
    with torch.no_grad():
        value = of_data - of_draws[:n] - log_q + penalty
        weights = torch.full_like(of_draws, 1 / n)
        if base is not None:
            share = len(wide) / n
            log_mixture = torch.logaddexp(
                torch.cat([log_q, log_q_of_wide]), math.log(share) - base(y)
            )
            weights = torch.softmax(-of_draws - log_mixture, dim=0)
        score_e = score(energy, y[:n].reshape(x.shape)).flatten(1)
    # Whose gradients: the first line's the energy's, the second's the generator's.
    graph = of_data + penalty - (weights * of_draws).sum()
    graph = graph + event_sum((score_e - score_q) * draws.x)
    distances = (draws.x.detach() - q.mean).square().mean(1).sqrt()
    terms = {
        "E_data": of_data.mean(),
        "E_model": of_draws[:n].mean(),
        "entropy": -log_q.mean(),
        "penalty": penalty.mean(),
        "effective": 1 / (len(weights) * weights.square().sum()),
        "generator_sigma": q.sigma(),
        "outside": (distances > _FAR * q.scale).to(x.dtype).mean(),
    }
    return value + graph - graph.detach(), {n: term.detach() for n, term in terms.items()}


def _require_numbers(base_share: float, num_local: int, num_shared: int) -> None:
    positive(base_share=base_share)
    positive_integer(num_local=num_local, num_shared=num_shared)
    if num_local % 2 == 1:
        raise ValueError(f"num_local must be even, got {num_local}")
