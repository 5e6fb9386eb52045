"""The nouns of Basin, one word each: what every other folder takes and returns.

p(x) = exp(-E(x)) / Z        energies in nats; low energy = likely
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from basin.core.validation import batch_of_energies

__all__ = [
    "Density",
    "Energy",
    "Kernel",
    "Learned",
    "Loss",
    "NoisyEnergy",
    "Objective",
    "Path",
    "Schedule",
    "Step",
    "SteppedByGraphs",
    "Watched",
]


@runtime_checkable
class Energy(Protocol):
    """Any callable ``energy(x: [batch, *event]) -> [batch]`` in nats; ours are ``nn.Module``.

    One that is another function for each row (a temperature, a condition of its own) says so by an
    attribute ``has_a_row_for_each = True``: all rows, in their order, are then asked for together.
    """

    def __call__(self, x: Tensor, /) -> Tensor: ...


@runtime_checkable
class NoisyEnergy(Protocol):
    """An energy with a noise level: ``energy(x, sigma) -> [batch]``.

    ``energy.at(sigma)`` fixes the level and is an :class:`Energy`, so that samplers never learn
    about conditions. ``sigma`` is a number or a tensor ``[batch]``.
    """

    def __call__(self, x: Tensor, sigma: Tensor | float, /) -> Tensor: ...

    def at(self, sigma: float) -> Energy: ...


Schedule = Callable[[float], float]
"""A pure function ``schedule(t in [0, 1]) -> value``."""


class Path(ABC):
    """``path(t in [0, 1]) -> Energy``, from the base (0) to the target (1).

    One walk for annealing, AIS and SMC. ``isinstance(thing, Path)`` is how the sampling loop tells
    a path from an energy (both are callables of one argument), so a path of yours subclasses this.
    """

    @abstractmethod
    def __call__(self, t: float, /) -> Energy:
        """The energy at ``t``; ``t`` outside [0, 1] is an error."""

    def along(self, x: Tensor) -> Callable[[float], Tensor]:
        """``t -> E_t(x)`` at the same points, ``[batch]``: the weights of a walk need several.

        A path made of parts that do not change with t evaluates them once for all t.
        """

        def energies(t: float) -> Tensor:
            energy = self(t)
            return batch_of_energies(energy, x, energy(x))

        return energies


class Density(ABC):
    """A data source whose truth is known: exact draws and an exact log density.

    Given as ``x`` to :func:`basin.fit` it means fresh draws at every step.

    Attributes:
        event_shape: shape of one draw.
        is_smooth: whether ``score`` exists everywhere (always true after ``blurred``).
        bounds: ``[*event, 2]`` box (lower, upper) outside which the mass is below 1e-9.
        mode_weights: ``[modes]`` probabilities of the parts that ``mode_of`` tells apart.
    """

    event_shape: tuple[int, ...]
    is_smooth: bool
    bounds: Tensor
    mode_weights: Tensor

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw ``n`` independent points, ``[n, *event]``."""

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """Natural logarithm of the density, ``[batch]``; ``-inf`` outside the support."""

    @abstractmethod
    def blurred(self, sigma: float) -> Density:
        """The density of X + sigma Z with Z standard normal."""

    @abstractmethod
    def mode_of(self, x: Tensor) -> Tensor:
        """Index of the mode that each row belongs to, ``[batch]`` of int64."""

    def score(self, x: Tensor) -> Tensor:
        """Gradient of ``log_prob`` with respect to ``x``, same shape as ``x``."""
        if not self.is_smooth:
            raise ValueError(
                f"{self!r} has no score everywhere: its density jumps; "
                "take .blurred(sigma).score(x) with sigma > 0"
            )
        with torch.inference_mode(False), torch.enable_grad():
            x = x.detach().clone().requires_grad_(True)
            (gradient,) = torch.autograd.grad(self.log_prob(x).sum(), x)
        return gradient


class Loss(NamedTuple):
    """What an objective returns: the scalar to minimise, named detached parts, the next state."""

    value: Tensor
    terms: Mapping[str, Tensor]
    state: Any


class Learned(NamedTuple):
    """How a part beside the energy is trained: a critic, a generator, log Z.

    Attributes:
        ascends: it climbs the loss that the energy descends (one side of a minimax).
        rate: its learning rate, as a multiple of the energy's.
    """

    ascends: bool = False
    rate: float = 1.0


class Objective(ABC):
    """A training criterion. Frozen dataclasses; state is explicit and is all the next step needs.

    Facts about the criterion, read by :func:`basin.fit`:

    * ``support``: the rows that it is for: "real" (any numbers), "non-negative" (zero or above in
      every coordinate), "discrete" (whole numbers from 0 to ``num_states - 1``, a field of it);
    * ``uses_score``: it differentiates scores, so an energy with a zero Hessian is refused;
    * ``needs_noise_level``: it calls ``energy(x, sigma)`` and not ``energy(x)``;
    * ``normalises``: what it trains has one constant for all noise levels, so that tying the
      largest one to a known Gaussian gives log Z at each;
    * ``is_a_score_of_fit``: a lower value on held-out rows means a better model, so that it may
      choose weights and stop training early. Not so where the value is a gradient in disguise
      (contrastive divergence) or one side of a game (a critic, a generator);
    * ``mixes_rows``: a row's loss depends on the other rows of its batch beyond their mean, so
      that rows under different conditions must not share a batch;
    * ``learned``: how each ``nn.Module`` in the state is trained, by its field's name;
    * ``learned_steps``: optimiser steps of those parts for each one of the energy;
    * ``meanings``: what each name in ``terms`` says, for whoever reads the history.

    A state is None or a ``NamedTuple`` of tensors, numbers and modules; the checkpoint saves it.
    """

    uses_score: ClassVar[bool]
    needs_noise_level: ClassVar[bool]
    normalises: ClassVar[bool]
    is_a_score_of_fit: ClassVar[bool] = True
    learned: ClassVar[Mapping[str, Learned]] = {}
    meanings: ClassVar[Mapping[str, str]] = {}
    mixes_rows: ClassVar[bool] = False
    support: ClassVar[Literal["real", "non-negative", "discrete"]] = "real"
    learned_steps: int = 1

    @abstractmethod
    def init(self, x: Tensor, generator: torch.Generator) -> Any:
        """State before the first step, from a sample ``x`` of the training data."""

    @abstractmethod
    def __call__(self, energy: Any, x: Tensor, state: Any, generator: torch.Generator) -> Loss:
        """Loss of one batch ``x`` ``[batch, *event]``.

        ``terms["trivial"]``, where the criterion has one, is what the trivial predictor (score
        zero) loses on the same noise; a loss is shown relative to it.
        """

    @abstractmethod
    def noise_level(self, state: Any) -> float | None:
        """The sigma of the blurred density that is learned, None for p itself or for a ladder."""

    def explain(self, state: Any) -> str:
        """What ``init`` settled from the data, for a reader; empty when it settled nothing."""
        del state
        return ""

    @abstractmethod
    def blindness(self, state: Any) -> str:
        """Why it cannot see the weights of modes that lie far apart; empty when it can."""


class Watched(ABC):
    """An objective whose run can go astray with finite numbers, as training by sampling does.

    The loop asks ``alarm`` after every step; an answer stops the run, or with ``recover=N`` takes
    it back to the last good state, where ``calmer`` takes the objective's place.
    """

    @abstractmethod
    def alarm(self, terms: Mapping[str, float]) -> str:
        """What is wrong with a step of these terms, with the number; empty when nothing is."""

    @abstractmethod
    def calmer(self) -> Objective:
        """The same objective with smaller sampling steps, or more of them."""


class Kernel(ABC):
    """One step of a Markov chain, for many chains at once. Frozen dataclasses, no loops over steps.

    A state is a ``NamedTuple`` with a field ``position`` ``[chains, *event]``; an info is a
    ``NamedTuple`` of ``[chains, ...]`` tensors, among them, where they make sense, ``is_accepted``,
    ``acceptance_probability`` and ``is_divergent``, ``[chains]`` each.

    A kernel may hold another one (a field ``kernel``), whose state is then part of its own. Facts
    about a kernel:

    * ``is_random``: another seed gives other draws from the same start;
    * ``mixes_chains``: a chain's next position depends on the other chains, so that their draws
      are not independent of each other;
    * ``is_exact``: it leaves exp(-E) alone whatever its settings. One that does not has another
      law at rest, and weights of annealed importance sampling that count on it would be wrong;
    * ``is_reversible``: it is exact, and from there a step is as likely as the step back. A bridge
      between walks in both directions counts on it;
    * ``support``: which positions it moves: "real" (any numbers), "discrete" (whole numbers from
      0 to ``num_states - 1``, an attribute of it). :func:`basin.sample` refuses the wrong pair.

    ``is_exact`` and ``is_reversible`` are said of a kernel around another one as if that were both.
    """

    is_random: ClassVar[bool] = True
    mixes_chains: ClassVar[bool] = False
    is_exact: ClassVar[bool] = False
    is_reversible: ClassVar[bool] = False
    support: ClassVar[Literal["real", "discrete"]] = "real"

    @abstractmethod
    def init(self, energy: Energy, x: Tensor, generator: torch.Generator) -> Any:
        """State at ``x`` ``[chains, *event]``."""

    @abstractmethod
    def step(self, energy: Energy, state: Any, generator: torch.Generator) -> tuple[Any, Any]:
        """One transition: ``(state, info)``."""


Step = Callable[[Any, torch.Generator], tuple[Any, Any]]
"""``step(state, generator) -> (state, info)``: a kernel's, of one energy."""


@runtime_checkable
class SteppedByGraphs(Protocol):
    """A kernel whose step cannot be one graph, as the numbers decide what comes next in it."""

    def compiled_step(self, energy: Energy, state: Any, generator: torch.Generator) -> Step:
        """The same step with what can be graphs as graphs, for states like ``state``.

        Raises:
            NotCompilable: the energy cannot be written as a graph, or there is no compiler.
        """
        ...
