"""Conditional noise-contrastive estimation: which of two neighbours is the data?

    J = 2 E log(1 + exp(-G)),      G = E(y) - E(x),      y = x + r z,   z ~ N(0, I)

Source: Ceylan & Gutmann 2018, "Conditional noise-contrastive estimation of unnormalised models",
ICML: G is the log ratio of p(x) q(y | x) to p(y) q(x | y); the step is as likely both ways, so q
cancels, and so does Z. What differs: r is drawn anew for each row, log-uniformly from a range (the
mixture of all scales is symmetric too); a share of the rows leaps by the difference of two other
rows; neighbours come in pairs +-z.

Targets p itself: the minimiser is E = -log p + constant at any scale. For one small r

    (4 / r^2) (J - 2 log 2)  ->  E [ sum_i (d_i E)^2 - 2 d_i^2 E ],     with an error O(r^2),

exact score matching, and as blind to the weights of far modes: they are seen only where steps are
long enough to lead from one to the other.

Cost: 1 + 2 num_pairs energies a row and one backward pass; no scores, no sampling.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import softplus

from basin.core.conditions import repeated
from basin.core.neighbours import LEAPS, Neighbours, check_scales, neighbours_of, with_leaps
from basin.core.noise import antithetic
from basin.core.references import Reference
from basin.core.tensors import expand_like, normal_like
from basin.core.types import Loss, Objective
from basin.core.validation import in_unit_interval, positive_integer

__all__ = [
    "ConditionalNoiseContrastiveEstimation",
    "conditional_noise_contrastive_estimation",
]


def conditional_noise_contrastive_estimation(
    energy: Any,
    x: Tensor,
    *,
    noise_scale: float | Tensor,
    num_pairs: int = 1,
    leaps: float = 0.0,
    generator: torch.Generator,
) -> Tensor:
    """``2 log(1 + exp(E(x) - E(y)))``, the mean over a row's neighbours y, ``[batch]``.

    Args:
        energy: callable ``[batch, *event] -> [batch]``.
        x: data, ``[batch, *event]``.
        noise_scale: standard deviation of y - x, in the units of x, positive; or one for each row.
        num_pairs: neighbours of a row: this many z, each with -z.
        leaps: the share of rows whose y - x is the difference of two other rows, which then must be
            independent; in [0, 1].
        generator: source of z.

    Source: Ceylan & Gutmann 2018. Differentiable in the parameters.

    Example:
        >>> import torch, basin
        >>> g = torch.Generator().manual_seed(0)
        >>> flat = lambda x: 0 * x.sum(1)                       # cannot tell: 2 log 2
        >>> loss = basin.objectives.conditional_noise_contrastive_estimation(
        ...     flat, torch.zeros(5, 3), noise_scale=0.5, generator=g)
        >>> loss[:2]
        tensor([1.3863, 1.3863])
    """
    scale = torch.as_tensor(noise_scale, dtype=x.dtype, device=x.device).expand(len(x))
    copies = 2 * num_pairs
    source = x.repeat(num_pairs, *[1] * (x.ndim - 1))
    step = expand_like(scale.repeat(num_pairs), x) * normal_like(source, generator)
    step = antithetic(with_leaps(step, x, leaps, generator))
    points = torch.cat([x, torch.cat([source, source]) + step])
    energies = repeated(energy, 1 + copies)(points).unflatten(0, (1 + copies, len(x)))
    return 2 * softplus(energies[0] - energies[1:]).mean(0)


@dataclass(frozen=True)
class ConditionalNoiseContrastiveEstimation(Objective):
    """Tells data from their noisy neighbours; learns p itself, up to Z.

    Args:
        noise_min: smallest noise standard deviation, in the model's coordinates; None reads it
            off the data.
        noise_max: largest one; None reads it off the data. Equal ends are a single scale.
        num_pairs: neighbours of a row: this many z, each with -z.
        leaps: the share of rows whose neighbours are a leap away, x +- (x_j - x_k) for two other
            rows of the batch, which reach modes that no Gaussian step finds; in [0, 1].

    Source: Ceylan & Gutmann 2018 (arXiv 1806.03664).
    """

    uses_score: ClassVar[bool] = False
    needs_noise_level: ClassVar[bool] = False
    normalises: ClassVar[bool] = False
    meanings: ClassVar[Mapping[str, str]] = {
        "trivial": "what an energy that cannot tell loses, 2 log 2",
    }
    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "Conditional noise-contrastive estimation of unnormalised models",
            ("Ciwan Ceylan", "Michael U. Gutmann"),
            2018,
            "https://arxiv.org/abs/1806.03664",
        ),
    )

    noise_min: float | None = None
    noise_max: float | None = None
    num_pairs: int = 1
    leaps: float = LEAPS

    def __post_init__(self) -> None:
        check_scales(noise_min=self.noise_min, noise_max=self.noise_max)
        positive_integer(num_pairs=self.num_pairs)
        in_unit_interval(leaps=self.leaps)

    def init(self, x: Tensor, generator: torch.Generator) -> Neighbours:
        del generator
        return neighbours_of(x, self.noise_min, self.noise_max)

    def __call__(
        self, energy: Any, x: Tensor, state: Neighbours, generator: torch.Generator
    ) -> Loss:
        loss = conditional_noise_contrastive_estimation(
            energy,
            x,
            noise_scale=state.scales(x, generator),
            num_pairs=self.num_pairs,
            leaps=self.leaps,
            generator=generator,
        )
        trivial = loss.new_tensor(2 * math.log(2))
        return Loss(loss.mean(), {"trivial": trivial}, state)

    def noise_level(self, state: Neighbours) -> None:
        return None

    def explain(self, state: Neighbours) -> str:
        return state.table()

    def blindness(self, state: Neighbours) -> str:
        return state.blindness(self.leaps)
