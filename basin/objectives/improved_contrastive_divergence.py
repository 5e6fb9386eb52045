"""Improved contrastive divergence: the term that CD drops, and augmentation between visits.

    J   = E_{x ~ p}[ E(x) ] - E_q[ E(x~) ] + kl_weight KL(q || exp(-E*) / Z),
    KL  = E_q[ E*(x~) ] - H(q) + log Z,      E*: E with its parameters held fixed

q is the law of the chains' ends and depends on the parameters through the last steps of the
sampler, x~ = x' - epsilon dE/dx(x') + sqrt(2 epsilon) z: only that way does the KL have a gradient.

Source: Du, Li, Tenenbaum & Mordatch 2021, "Improved contrastive divergence training of energy
based models", section 3. The sign is theirs: the sampler is asked to come *near* the model, which
is what makes training stable. Differentiating Hinton's KL(p || p_theta) - KL(q || p_theta) to the
letter gives the same term with a minus. Both signs vanish where q = p_theta = p.

The entropy of q is Kozachenko and Leonenko's estimate from the distance rho to the k-th nearest of
n chains of the buffer, H = E[d log rho] + log V_d + log n - psi(k), V_d the volume of the unit
ball. The paper takes k = 1 and leaves the factor d out (it cites the case d = 1); with k = 1 the
gradient, which goes as 1/rho, has no variance in one and two dimensions, and with k = 3 it has.

Chains live in a buffer as in :class:`PersistentContrastiveDivergence`, and each visit begins with
an augmentation of the chain, a random change that keeps what the data may be (section 3.3).

Targets p blurred by N(0, sigma^2 I). Cost: that of PCD, one backward pass through the last steps'
scores, and the distances of the chains to 1,024 others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor

from basin.core.gradients import score
from basin.core.references import Reference
from basin.core.smoothing import smoothed
from basin.core.tensors import event_sum, normal_like
from basin.core.types import Kernel, Loss
from basin.core.validation import non_negative, positive_integer
from basin.mcmc.langevin_proposal import langevin_proposal
from basin.objectives.sampled import (
    SAMPLED_TERMS,
    SHORT_LANGEVIN,
    DataLaw,
    NewStarts,
    Sampled,
    at_rows,
    check_sampler,
    contrast,
    draws,
    finished,
    refuse_conditions,
    shuffled,
    visited,
    visits_are_blind,
    watched_terms,
)
from basin.samplers.langevin import Langevin

__all__ = [
    "ImprovedContrastiveDivergence",
    "ImprovedContrastiveDivergenceState",
    "neighbour_entropy",
    "sampler_divergence",
]

_NEIGHBOUR = 3  # the smallest k with E[rho^-2] finite in every dimension: it is when k d > 2
_NUM_REFERENCES = 1024

Augmentation = Callable[[Tensor, torch.Generator], Tensor]


def sampler_divergence(energy: Any, x: Tensor, others: Tensor) -> Tensor:
    """KL(q || exp(-E) / Z) - log Z for each row, ``[batch]``, differentiable through ``x`` alone.

        E*(x) - H_x,      H_x the row's share of the entropy of q

    Args:
        energy: callable ``[batch, *event] -> [batch]``; its parameters are held fixed.
        x: draws of q, ``[batch, *event]``, with the graph that made them.
        others: independent draws of q, ``[n, *event]``, n >= 1.

    Source: Du et al. 2021, eq. 5-7, with the entropy of :func:`neighbour_entropy`.

    Example:
        >>> import torch
        >>> g = torch.Generator().manual_seed(0)
        >>> x, others = torch.randn(5000, 1, generator=g), torch.randn(5000, 1, generator=g)
        >>> normal = lambda x: 0.5 * x.square().sum(1)         # q is the model: KL = 0
        >>> value = sampler_divergence(normal, x, others).mean() + 0.5 * torch.tensor(6.2832).log()
        >>> abs(value.item()) < 0.1
        True
    """
    at = x.detach()
    with torch.no_grad():
        values = energy(at)
    pull = event_sum(-score(energy, at) * x)  # has the gradient of E*(x), and not its value
    return values + (pull - pull.detach()) - neighbour_entropy(x, others)


def neighbour_entropy(x: Tensor, others: Tensor) -> Tensor:
    """Entropy of the law of ``x``, each row's share in nats, ``[batch]``; the mean estimates H.

        d log rho + log V_d + log n - psi(k),      rho: distance to the k-th nearest of ``others``

    Args:
        x: ``[batch, *event]``, differentiated through; ``others`` are constants.
        others: independent draws of the same law, ``[n, *event]``.

    Source: Kozachenko & Leonenko 1987; with k > 1 Singh et al. 2003. k is 3, or n where that is
    less. Cost: batch x n distances.
    """
    points, references = x.flatten(1), others.detach().flatten(1)
    dimension, n = points.shape[1], len(references)
    k = min(_NEIGHBOUR, n)
    with torch.no_grad():
        nearest = torch.cdist(points, references).topk(k, dim=1, largest=False).indices[:, -1]
    squared = (points - references[nearest]).square().sum(1)
    log_rho = 0.5 * squared.clamp_min(torch.finfo(x.dtype).tiny).log()
    log_volume = 0.5 * dimension * math.log(math.pi) - math.lgamma(0.5 * dimension + 1)
    harmonic = sum(1 / i for i in range(1, k))
    digamma = harmonic - 0.5772156649015329  # psi(k) = 1 + 1/2 + ... + 1/(k - 1) - Euler's constant
    return dimension * log_rho + (log_volume + math.log(n) - digamma)


class ImprovedContrastiveDivergenceState(NamedTuple):
    """Where every chain is, ``[buffer_size, *event]``, and the data's first two moments."""

    buffer: Tensor
    law: DataLaw


@dataclass(frozen=True)
class ImprovedContrastiveDivergence(Sampled):
    """Persistent CD with the KL term that contrastive divergence drops, and augmented chains.

    Args:
        kernel: Langevin; its last steps are differentiated through. Its step should not exceed
            sigma^2 / 2.
        num_steps: k, kernel steps for each training step.
        num_differentiated: how many of them, the last ones, the KL term goes through.
        kl_weight: of the KL term: 1 in the paper; less where its entropy, which is noisy, would
            rule (0.1 did better than 1 on eight Gaussians). 0 leaves persistent CD.
        augmentation: what happens to a chain at the start of a visit: Gaussian noise of this
            standard deviation (zero: none), or a function ``(x, generator) -> x``, as shifts and
            flips of images. A run with a function of yours is not rebuilt from its folder.
        sigma: standard deviation of the noise added to the data, in the model's coordinates; the
            density learned is the data blurred by it. Zero adds none.
        num_chains: chains moved in a step, at most as many as the batch has rows.
        buffer_size: chains in all.
        reinitialise: probability that a chain starts anew before it is moved, at a draw of
            N(m, width^2 S): such chains see what exp(-E) puts beside the data.
        width: of that Gaussian, in standard deviations of the data.
        restart_at_data: probability that it starts anew at a row of the batch: such chains keep
            the share of each far mode near the data's, which stuck chains do not (Basin's own).
        energy_l2: weight of the squared energies of data and draws, which holds what chains that
            cross nowhere leave free, the offsets between far modes; it makes the model's density
            about 1 + 4 energy_l2 E times too high, two per cent where E is 5 nats.

    Source: Du, Li, Tenenbaum & Mordatch 2021, eq. 3-7 and algorithm 1.
    """

    uses_score: ClassVar[bool] = True
    needs_noise_level: ClassVar[bool] = False
    meanings: ClassVar[Mapping[str, str]] = {
        **SAMPLED_TERMS,
        "kl": "KL(sampler || model) - log Z, in nats: the free energy of the chains, which "
        "training lowers through the sampler's last steps",
        "entropy": "estimated entropy of the chains, in nats; falling without end, they collapse",
    }
    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "Improved contrastive divergence training of energy based models",
            ("Yilun Du", "Shuang Li", "Joshua Tenenbaum", "Igor Mordatch"),
            2021,
            "https://arxiv.org/abs/2012.01316",
        ),
    )

    kernel: Kernel = SHORT_LANGEVIN
    num_steps: int = 10
    num_differentiated: int = 1
    kl_weight: float = 0.1
    augmentation: float | Augmentation = 0.1
    sigma: float = 0.1
    num_chains: int = 512
    buffer_size: int = 1024
    reinitialise: float = 0.01
    width: float = 1.0
    restart_at_data: float = 0.05
    energy_l2: float = 0.001

    def __post_init__(self) -> None:
        check_sampler(self.kernel, self.num_steps, self.num_chains, self.sigma, self.energy_l2)
        if not isinstance(self.kernel, Langevin):
            raise ValueError(
                "kernel must be Langevin, whose steps can be differentiated through, got "
                f"{self.kernel!r}; PersistentContrastiveDivergence takes any kernel"
            )
        positive_integer(num_differentiated=self.num_differentiated, buffer_size=self.buffer_size)
        if self.num_differentiated > self.num_steps:
            raise ValueError(
                f"num_differentiated must be at most num_steps = {self.num_steps}, got "
                f"{self.num_differentiated}"
            )
        non_negative(kl_weight=self.kl_weight)
        if not callable(self.augmentation):
            non_negative(augmentation=self.augmentation)
        if self.buffer_size < 2:
            raise ValueError(
                f"buffer_size must be at least 2, for a chain and a neighbour, got "
                f"{self.buffer_size}"
            )
        self._new_starts.check()

    def init(self, x: Tensor, generator: torch.Generator) -> ImprovedContrastiveDivergenceState:
        law = DataLaw.of(x)
        buffer = at_rows(x, self.buffer_size, self.sigma, generator)
        return ImprovedContrastiveDivergenceState(buffer, law)

    def __call__(
        self,
        energy: Any,
        x: Tensor,
        state: ImprovedContrastiveDivergenceState,
        generator: torch.Generator,
    ) -> Loss:
        refuse_conditions(energy, self)
        x = smoothed(x, self.sigma, generator)
        n = min(self.num_chains, len(x), self.buffer_size - 1)
        places = shuffled(state.buffer, generator)
        others = state.buffer[places[n : n + _NUM_REFERENCES]]
        places = places[:n]
        start = visited(state.buffer, places, x, state.law, self._new_starts, generator)
        end = self._moved(energy, self._augmented(start, generator), generator)
        at = end.detach()
        value, terms = contrast(energy(x), energy(at), self.energy_l2)
        if self.kl_weight:
            kl = sampler_divergence(energy, end, others).mean()
            value = value + self.kl_weight * kl
            terms |= {"kl": kl, "entropy": terms["E_model"] - kl}
        terms |= watched_terms(energy, start, at, terms["gap"], state.law)
        buffer = state.buffer.index_copy(0, places, at)  # a new tensor: the old state stays
        return finished(value, terms, state._replace(buffer=buffer))

    def _augmented(self, x: Tensor, generator: torch.Generator) -> Tensor:
        if isinstance(self.augmentation, float | int):
            return smoothed(x, self.augmentation, generator)
        return self.augmentation(x, generator).detach()

    def _moved(self, energy: Any, x: Tensor, generator: torch.Generator) -> Tensor:
        """The chains after ``num_steps`` steps, with the graph of the last ones."""
        num_plain = self.num_steps - self.num_differentiated
        if num_plain:
            x = draws(energy, self.kernel, x, num_plain, generator)
        step_size = cast(Langevin, self.kernel).step_size
        for _ in range(self.num_differentiated):
            noise = normal_like(x, generator)
            x = langevin_proposal(x, score(energy, x, create_graph=True), step_size, noise)
        return x

    @property
    def _new_starts(self) -> NewStarts:
        return NewStarts(self.reinitialise, self.width, self.restart_at_data)

    def noise_level(self, state: ImprovedContrastiveDivergenceState) -> float | None:
        return self.sigma or None

    def blindness(self, state: ImprovedContrastiveDivergenceState) -> str:
        return visits_are_blind(self.kernel, self.num_steps)
