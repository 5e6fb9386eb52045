"""Minimum probability flow: the rate at which the data leave themselves under the model's dynamics.

    K = E exp( (E(x) - E(y)) / 2 ),     y = x + r z,   z ~ N(0, I),     minimised as J = log K

Source: Sohl-Dickstein, Battaglino & DeWeese 2011, "Minimum probability flow learning", ICML (there
a sum over states and their neighbours). What differs: neighbours are Gaussian steps +-r z, with r
drawn for each row from a range, or leaps, the difference of two other rows, for a share of them;
and the logarithm. Z cancels.

As a difference of KLs: let probability flow from x to y at the rate k(y - x) exp((E(x) - E(y)) / 2)
with k the law of the steps; these dynamics leave the model q in balance. Then, for rows x_i taken
as atoms that are carried along,

    d/dt KL(rows || rows_t) at t = 0  =  mean of the rates out of x_i  =  K,

and for a density p, with f = p / q,

    K - E_k[ int sqrt(p(x) p(y)) ]  =  1/2 int int (sqrt f(x) - sqrt f(y))^2 sqrt(q(x) q(y)) k,

where the left integral is free of the parameters. The right side is a quarter, at most, of the
speed at which KL(p_t || q) contracts (Lyu 2011, "Unifying non-maximum likelihood learning
objectives with minimum KL contraction", NeurIPS), and both vanish only at q = p.

Targets p itself. For one small r,  (8 / r^2) (K - 1) -> E [ sum_i (d_i E)^2 - 2 d_i^2 E ] with an
error O(r^2): exact score matching, and as blind to the weights of far modes.

The logarithm is taken of the mean over the batch: the same minimiser, and a gradient that is a
weighted mean of differences, where that of K grows like its largest exponential. A batch of n rows
then biases the gradient by O(1/n).

Cost: 1 + 2 num_pairs energies a row and one backward pass; no scores, no sampling.
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
from basin.core.noise import antithetic
from basin.core.references import Reference
from basin.core.tensors import expand_like, normal_like
from basin.core.types import Loss, Objective
from basin.core.validation import in_unit_interval, positive_integer

__all__ = ["MinimumProbabilityFlow", "minimum_probability_flow"]


def minimum_probability_flow(
    energy: Any,
    x: Tensor,
    *,
    noise_scale: float | Tensor,
    num_pairs: int = 1,
    leaps: float = 0.0,
    generator: torch.Generator,
) -> Tensor:
    """log of the rate out of each row, the mean of exp((E(x) - E(y)) / 2) over y, ``[batch]``.

    Args:
        energy: callable ``[batch, *event] -> [batch]``.
        x: data, ``[batch, *event]``.
        noise_scale: standard deviation of y - x, in the units of x, positive; or one for each row.
        num_pairs: neighbours of a row: this many z, each with -z.
        leaps: the share of rows whose y - x is the difference of two other rows, which then must be
            independent; in [0, 1].
        generator: source of z.

    K is the mean of its exponentials, and unbiased. Source: Sohl-Dickstein, Battaglino & DeWeese
    2011. Differentiable in the parameters.

    Example:
        >>> import torch, basin
        >>> g = torch.Generator().manual_seed(0)
        >>> slope = lambda x: x[:, 0]             # K = exp(r^2 / 8): downhill counts for more
        >>> rates = basin.objectives.minimum_probability_flow(
        ...     slope, torch.zeros(20_000, 2), noise_scale=2.0, generator=g)
        >>> round(rates.exp().mean().log().item(), 1)
        0.5
    """
    scale = torch.as_tensor(noise_scale, dtype=x.dtype, device=x.device).expand(len(x))
    copies = 2 * num_pairs
    source = x.repeat(num_pairs, *[1] * (x.ndim - 1))
    step = expand_like(scale.repeat(num_pairs), x) * normal_like(source, generator)
    step = antithetic(with_leaps(step, x, leaps, generator))
    points = torch.cat([x, torch.cat([source, source]) + step])
    energies = repeated(energy, 1 + copies)(points).unflatten(0, (1 + copies, len(x)))
    return torch.logsumexp((energies[0] - energies[1:]) / 2, dim=0) - math.log(copies)


@dataclass(frozen=True)
class MinimumProbabilityFlow(Objective):
    """Slows the flow from the data to their noisy neighbours; learns p itself, up to Z.

    Args:
        noise_min: smallest noise standard deviation, in the model's coordinates; None reads it
            off the data.
        noise_max: largest one; None reads it off the data. Equal ends are a single scale.
        num_pairs: neighbours of a row: this many z, each with -z.
        leaps: the share of rows whose neighbours are a leap away, x +- (x_j - x_k) for two other
            rows of the batch, which reach modes that no Gaussian step finds; in [0, 1].

    Source: Sohl-Dickstein, Battaglino & DeWeese 2011 (arXiv 0906.4779); Lyu 2011.
    """

    uses_score: ClassVar[bool] = False
    needs_noise_level: ClassVar[bool] = False
    normalises: ClassVar[bool] = False
    mixes_rows: ClassVar[bool] = True
    meanings: ClassVar[Mapping[str, str]] = {
        "largest_share": "share of the row with the largest rate in the whole rate K; near one, "
        "a single row (an outlier) steers the step",
    }
    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "Minimum probability flow learning",
            ("Jascha Sohl-Dickstein", "Peter Battaglino", "Michael R. DeWeese"),
            2011,
            "https://arxiv.org/abs/0906.4779",
        ),
        Reference(
            "Unifying non-maximum likelihood learning objectives with minimum KL contraction",
            ("Siwei Lyu",),
            2011,
            "https://papers.nips.cc/paper/2011/hash/a3f390d88e4c41f2747bfa2f1b5f87db-Abstract.html",
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
        log_rates = minimum_probability_flow(
            energy,
            x,
            noise_scale=state.scales(x, generator),
            num_pairs=self.num_pairs,
            leaps=self.leaps,
            generator=generator,
        )
        value = torch.logsumexp(log_rates, dim=0) - math.log(len(x))
        return Loss(value, {"largest_share": log_rates.detach().softmax(0).max()}, state)

    def noise_level(self, state: Neighbours) -> None:
        return None

    def explain(self, state: Neighbours) -> str:
        return state.table()

    def blindness(self, state: Neighbours) -> str:
        return state.blindness(self.leaps)
