"""Energy discrepancy: data against the best explanation of their blurred selves.

    ED_t(p, E) = E_p[ E(x) ] - E_{p_t}[ U_t(y) ],     y = x + sqrt(t) z,
    U_t(y)     = -log int N(y; x', t I) exp(-E(x')) dx'

Source: Schroeder, Ou, Lim, Li, Vollmer & Duncan 2023, "Energy discrepancies: a score-independent
loss for energy-based models", NeurIPS. The integral is a mean over x'_j = y + sqrt(t) z'_j, and
with the stabilisation w

    L = E log( w/M + 1/M sum_{j=1}^M exp( E(x) - E(x'_j) ) ).

It is a difference of two KLs, the contraction of KL by the blur (Lyu 2011),

    ED_t = KL(p || q) - KL(p_t || q_t) + terms free of E,

so its minimiser is E = -log p + constant for every t, and Z cancels. Between score matching,
(2 / t) ED_t -> E[ sum_i (d_i E)^2 - 2 d_i^2 E ] for t -> 0, and the negative log-likelihood,
ED_t + d/2 (log 2 pi t + 1) -> E[E] + log Z for t -> infinity, both with an error O(t) or O(1/t). A
small t is as blind to the weights of far modes as the one, a large t sees them as the other.

With w = 1 the estimate is right for every M, not only for many: given y, x is a draw of
p(x | y) and the x'_j are draws of N(y, t I), and L + log M is the negative log-probability of
picking x among them (the conditional form of ranking noise-contrastive estimation, Ma & Collins
2018). With M = 1 it is half of conditional noise-contrastive estimation at the scale sqrt(2 t).

What differs from the paper: t is drawn for each row, log-uniformly from a range; a share of the
rows is blurred by leaps, differences of two other rows, for which all but the two limits holds as
well (of N(0, t I) only the symmetry was used); each row is used with (z, z'_1 .. z'_M) and with
their negatives, whose mean has less variance. Signs are not mixed within one row: x'_j and its
mirror image about y would give away which of the points is x.

Cost: 1 + 2 num_neighbours energies a row (half without antithetic), one backward pass; no scores,
no sampling.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from basin.core.conditions import repeated
from basin.core.neighbours import LEAPS, Neighbours, check_scales, neighbours_of, with_leaps
from basin.core.references import Reference
from basin.core.tensors import expand_like, normal_like
from basin.core.types import Loss, Objective
from basin.core.validation import in_unit_interval, non_negative, positive_integer

__all__ = ["EnergyDiscrepancy", "energy_discrepancy"]


def energy_discrepancy(
    energy: Any,
    x: Tensor,
    *,
    t: float | Tensor,
    num_neighbours: int = 2,
    stabilisation: float = 1.0,
    antithetic: bool = True,
    leaps: float = 0.0,
    generator: torch.Generator,
) -> Tensor:
    """``log(w/M + 1/M sum_j exp(E(x) - E(x'_j)))`` for each row, ``[batch]``.

    Args:
        energy: callable ``[batch, *event] -> [batch]``.
        x: data, ``[batch, *event]``.
        t: variance of the blur, in squared units of x, positive; or one for each row.
        num_neighbours: M, the points x'_j around one y.
        stabilisation: w, zero or above; at zero the estimate of U_t is biased by O(1/M).
        antithetic: the mean over (z, z') and (-z, -z').
        leaps: the share of rows for which each blur is the difference of two other rows, which then
            must be independent; in [0, 1].
        generator: source of z and z'.

    Source: Schroeder et al. 2023. Differentiable in the parameters.

    Example:
        >>> import torch, basin
        >>> g = torch.Generator().manual_seed(0)
        >>> flat = lambda x: 0 * x.sum(1)                 # log((w + M) / M) with w = 1, M = 2
        >>> loss = basin.objectives.energy_discrepancy(flat, torch.zeros(5, 3), t=0.5, generator=g)
        >>> loss[:2]
        tensor([0.4055, 0.4055])
    """
    root_t = torch.as_tensor(t, dtype=x.dtype, device=x.device).sqrt().expand(len(x))
    noise = normal_like(x.repeat(1 + num_neighbours, *[1] * (x.ndim - 1)), generator)
    noise = with_leaps(
        expand_like(root_t.repeat(1 + num_neighbours), x) * noise, x, leaps, generator
    )
    blur, *back = noise.split(len(x))
    signs = (1, -1) if antithetic else (1,)
    points = torch.cat([x, *(x + sign * (blur + step) for sign in signs for step in back)])
    copies = len(signs) * num_neighbours
    energies = repeated(energy, 1 + copies)(points).unflatten(0, (1 + copies, len(x)))
    gaps = (energies[0] - energies[1:]).unflatten(0, (len(signs), num_neighbours))
    log_sums = torch.logsumexp(gaps, dim=1)
    if stabilisation:
        log_sums = torch.logaddexp(log_sums, log_sums.new_tensor(math.log(stabilisation)))
    return log_sums.mean(0) - math.log(num_neighbours)


@dataclass(frozen=True)
class EnergyDiscrepancy(Objective):
    """Between score matching and likelihood, without scores or sampling; learns p, up to Z.

    Args:
        t_min: smallest variance of the blur, in squared units of the model's coordinates; None
            reads it off the data.
        t_max: largest one; None reads it off the data. Equal ends are a single t.
        num_neighbours: M, the points that each blurred row is compared with.
        stabilisation: w. One makes every M consistent; zero or above.
        antithetic: use each draw of the noise with both signs.
        leaps: the share of rows blurred by leaps, differences of two other rows of the batch,
            which reach modes that no Gaussian step finds; in [0, 1].

    Source: Schroeder et al. 2023 (arXiv 2307.06431).
    """

    uses_score: ClassVar[bool] = False
    needs_noise_level: ClassVar[bool] = False
    normalises: ClassVar[bool] = False
    meanings: ClassVar[Mapping[str, str]] = {
        "trivial": "what an energy that cannot tell loses, log((w + M) / M)",
    }
    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "Energy discrepancies: a score-independent loss for energy-based models",
            (
                "Tobias Schröder",
                "Zijing Ou",
                "Jen Ning Lim",
                "Yingzhen Li",
                "Sebastian J. Vollmer",
                "Andrew B. Duncan",
            ),
            2023,
            "https://arxiv.org/abs/2307.06431",
        ),
        Reference(
            "Noise contrastive estimation and negative sampling for conditional models: "
            "consistency and statistical efficiency",
            ("Zhuang Ma", "Michael Collins"),
            2018,
            "https://arxiv.org/abs/1809.01812",
        ),
    )

    t_min: float | None = None
    t_max: float | None = None
    num_neighbours: int = 2
    stabilisation: float = 1.0
    antithetic: bool = True
    leaps: float = LEAPS

    def __post_init__(self) -> None:
        check_scales(t_min=self.t_min, t_max=self.t_max)
        positive_integer(num_neighbours=self.num_neighbours)
        non_negative(stabilisation=self.stabilisation)
        in_unit_interval(leaps=self.leaps)

    def init(self, x: Tensor, generator: torch.Generator) -> Neighbours:
        del generator
        return neighbours_of(x, _step_of(self.t_min), _step_of(self.t_max))

    def __call__(
        self, energy: Any, x: Tensor, state: Neighbours, generator: torch.Generator
    ) -> Loss:
        value = energy_discrepancy(
            energy,
            x,
            t=state.scales(x, generator).square() / 2,
            num_neighbours=self.num_neighbours,
            stabilisation=self.stabilisation,
            antithetic=self.antithetic,
            leaps=self.leaps,
            generator=generator,
        ).mean()
        trivial = value.new_tensor(math.log1p(self.stabilisation / self.num_neighbours))
        return Loss(value, {"trivial": trivial}, state)

    def noise_level(self, state: Neighbours) -> None:
        return None

    def explain(self, state: Neighbours) -> str:
        return f"{state.table()} = sqrt(2 t)"

    def blindness(self, state: Neighbours) -> str:
        return state.blindness(self.leaps)


def _step_of(t: float | None) -> float | None:
    """Standard deviation of x' - x: two blurs of variance t."""
    return None if t is None else math.sqrt(2 * t)
