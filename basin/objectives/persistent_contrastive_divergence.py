"""Persistent contrastive divergence: chains that go on from one training step to the next.

    J = E_{x ~ p}[ E(x) ] - mean over drawn chains of E(x~),
    x~ = a chain of the buffer after k more steps; with probability r it first starts anew
         from the Gaussian N(m, width^2 S) of the data, with probability r' at a row of the batch

Source: Tieleman 2008, "Training restricted Boltzmann machines using approximations to the
likelihood gradient" (one chain a row of the batch, r = 0); Du & Mordatch 2019, algorithm 1, for
the replay buffer and its 5 % of new starts (theirs from uniform noise). The starts at rows are
Basin's own: chains cross between far modes in no run of finite length, so without them the share
of chains in a mode never answers to the energy, and training moves the modes' energies apart
without end. The buffer begins at rows as well, where the first steps have something to learn from.

Targets p blurred by N(0, sigma^2 I); see :class:`ContrastiveDivergence` for why there is a blur.
With r = r' = 0 and a slowly moving energy the chains are draws of the model. Else they are draws
of it after a random number of visits, 1/(r + r') on average: what comes to match the data is that
law. New starts from the Gaussian see what exp(-E) puts beside the data; more, or wider, ones
are still on their way when they are counted, and the energy bends to make up for them.

With a kernel of whole numbers it targets p itself; a new start then has independent coordinates,
each from its own law in the data, where there is no Gaussian.

Cost: k kernel steps for each chain; the buffer is a tensor of the state, copied at every step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

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
    NewStarts,
    Sampled,
    StateLaw,
    at_rows,
    check_sampler,
    contrast,
    draws,
    finished,
    refuse_conditions,
    shuffled,
    visited,
    visits_are_blind,
)

__all__ = ["PersistentContrastiveDivergence", "PersistentContrastiveDivergenceState"]


class PersistentContrastiveDivergenceState(NamedTuple):
    """Where every chain is, ``[buffer_size, *event]``, and what they are watched by.

    ``law``: the data's first two moments, or rows of whole numbers.
    """

    buffer: Tensor
    law: DataLaw | StateLaw


@dataclass(frozen=True)
class PersistentContrastiveDivergence(Sampled):
    """Persistent contrastive divergence (PCD): chains live on in a replay buffer.

    Args:
        kernel: what moves the chains, one of ``basin.samplers``. Its step should not exceed
            sigma^2 / 2 where the kernel has no accept step.
        num_steps: k, kernel steps for each training step.
        sigma: standard deviation of the noise added to the data, in the model's coordinates; the
            density learned is the data blurred by it. Zero adds none; None is 0.1, and zero for a
            kernel of whole numbers.
        num_chains: chains moved in a step, at most as many as the batch has rows.
        buffer_size: chains in all.
        reinitialise: probability that a chain starts anew before it is moved, at a draw of
            N(m, width^2 S), or with independent coordinates where rows are whole numbers: such
            chains see what exp(-E) puts beside the data.
        width: of that Gaussian, in standard deviations of the data; of no use to whole numbers.
        restart_at_data: probability that it starts anew at a row of the batch: such chains keep
            the share of each far mode near the data's, which stuck chains do not (Basin's own).
        energy_l2: weight of the squared energies of data and draws, which holds what chains that
            cross nowhere leave free, the offsets between far modes; it makes the model's density
            about 1 + 4 energy_l2 E times too high, two per cent where E is 5 nats. None is 0.001,
            and zero for a kernel of whole numbers.

    Source: Tieleman 2008, section 2.3; Du & Mordatch 2019, algorithm 1.
    """

    uses_score: ClassVar[bool] = False
    needs_noise_level: ClassVar[bool] = False
    meanings: ClassVar[Mapping[str, str]] = ANY_ROWS_TERMS
    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "Training restricted Boltzmann machines using approximations to the likelihood "
            "gradient",
            ("Tijmen Tieleman",),
            2008,
            "https://doi.org/10.1145/1390156.1390290",
        ),
        Reference(
            "Implicit generation and modeling with energy based models",
            ("Yilun Du", "Igor Mordatch"),
            2019,
            "https://arxiv.org/abs/1903.08689",
        ),
    )

    kernel: Kernel = SHORT_LANGEVIN
    num_steps: int = 10
    sigma: float | None = None
    num_chains: int = 512
    buffer_size: int = 1024
    reinitialise: float = 0.01
    width: float = 1.0
    restart_at_data: float = 0.05
    energy_l2: float | None = None

    def __post_init__(self) -> None:
        check_sampler(self.kernel, self.num_steps, self.num_chains, self.sigma, self.energy_l2)
        positive_integer(buffer_size=self.buffer_size)
        self._new_starts.check()

    def init(self, x: Tensor, generator: torch.Generator) -> PersistentContrastiveDivergenceState:
        law = self.law_of(x)
        buffer = at_rows(x, self.buffer_size, self._blur, generator)
        return PersistentContrastiveDivergenceState(buffer, law)

    def __call__(
        self,
        energy: Any,
        x: Tensor,
        state: PersistentContrastiveDivergenceState,
        generator: torch.Generator,
    ) -> Loss:
        refuse_conditions(energy, self)
        x = smoothed(x, self._blur, generator)
        n = min(self.num_chains, len(x), self.buffer_size)
        places = shuffled(state.buffer, generator)[:n]
        start = visited(state.buffer, places, x, state.law, self._new_starts, generator)
        end = draws(energy, self.kernel, start, self.num_steps, generator)
        energy_l2 = self.unless_discrete(self.energy_l2, DEFAULT_ENERGY_L2)
        value, terms = contrast(energy(x), energy(end), energy_l2)
        terms |= self.watch(energy, start, end, terms["gap"], state.law)
        buffer = state.buffer.index_copy(0, places, end)  # a new tensor: the old state stays
        return finished(value, terms, state._replace(buffer=buffer))

    @property
    def _new_starts(self) -> NewStarts:
        return NewStarts(self.reinitialise, self.width, self.restart_at_data)

    @property
    def _blur(self) -> float:
        return self.unless_discrete(self.sigma, DEFAULT_BLUR)

    def noise_level(self, state: PersistentContrastiveDivergenceState) -> float | None:
        return self._blur or None

    def blindness(self, state: PersistentContrastiveDivergenceState) -> str:
        return visits_are_blind(self.kernel, self.num_steps)
