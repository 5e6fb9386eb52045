"""Wasserstein distance between samples and held-out data, by exact optimal transport.

    W_p^p = min over couplings of E‖x - y‖^p        the least work that turns one set into the other

in the units of x. Source: Peyré & Cuturi 2019, eq. 2.18; solved by POT's network simplex (Flamary
et al. 2021), an extra: ``pip install basin[transport]``. In one dimension ``sliced_wasserstein`` is
the same number, and needs only sorts.

Two finite sets of one law are a distance of order n^(-1/d) apart, so that in many dimensions the
value is nearly all floor: read the two together. The p-value permutes the labels, and is exact for
any sample size. The standard error is that of the limit law at distinct laws (del Barrio & Loubes
2019, theorem 4.1): of the means of both Kantorovich potentials, which the solver returns.
Cost: one transport problem of n × m a permutation, about n³ log n: 1 ms for 40 rows, 23 ms for 300.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from basin.core.kernels import squared_distances
from basin.core.validation import positive_integer
from basin.evaluation.estimate import About, Estimate
from basin.evaluation.two_sample import (
    ONE_LAW,
    permutation_p_value,
    permuted_labels,
    pooled,
)

__all__ = ["wasserstein"]


def wasserstein(
    samples: Tensor,
    held_out: Tensor,
    generator: torch.Generator | None = None,
    *,
    order: int = 2,
    num_permutations: int = 100,
    second_held_out: Tensor | None = None,
    about: About | None = None,
) -> Estimate:
    """W_p between samples and held-out rows, null hypothesis: one law.

    Args:
        samples: draws of the model, ``[n, *event]``, independent; two or more, a few hundred at
            most.
        held_out: rows not trained on, ``[m, *event]``, blurred as the model is; two or more.
        generator: source of the permutations; a fresh one of seed 0 by default.
        order: p, 1 or 2.
        num_permutations: the smallest p-value is 1 / (num_permutations + 1).
        second_held_out: other held-out rows, as many as samples, whose distance is the floor.
        about: what to state in the result.

    Returns:
        ``floor``: the distance of ``second_held_out``, or without it the root mean p-th power over
        the permutations (``details["floor_from"]`` says which); ``details``: ``null_95``.

    Raises:
        ImportError: POT is not installed.

    Example:
        >>> import torch
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(100, 2, generator=g), torch.randn(100, 2, generator=g)
        >>> found = wasserstein(x + 2, y, g, num_permutations=19)  # ‖(2, 2)‖ = 2.83
        >>> abs(found.value - 2.83) < 3 * found.standard_error, found.p_value
        (True, 0.05)
    """
    positive_integer(num_permutations=num_permutations)
    if order not in (1, 2):
        raise ValueError(f"order must be 1 or 2, got {order!r}")
    generator = generator or torch.Generator().manual_seed(0)
    rows, n, m = pooled(samples, held_out)
    costs = _costs(rows, rows, order)
    plan = _transport(costs[:n, n:])
    value = plan.cost ** (1 / order)
    permuted = torch.tensor(
        [
            _transport(costs[label][:, ~label]).cost
            for label in permuted_labels(n, m, num_permutations, generator)
        ],
        dtype=torch.float64,
    )
    null = permuted ** (1 / order)
    of_power = math.sqrt(float(plan.of_x.var()) / n + float(plan.of_y.var()) / m)
    delta = of_power / (order * value ** (order - 1)) if value > 0 else 0.0
    null_spread = float(null.std()) if num_permutations > 1 else 0.0
    floor, floor_from = float(permuted.mean()) ** (1 / order), "permutations"
    if second_held_out is not None:
        other = pooled(second_held_out, held_out)
        between = _costs(other.rows[: other.n], other.rows[other.n :], order)
        floor, floor_from = _transport(between).cost ** (1 / order), "second held-out rows"
    return Estimate(
        value=value,
        standard_error=max(null_spread, delta),
        floor=floor,
        p_value=permutation_p_value(value, null, generator),
        n=min(n, m),
        meaning=f"Wasserstein-{order} distance between samples and held-out data, in units of x",
        about=about or About(),
        null=ONE_LAW,
        details={
            "null_95": float(null.quantile(0.95)),
            "floor_from": floor_from,
            "n_samples": n,
            "n_held_out": m,
        },
    )


class _Plan(NamedTuple):
    """The least cost and the Kantorovich potentials at both sets of rows."""

    cost: float
    of_x: Tensor
    of_y: Tensor


def _costs(a: Tensor, b: Tensor, order: int) -> Tensor:
    squared = squared_distances(a, b)
    return squared if order == 2 else squared.sqrt_()


def _transport(costs: Tensor) -> _Plan:
    """Optimal transport between uniform weights for costs ``[n, m]``."""
    n, m = costs.shape
    weights = [torch.full((size,), 1 / size, dtype=torch.float64).numpy() for size in (n, m)]
    _, log = _pot().emd(*weights, costs.contiguous().numpy(), log=True, numItermax=1_000_000)
    if log["warning"] is not None:
        raise ValueError(
            f"the transport between samples and held-out rows failed: {log['warning']}"
        )
    return _Plan(float(log["cost"]), torch.as_tensor(log["u"]), torch.as_tensor(log["v"]))


def _pot() -> Any:
    try:
        import ot
    except ImportError as error:
        raise ImportError("wasserstein needs POT: pip install 'basin[transport]'") from error
    return ot
