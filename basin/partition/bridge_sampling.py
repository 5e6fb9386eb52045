"""log Z by bridge sampling: draws of the target and of a known law, put together optimally.

    ℓ = E_base - E at a point; n_0 points of the base, n_1 of the target; c = log(Z / Z_0):

    n_0 mean_base σ(ℓ - c + log(n_1/n_0))  =  n_1 mean_target σ(c - ℓ - log(n_1/n_0))

with the logistic function σ: the fixed point of the iteration of Meng & Wong 1996 (equation 4.1)
with the optimal bridge, which is Bennett's acceptance ratio (1976, equation 12). With the log
weights of a walk to the target, and of the same walk backward, in the place of ℓ it combines
forward and reverse annealing (Crooks 2000; Shirts & Chodera 2008): then it is enough that
neighbours on the path overlap.

At the true c the two sides are equal in expectation, exactly, and both are means of numbers between
0 and 1. So the interval is the set of c at which they differ by less than the quantile times the
standard error of their difference: no weight, however heavy, enters it.

Cost: one base and one target energy at each point.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from basin.core.types import Energy
from basin.core.validation import positive_integer
from basin.partition.annealing import log_ratio
from basin.partition.blocks import energies_in_blocks
from basin.partition.log_z import LogZ, LogZNotEstimated
from basin.partition.weights import log_mean, student_quantile

__all__ = ["bennett_acceptance_ratio", "bridge_sampling"]

_WIDEST = 100.0  # nats: an interval that does not end within this says nothing


def bridge_sampling(
    energy: Energy,
    target_draws: Tensor,
    *,
    base: Any,
    num_base_draws: int | None = None,
    draws_per_chain: int = 1,
    generator: torch.Generator,
    level: float = 0.95,
) -> LogZ:
    """log Z of ``energy`` from draws of exp(-E) / Z and a law that can be drawn exactly.

    Args:
        energy: ``[batch, *event] -> [batch]`` in nats.
        target_draws: ``[n, *event]``, from exp(-E) / Z: exact, or of long chains, in which case
            those of one chain must follow each other.
        base: energy with ``sample(n, generator)`` and ``log_z``; a Gaussian fitted to *other* draws
            of the target is usual (fitted to the same ones it is biased).
        num_base_draws: as many as target draws when left out.
        draws_per_chain: how many successive draws belong to one chain; the error then comes from
            the means of whole chains.
        generator: source of the base's draws.
        level: probability of the interval.

    Raises:
        LogZNotEstimated: the two laws hardly overlap.

    Example:
        >>> import torch
        >>> from basin.energies import Gaussian
        >>> g = torch.Generator().manual_seed(0)
        >>> draws = 0.8 * torch.randn(1000, 2, generator=g)
        >>> found = bridge_sampling(lambda x: x.square().sum(1) / (2 * 0.64), draws,
        ...                         base=Gaussian([0.0, 0.0], torch.eye(2)), generator=g)
        >>> found.lower < 1.3916 < found.upper                       # log(2 π 0.64)
        True
    """
    positive_integer(draws_per_chain=draws_per_chain)
    if len(target_draws) % draws_per_chain:
        raise ValueError(
            f"draws_per_chain must divide the number of target_draws, got {draws_per_chain} and "
            f"{len(target_draws)}"
        )
    count = len(target_draws) if num_base_draws is None else num_base_draws
    positive_integer(num_base_draws=count)
    base_draws = base.sample(count, generator)
    ratios = [
        log_ratio(energies_in_blocks(base, x), energies_in_blocks(energy, x))
        for x in (base_draws, target_draws)
    ]
    return bennett_acceptance_ratio(
        ratios[0],
        -ratios[1],
        log_z_base=float(base.log_z),
        draws_per_chain=draws_per_chain,
        method=f"bridge sampling, {count:,} base and {len(target_draws):,} target draws",
        raise_what="the number of draws, or take a base nearer to the target or a path between",
        level=level,
    )


def bennett_acceptance_ratio(
    forward: Tensor,
    reverse: Tensor,
    *,
    log_z_base: float = 0.0,
    draws_per_chain: int = 1,
    method: str = "Bennett's acceptance ratio",
    raise_what: str = "the number of chains or of temperatures",
    level: float = 0.95,
) -> LogZ:
    """log Z from log weights of walks in both directions.

    Args:
        forward: ``[n_0]``, log weights of walks from the base to the target; mean of exp is Z/Z_0.
        reverse: ``[n_1]``, those of the same walk backward; mean of exp is Z_0/Z.
        log_z_base: log Z_0.
        draws_per_chain: successive numbers of ``reverse`` that share one chain.
        method, raise_what: for the answer and the error.
        level: probability of the interval.

    Raises:
        LogZNotEstimated: the directions do not overlap, or contradict each other.

    Example:
        >>> import torch
        >>> g = torch.Generator().manual_seed(0)
        >>> work = torch.randn(2, 5000, generator=g, dtype=torch.float64)
        >>> found = bennett_acceptance_ratio(work[0] - 0.5, work[1] - 0.5)   # Z = 1
        >>> found.lower < 0 < found.upper, found.standard_error < 0.02
        (True, True)
    """
    forward, along = forward.double().cpu(), -reverse.double().cpu()
    num_chains = len(along) // draws_per_chain
    if len(forward) < 2 or num_chains < 2:
        raise ValueError(
            f"two walks at least are needed in each direction, got {len(forward)} and {num_chains}"
        )
    shift = math.log(len(along) / len(forward))
    share = len(forward) / (len(forward) + len(along))

    def sides(c: float) -> tuple[Tensor, Tensor]:
        up = share * torch.sigmoid(forward - c + shift)
        down = (1 - share) * torch.sigmoid(c - along - shift)
        return up, down.view(num_chains, draws_per_chain).mean(1)

    def excess(c: float) -> float:
        """How many standard errors the base's side lies above the target's; falls with c."""
        up, down = sides(c)
        error = math.sqrt(float(up.var()) / len(up) + float(down.var()) / len(down))
        difference = float(up.mean() - down.mean())
        return difference / error if error > 0 else math.copysign(math.inf, difference)

    def balance(c: float) -> float:
        up, down = sides(c)
        return float(up.mean() - down.mean())

    middle = _between(log_mean(forward), -log_mean(-along))
    centre = _root(balance, middle, 0.0)
    quantile = student_quantile(level, min(len(forward), num_chains) - 1)
    up, down = sides(centre)
    relative = _relative_variance(up) + _relative_variance(down)
    ends = [_root(excess, centre, target) for target in (quantile, -quantile)]
    if not (math.isfinite(relative) and all(map(math.isfinite, ends))):
        raise LogZNotEstimated(
            f"the base and the target must overlap for log Z to mean anything, got hardly any "
            f"common points ({method}); raise {raise_what}"
        )
    return LogZ(
        log_z=centre + log_z_base,
        standard_error=math.sqrt(relative),
        lower=min(ends[0], centre) + log_z_base,
        upper=max(ends[1], centre) + log_z_base,
        effective_sample_size=min(1 / relative, len(forward) + len(along)) if relative else None,
        method=method,
        kind="interval",
        level=level,
    )


def _relative_variance(values: Tensor) -> float:
    mean = float(values.mean())
    return math.inf if mean <= 0 else float(values.var()) / (len(values) * mean**2)


def _between(first: float, second: float) -> float:
    """Their middle, or the one of them that is finite."""
    finite = [value for value in (first, second) if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else 0.0


def _root(falling: Any, near: float, target: float) -> float:
    """Where a falling function of c passes ``target``; infinite when not within 100 nats."""
    from scipy.optimize import brentq  # imported here: it takes a second

    def above(c: float) -> float:
        return min(1e9, max(-1e9, falling(c) - target))

    low, high, width = near, near, 1e-2
    while above(low) < 0:
        low, width = low - width, 2 * width
        if width > _WIDEST:
            return -math.inf
    width = 1e-2
    while above(high) > 0:
        high, width = high + width, 2 * width
        if width > _WIDEST:
            return math.inf
    return low if low == high else float(brentq(above, low, high, xtol=1e-10))  # type: ignore[arg-type]
