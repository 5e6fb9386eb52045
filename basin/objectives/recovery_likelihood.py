"""Recovery likelihood: each noise level's energy is trained on recovering x from a noisier copy.

    y = x_sigma + s z,    x_sigma = x + sigma z',    s = spread sigma
    p(x | y; sigma) = exp(-E(x, sigma) - |y - x|^2 / 2 s^2) / Z(y, sigma)
    J = E_sigma E[ E(x_sigma, sigma) - E(x~, sigma) ],    x~: k steps on p(. | y) from y

Source: Gao, Song, Poole, Wu & Kingma 2021, "Learning energy-based models by diffusion recovery
likelihood", eq. 9-13 and algorithm 1. Theirs is a chain of discrete levels with data scaled down
as noise is added; here the scale stays (variance exploding) and sigma is log-uniform on a ladder.

The gradient is that of the recovery log-likelihood, whose maximum over all E(., sigma) is at
log p_sigma up to a constant for each level: targets p_sigma at every level. The quadratic holds the
chains near y, so that short ones are enough; as s falls the objective tends to denoising score
matching (their section 3.3), and like it each level leaves its own constant free.

The chains move in u = (x - y) / s, where -log p(u) = E(y + s u, sigma) + |u|^2/2 has scale one at
every level: one step size serves all of them, and any kernel.

Cost: k kernel steps a row (MALA: one energy and one score each), one forward and backward pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from basin.core.conditions import first_rows
from basin.core.noise import log_uniform_stratified
from basin.core.noise_levels import NoiseLevels, noise_levels
from basin.core.references import Reference
from basin.core.tensors import event_sum, expand_like, normal_like
from basin.core.types import Kernel, Loss
from basin.core.validation import positive
from basin.objectives.sampled import (
    RECOVERY_TERMS,
    DataLaw,
    Sampled,
    check_sampler,
    contrast,
    draws,
    finished,
    num_watched,
    require_real_kernel,
    watched_terms,
)
from basin.samplers.mala import MALA

__all__ = ["RecoveryLikelihood", "RecoveryLikelihoodState", "recovery_likelihood"]

_KERNEL = MALA(0.2)


def recovery_likelihood(
    energy: Any,
    x: Tensor,
    sigma: Tensor | float,
    *,
    spread: float = 1.0,
    kernel: Kernel = _KERNEL,
    num_steps: int = 8,
    generator: torch.Generator,
) -> Tensor:
    """``E(x_sigma, sigma) - E(x~, sigma)`` for each row, ``[batch]``.

    Args:
        energy: noise-conditional energy ``(x, sigma) -> [batch]``.
        x: data, ``[batch, *event]``.
        sigma: noise standard deviations, a positive number or ``[batch]``.
        spread: s / sigma, how much noisier the copy is that x_sigma is recovered from.
        kernel: what moves the chains, in units of s.
        num_steps: k, positive.
        generator: source of the noise and of the chains' noise.

    Source: Gao et al. 2021, eq. 9-13. Differentiable in the parameters.

    Example:
        >>> import torch, basin
        >>> g = torch.Generator().manual_seed(0)
        >>> right = lambda x, sigma: 0.5 * (x.square().sum(1) / (1 + sigma**2))
        >>> loss = basin.objectives.recovery_likelihood(
        ...     right, torch.randn(20_000, 1, generator=g), 0.5, generator=g)
        >>> abs(round(loss.mean().item(), 1))                  # draws as likely as the data
        0.0
    """
    positive(spread=spread)
    level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).expand(len(x))
    noisy, conditional = _to_recover(energy, x, level, spread, generator)
    u = draws(conditional, kernel, torch.zeros_like(x), num_steps, generator)
    return energy(noisy, level) - energy(conditional.position(u), level)


class RecoveryLikelihoodState(NamedTuple):
    """Ends of the ladder and the distances that they were chosen from."""

    sigma_min: float
    sigma_max: float
    levels: NoiseLevels


@dataclass(frozen=True)
class RecoveryLikelihood(Sampled):
    """Recovery likelihood: conditional energies on a ladder of noise levels, by short chains.

    Args:
        kernel: what moves the chains, one of ``basin.samplers``, in units of s.
        num_steps: k, kernel steps for each training step.
        sigma_min: lowest level, in the model's coordinates; None reads it off the data.
        sigma_max: highest level; None takes the diameter of the data.
        spread: s / sigma, how much noisier the copy is that each row is recovered from. Smaller
            is easier to sample and closer to denoising score matching.
        num_chains: rows of the batch that are noised and recovered; None takes all.
        energy_l2: weight of the squared energies of data and draws (it biases what is learned).

    Source: Gao, Song, Poole, Wu & Kingma 2021, eq. 9-13 and algorithm 1.
    """

    uses_score: ClassVar[bool] = False
    needs_noise_level: ClassVar[bool] = True
    meanings: ClassVar[Mapping[str, str]] = RECOVERY_TERMS
    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "Learning energy-based models by diffusion recovery likelihood",
            ("Ruiqi Gao", "Yang Song", "Ben Poole", "Ying Nian Wu", "Diederik P. Kingma"),
            2021,
            "https://arxiv.org/abs/2012.08125",
        ),
    )

    kernel: Kernel = _KERNEL
    num_steps: int = 8
    sigma_min: float | None = None
    sigma_max: float | None = None
    spread: float = 1.0
    num_chains: int | None = 512
    energy_l2: float = 0.0

    def __post_init__(self) -> None:
        check_sampler(self.kernel, self.num_steps, self.num_chains, 0.0, self.energy_l2)
        require_real_kernel(self.kernel, self)
        if self.sigma_min is not None:
            positive(sigma_min=self.sigma_min)
        if self.sigma_max is not None:
            positive(sigma_max=self.sigma_max)
        positive(spread=self.spread)

    def init(self, x: Tensor, generator: torch.Generator) -> RecoveryLikelihoodState:
        del generator
        levels = noise_levels(x)
        lower, upper = levels.ladder(self.sigma_min, self.sigma_max)
        return RecoveryLikelihoodState(lower, upper, levels)

    def __call__(
        self, energy: Any, x: Tensor, state: RecoveryLikelihoodState, generator: torch.Generator
    ) -> Loss:
        x, energy = x[: self.num_chains], first_rows(energy, self.num_chains)
        sigma = log_uniform_stratified(state.sigma_min, state.sigma_max, len(x), generator)
        sigma = sigma.to(x.dtype)
        noisy, conditional = _to_recover(energy, x, sigma, self.spread, generator)
        start = torch.zeros_like(x)
        u = draws(conditional, self.kernel, start, self.num_steps, generator)
        on_draws = energy(conditional.position(u), sigma)
        value, terms = contrast(energy(noisy, sigma), on_draws, self.energy_l2)
        unit = DataLaw(torch.zeros_like(x[0]), x[:0], 1.0)  # the chains' coordinates are u
        seen = conditional.first(num_watched(len(x)))
        terms |= watched_terms(seen, start, u, terms["gap"], unit)
        return finished(value, terms, state)

    def noise_level(self, state: RecoveryLikelihoodState) -> None:
        return None

    def explain(self, state: RecoveryLikelihoodState) -> str:
        return state.levels.table()

    def blindness(self, state: RecoveryLikelihoodState) -> str:
        return (
            f"at the lowest level its chains stay within a few s = {self.spread:g} sigma of a copy "
            "of the data, and each level leaves its own constant free, so that level alone says "
            "nothing of the weights of far modes (its draws, carried down from the largest level, "
            "do see them)"
        )


class _Conditional:
    """-log p(u | y; sigma) up to a constant, u = (x - y) / s: E(y + s u, sigma) + |u|^2 / 2."""

    has_a_row_for_each = True

    def __init__(self, energy: Any, y: Tensor, sigma: Tensor, s: Tensor) -> None:
        self.energy = energy
        self.y = y
        self.sigma = sigma
        self.s = s

    def __call__(self, u: Tensor) -> Tensor:
        return self.energy(self.position(u), self.sigma) + 0.5 * event_sum(u.square())

    def position(self, u: Tensor) -> Tensor:
        """x = y + s u."""
        return self.y + self.s * u

    def first(self, n: int) -> _Conditional:
        """The conditionals of the first ``n`` rows."""
        return _Conditional(first_rows(self.energy, n), self.y[:n], self.sigma[:n], self.s[:n])


def _to_recover(
    energy: Any, x: Tensor, sigma: Tensor, spread: float, generator: torch.Generator
) -> tuple[Tensor, _Conditional]:
    """The noised rows, and the conditional energies that recover them from noisier copies."""
    noisy = x + expand_like(sigma, x) * normal_like(x, generator)
    s = spread * expand_like(sigma, x)
    y = noisy + s * normal_like(x, generator)
    return noisy, _Conditional(energy, y, sigma, s)
