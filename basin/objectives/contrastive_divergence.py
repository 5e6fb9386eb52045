"""Contrastive divergence: chains that start at the data.

    J = E_{x ~ p}[ E(x) ] - E_{x~}[ E(x~) ],      x~: k kernel steps from x

Source: Hinton 2002, "Training products of experts by minimizing contrastive divergence", eq. 5
without its last term (see :class:`ImprovedContrastiveDivergence` for that one); Du & Mordatch
2019 for the squared energies. As k grows x~ becomes a draw of the model and the gradient that of
the negative log-likelihood. x~ is a constant: no gradient goes through the sampler.

Targets p blurred by N(0, sigma^2 I) (p itself with sigma = 0). The blur is what keeps it stable: an
unadjusted Langevin step spreads by sqrt(2 epsilon) whatever the energy, so in a direction where the
data have less than that no energy is steep enough and training drives it up without end. With
blur no direction has less than sigma, and epsilon <= sigma^2/2 always has a fixed point.

The energy absorbs the error of the kernel's step: what comes to match the data is the law of the
chains, and with ULA on a Gaussian that has precision lambda (1 - epsilon lambda / 2).

With a kernel of whole numbers (Gibbs, BlockGibbs, GibbsWithGradients) it is one for rows of those
and targets p itself; k steps of BlockGibbs on a restricted Boltzmann machine are Hinton's CD-k.

Cost: k kernel steps for each chain, then one forward and one backward pass; no second derivative.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from basin.core.conditions import first_rows
from basin.core.references import Reference
from basin.core.smoothing import smoothed
from basin.core.types import Kernel, Loss
from basin.core.validation import positive_integer
from basin.objectives.sampled import (
    ANY_ROWS_TERMS,
    DEFAULT_BLUR,
    DEFAULT_ENERGY_L2,
    SHORT_LANGEVIN,
    DataLaw,
    Sampled,
    StateLaw,
    check_sampler,
    contrast,
    draws,
    finished,
    num_watched,
    travel,
)

__all__ = ["ContrastiveDivergence", "ContrastiveDivergenceState", "contrastive_divergence"]


def contrastive_divergence(
    energy: Any,
    x: Tensor,
    *,
    kernel: Kernel = SHORT_LANGEVIN,
    num_steps: int = 20,
    generator: torch.Generator,
) -> Tensor:
    """``E(x) - E(x~)`` for each row, ``[batch]``; x~ is the row after ``num_steps`` kernel steps.

    Args:
        energy: callable ``[batch, *event] -> [batch]``.
        x: data, ``[batch, *event]``.
        kernel: one of ``basin.samplers``.
        num_steps: k, positive.
        generator: source of the chains' noise.

    Source: Hinton 2002, eq. 5. Differentiable in the parameters; its mean's gradient tends to the
    negative log-likelihood's as ``num_steps`` grows. Not finite where a chain was lost.

    Example:
        >>> import torch, basin
        >>> g = torch.Generator().manual_seed(0)
        >>> narrow = lambda x: 2 * x.square().sum(1)           # data of variance 1, model of 1/4
        >>> x = torch.randn(20_000, 1, generator=g)
        >>> kernel = basin.samplers.Langevin(0.02)
        >>> loss = basin.objectives.contrastive_divergence(
        ...     narrow, x, kernel=kernel, num_steps=100, generator=g)
        >>> round(loss.mean().item(), 1)                       # 2 (1 - 1/4)
        1.5
    """
    positive_integer(num_steps=num_steps)
    return energy(x) - energy(draws(energy, kernel, x, num_steps, generator))


class ContrastiveDivergenceState(NamedTuple):
    """What the chains are watched by: the data's first two moments, or rows of whole numbers."""

    law: DataLaw | StateLaw


@dataclass(frozen=True)
class ContrastiveDivergence(Sampled):
    """Contrastive divergence (CD-k): raises the energy where short chains from the data go.

    Args:
        kernel: what moves the chains, one of ``basin.samplers``. Its step should not exceed
            sigma^2 / 2 where the kernel has no accept step.
        num_steps: k, kernel steps for each training step.
        sigma: standard deviation of the noise added to the data, in the model's coordinates; the
            density learned is the data blurred by it. Zero adds none; None is 0.1, and zero for a
            kernel of whole numbers.
        num_chains: rows of the batch that are used, each with a chain that starts there; None
            takes all.
        energy_l2: weight of the squared energies of data and draws, which holds what chains that
            cross nowhere leave free, the offsets between far modes; it makes the model's density
            about 1 + 4 energy_l2 E times too high, two per cent where E is 5 nats. None is 0.001,
            and zero for a kernel of whole numbers.

    Source: Hinton 2002, eq. 5; Du & Mordatch 2019 for ``energy_l2``.
    """

    uses_score: ClassVar[bool] = False
    needs_noise_level: ClassVar[bool] = False
    meanings: ClassVar[Mapping[str, str]] = ANY_ROWS_TERMS
    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "Training products of experts by minimizing contrastive divergence",
            ("Geoffrey E. Hinton",),
            2002,
            "https://doi.org/10.1162/089976602760128018",
        ),
        Reference(
            "Implicit generation and modeling with energy based models",
            ("Yilun Du", "Igor Mordatch"),
            2019,
            "https://arxiv.org/abs/1903.08689",
        ),
    )

    kernel: Kernel = SHORT_LANGEVIN
    num_steps: int = 20
    sigma: float | None = None
    num_chains: int | None = 256
    energy_l2: float | None = None

    def __post_init__(self) -> None:
        check_sampler(self.kernel, self.num_steps, self.num_chains, self.sigma, self.energy_l2)

    def init(self, x: Tensor, generator: torch.Generator) -> ContrastiveDivergenceState:
        del generator
        return ContrastiveDivergenceState(self.law_of(x))

    def __call__(
        self,
        energy: Any,
        x: Tensor,
        state: ContrastiveDivergenceState,
        generator: torch.Generator,
    ) -> Loss:
        # Only rows that have a chain: the two energies of a pair vary together, and their
        # difference has a small part of the variance that rows without a chain would add.
        energy = first_rows(energy, self.num_chains)
        start = smoothed(x[: self.num_chains], self._blur, generator)
        end = draws(energy, self.kernel, start, self.num_steps, generator)
        energy_l2 = self.unless_discrete(self.energy_l2, DEFAULT_ENERGY_L2)
        value, terms = contrast(energy(start), energy(end), energy_l2)
        seen = first_rows(energy, num_watched(len(end)))
        terms |= self.watch(seen, start, end, terms["gap"], state.law)
        return finished(value, terms, state)

    @property
    def _blur(self) -> float:
        return self.unless_discrete(self.sigma, DEFAULT_BLUR)

    def noise_level(self, state: ContrastiveDivergenceState) -> float | None:
        return self._blur or None

    def blindness(self, state: ContrastiveDivergenceState) -> str:
        return (
            f"its chains start at the data and go {travel(self.kernel, self.num_steps)}, so in "
            "each far mode as many end as began there, whatever weight the energy gives it"
        )
