"""Learned Stein discrepancy: a critic looks for where the model's score is wrong.

    J = min_E max_f  E_p[ s(x)'f(x) + tr df/dx ] - penalty E_p ||f(x)||^2        s = -dE/dx

Source: Grathwohl, Wang, Jacobsen, Duvenaud & Zemel 2020, "Learning the Stein discrepancy for
training and evaluating energy-based models without sampling", eq. 7 and 8; ``penalty`` is their
lambda. About p itself (blurred where its rows have no density, see ``sigma``): integration by
parts makes the first mean E_p[(s - grad log p)'f], so that

    f* = (s - grad log p) / (2 penalty),        J(E, f*) = E_p ||s - grad log p||^2 / (4 penalty):

with the default 1/2 the best critic is the error of the score itself, and J half the Fisher
divergence. The energy descends and the critic ascends the same value; a value is a fit only as
far as the critic is the best one.

Cost: one score with its parameter gradient, and 1 + k evaluations of the critic, at each row:
k = d for an exact trace, or the number of probes. No second derivative of the energy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from basin.core.conditions import Given
from basin.core.directions import random_signs_like
from basin.core.gradients import score
from basin.core.references import Reference
from basin.core.smoothing import Smoothing, smoothed, smoothing, smoothing_level
from basin.core.streams import weights_generator
from basin.core.tensors import event_sum
from basin.core.types import Learned, Loss, Objective
from basin.core.validation import positive, positive_integer
from basin.energies.networks.vector_network import VectorNetwork, check_widths
from basin.objectives.meanings import scores_are_blind

__all__ = ["LearnedStein", "LearnedSteinState", "learned_stein"]

_LARGEST_EXACT_TRACE = 8  # coordinates; beyond, one probe


def learned_stein(
    energy: Any,
    critic: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    penalty: float = 0.5,
    num_probes: int | None = None,
    generator: torch.Generator,
) -> Tensor:
    """``s'f + tr df/dx - penalty ||f||^2`` for each row, ``[batch]``.

    Args:
        energy: callable ``[batch, *event] -> [batch]``, which descends.
        critic: f, ``[batch, d] -> [batch, d]``, each row by itself, which ascends. One that has a
            method ``with_derivatives(x, directions)`` is asked for value and derivatives at once.
        x: data, ``[batch, *event]``, of d coordinates a row.
        penalty: lambda, positive.
        num_probes: random signs v a row whose v'(df/dx)v estimate the trace; None takes the exact
            one up to 8 coordinates, and one probe beyond.
        generator: source of the probes.

    Source: Grathwohl et al. 2020, eq. 7 and 8. Differentiable in both sets of parameters.

    Example:
        >>> import torch, basin
        >>> g = torch.Generator().manual_seed(0)
        >>> x = torch.randn(50_000, 2, generator=g)               # score -x
        >>> twice = lambda x: x.square().sum(1)                   # score -2x
        >>> best = lambda x: -x                                   # the error of the score
        >>> loss = basin.objectives.learned_stein(twice, best, x, generator=g)
        >>> round(loss.mean().item(), 1)                          # half of E||x||^2 = 2
        1.0
    """
    positive(penalty=penalty)
    gap, size = _gap_and_size(energy, critic, x, num_probes, generator)
    return gap - penalty * size


class LearnedSteinState(NamedTuple):
    """The critic, and the blur of the rows before it sees them."""

    critic: nn.Module
    smoothing: Smoothing


@dataclass(frozen=True)
class LearnedStein(Objective):
    """Learned Stein discrepancy: a critic is trained beside the energy; no sampling.

    Args:
        penalty: lambda, factor on ||f||^2; it sets the scale of the critic alone.
        hidden: widths of the critic's hidden layers.
        num_probes: as for :func:`learned_stein`.
        learned_steps: steps of the critic for each one of the energy (``num_steps`` counts the
            critic's).
        sigma: blur of the rows before; 0 for none, "auto" for none unless columns repeat their
            values (whole numbers, rounded or constant columns), which have no density.

    Source: Grathwohl et al. 2020, algorithm 1.
    """

    uses_score: ClassVar[bool] = True
    needs_noise_level: ClassVar[bool] = False
    normalises: ClassVar[bool] = False
    is_a_score_of_fit: ClassVar[bool] = False
    learned: ClassVar[Mapping[str, Learned]] = {"critic": Learned(ascends=True)}
    meanings: ClassVar[Mapping[str, str]] = {
        "gap": "mean of s'f + tr df/dx, what the critic has found: E[(s - grad log p)'f]; zero "
        "for a perfect model, and for a blind critic",
        "critic_square": "mean of ||f||^2; equal to the gap over 2 penalty when the critic has "
        "the right size",
    }
    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "Learning the Stein discrepancy for training and evaluating energy-based models "
            "without sampling",
            (
                "Will Grathwohl",
                "Kuan-Chieh Wang",
                "Jörn-Henrik Jacobsen",
                "David Duvenaud",
                "Richard Zemel",
            ),
            2020,
            "https://arxiv.org/abs/2002.05616",
        ),
    )

    penalty: float = 0.5
    hidden: tuple[int, ...] = (128, 128)
    num_probes: int | None = None
    learned_steps: int = 5
    sigma: float | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        positive(penalty=self.penalty)
        positive_integer(learned_steps=self.learned_steps)
        if self.num_probes is not None:
            positive_integer(num_probes=self.num_probes)
        check_widths(self.hidden)
        smoothing_level(self.sigma)

    def init(self, x: Tensor, generator: torch.Generator) -> LearnedSteinState:
        dim = x[0].numel()
        critic = VectorNetwork(dim, dim, self.hidden, weights_generator(generator))
        return LearnedSteinState(critic.to(x), smoothing(self.sigma, x))

    def __call__(
        self, energy: Any, x: Tensor, state: LearnedSteinState, generator: torch.Generator
    ) -> Loss:
        if isinstance(energy, Given):
            raise ValueError(
                "LearnedStein trains energies without conditions: its critic does not see them, "
                "and would miss errors that cancel over the conditions"
            )
        y = smoothed(x, state.smoothing.sigma, generator)
        parts = _gap_and_size(energy, state.critic, y, self.num_probes, generator)
        gap, size = (part.mean() for part in parts)
        terms = {"gap": gap.detach(), "critic_square": size.detach()}
        return Loss(gap - self.penalty * size, terms, state)

    def noise_level(self, state: LearnedSteinState) -> float | None:
        return state.smoothing.level

    def explain(self, state: LearnedSteinState) -> str:
        return state.smoothing.why

    def blindness(self, state: LearnedSteinState) -> str:
        return scores_are_blind("at the data")


def _gap_and_size(
    energy: Any,
    critic: Callable[[Tensor], Tensor],
    x: Tensor,
    num_probes: int | None,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """``s'f + tr df/dx`` and ``||f||^2``, ``[batch]`` each."""
    flat = x.detach().flatten(1)
    directions = _directions(flat, num_probes, generator)
    f, trace = _value_and_trace(critic, flat, directions)
    s = score(energy, x, create_graph=True).flatten(1)
    trace = trace if num_probes is None else trace / num_probes
    return event_sum(s * f) + trace, event_sum(f.square())


def _directions(flat: Tensor, num_probes: int | None, generator: torch.Generator) -> Tensor:
    """v whose mean of v'Mv is the trace of M: ``[batch, k, d]``, or the unit vectors ``[d, d]``."""
    if num_probes is None and flat.shape[1] <= _LARGEST_EXACT_TRACE:
        return torch.eye(flat.shape[1], dtype=flat.dtype, device=flat.device)
    if num_probes is None:
        num_probes = 1
    positive_integer(num_probes=num_probes)
    return random_signs_like(flat[:, None].expand(-1, num_probes, -1), generator)


def _value_and_trace(
    critic: Callable[[Tensor], Tensor], x: Tensor, directions: Tensor
) -> tuple[Tensor, Tensor]:
    """f ``[batch, d]`` and the sum of v'(df/dx)v over the directions v, ``[batch]``."""
    if hasattr(critic, "with_derivatives"):
        f, derivatives = critic.with_derivatives(x, directions)  # pyright: ignore[reportFunctionMemberAccess]
        return _of_shape(f, x), (directions * derivatives).sum(dim=(1, 2))
    with torch.inference_mode(False), torch.enable_grad():
        leaf = x.clone().requires_grad_(True)
        f = _of_shape(critic(leaf), x)
        trace = torch.zeros(len(x), dtype=x.dtype, device=x.device)
        for v in directions.expand(len(x), *directions.shape[-2:]).unbind(1):
            (row,) = torch.autograd.grad(f, leaf, v, create_graph=True)
            trace = trace + (row * v).sum(dim=1)
    return f, trace


def _of_shape(f: Tensor, x: Tensor) -> Tensor:
    if f.shape != x.shape:
        raise ValueError(
            f"critic must return {x.shape[1]} numbers a row, shape {tuple(x.shape)}, "
            f"got {tuple(f.shape)}"
        )
    return f
