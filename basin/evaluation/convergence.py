"""Do the chains agree? R-hat with a p-value, effective sample sizes and E-BFMI in one result.

    R-hat² = 1 - 1/N + (variance of the means of half-chains) / (variance within them)

on ranks, and on ranks of distances from the median (folded), the worst coordinate of all: 2M halves
of N draws. Source: Vehtari et al. 2021, computed by arviz-stats (``mcmc.diagnostics``).

A threshold on R-hat (1.01) does not know how long the chains are. The p-value does: if all halves
draw from one law and remember τ steps, N/τ of their draws count, so the mean square between halves
times N/τ over that within is an F ratio of one-way analysis of variance with 2M - 1 and
2M (N/τ - 1) degrees of freedom. τ is estimated within halves, so disagreement cannot hide in it.
The smallest p-value of d coordinates and both kinds of ranks counts 2d times (Bonferroni). It is
good for chains much longer than their memory (N/τ of 20 or more); shorter ones raise false alarms,
and a drift as slow as the chain is long passes for memory: look at R-hat and τ too.
Agreement is not arrival: chains that all missed a mode agree.
Cost: a sort and some Fourier transforms a coordinate.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from basin.core.validation import all_finite
from basin.evaluation.estimate import About, Estimate
from basin.mcmc.diagnostics import e_bfmi, effective_sample_size, split_rhat

# The three of mcmc.diagnostics are checks too: they are found beside the others.
__all__ = ["convergence", "e_bfmi", "effective_sample_size", "split_rhat"]

_ROUNDS = 4  # of giving back the variance of a mean, which changes τ by a share τ/N each


def convergence(
    positions: Tensor, *, energies: Tensor | None = None, about: About | None = None
) -> Estimate:
    """Worst R-hat of a coordinate, null hypothesis: all half-chains draw from one law.

    Args:
        positions: ``[chain, draw, *event]``, two chains and eight draws or more.
        energies: ``[chain, draw]``, for E-BFMI.
        about: what to state in the result.

    Returns:
        ``value``: R-hat; ``floor``: the median worst R-hat of as many chains that agree and
        remember as much; ``details``: ``ess_bulk`` and ``ess_tail`` (the smallest of a coordinate),
        ``e_bfmi`` (the smallest of a chain), ``worst_coordinate`` and ``memory``, τ in steps.

    Example:
        >>> import torch
        >>> x = torch.randn(4, 200, 2, generator=torch.Generator().manual_seed(0))
        >>> found = convergence(x)
        >>> found.value < 1.01, found.p_value > 0.01
        (True, True)
        >>> x[0, :, 1] += 1
        >>> convergence(x).p_value < 1e-4
        True
    """
    if positions.ndim < 2 or positions.shape[0] < 2 or positions.shape[1] < 8:
        raise ValueError(
            "positions must have shape (chain, draw, *event) with two chains and eight draws or "
            f"more, got {tuple(positions.shape)}"
        )
    chains = positions.detach().to("cpu", torch.float64).reshape(*positions.shape[:2], -1)
    all_finite("positions", chains.flatten(1))
    rhat = split_rhat(chains)
    if not bool(torch.isfinite(rhat).all()):
        raise ValueError("positions must move in every coordinate, got chains that stand still")
    ratios = [_worse_ratio(column) for column in chains.unbind(dim=2)]
    p_values = [ratio.p_value for ratio in ratios]
    worst = int(rhat.argmax())
    details = {
        "worst_coordinate": worst,
        "ess_bulk": float(effective_sample_size(chains).min()),
        "ess_tail": float(effective_sample_size(chains, "tail").min()),
        "memory": max(ratio.memory for ratio in ratios),
        "num_chains": chains.shape[0],
        "num_draws": chains.shape[1],
    }
    if energies is not None:
        details["e_bfmi"] = float(e_bfmi(energies).min())
    return Estimate(
        value=float(rhat[worst]),
        standard_error=None,
        floor=ratios[worst].rhat_when_agreed(num_looks=2 * len(ratios)),
        p_value=min(1.0, 2 * len(ratios) * min(p_values)),
        n=chains.shape[0] * chains.shape[1],
        meaning="worst rank-normalised split R-hat of a coordinate",
        about=about or About(),
        null="all half-chains draw from one law",
        details=details,
    )


class _Ratio:
    """F ratio of half-chains, the worse of bulk and folded ranks."""

    def __init__(self, halves: np.ndarray) -> None:
        from scipy.stats import f

        self.num_halves, self.num_draws = halves.shape
        self.memory = max(1.0, _memory(halves))
        self.within_size = self.num_draws / self.memory
        between = halves.mean(axis=1).var(ddof=1) * self.within_size
        self.law = f(self.num_halves - 1, max(1.0, self.num_halves * (self.within_size - 1)))
        self.p_value = float(self.law.sf(between / halves.var(axis=1, ddof=1).mean()))

    def rhat_when_agreed(self, num_looks: int) -> float:
        """Median of the worst of some independent R-hats under the null."""
        ratio = float(self.law.ppf(0.5 ** (1 / num_looks)))
        return math.sqrt(1 - 1 / self.num_draws + ratio / self.within_size)


def _worse_ratio(column: Tensor) -> _Ratio:
    """Of one coordinate ``[chain, draw]``."""
    draws = column.numpy()
    half = draws.shape[1] // 2
    halves = np.concatenate([draws[:, :half], draws[:, -half:]])
    folded = np.abs(halves - np.median(halves))
    return min((_Ratio(_normal_scores(part)) for part in (halves, folded)), key=lambda r: r.p_value)


def _normal_scores(x: np.ndarray) -> np.ndarray:
    """z = Φ⁻¹((rank - 3/8) / (S + 1/4)), Vehtari et al. 2021, eq. 14."""
    from scipy.stats import norm, rankdata

    ranks = rankdata(x, method="average", axis=None).reshape(x.shape)
    return norm.ppf((ranks - 0.375) / (x.size + 0.25))


def _memory(halves: np.ndarray) -> float:
    """τ = 1 + 2 Σ ρ_t within halves, pooled over them, to where pairs of ρ turn negative (Geyer).

    A half is centred at its own mean, which takes the variance of that mean, a share τ/N of the
    whole, from the covariance at every lag. It is given back, for the τ that comes out with it.
    """
    num_draws = halves.shape[1]
    centred = halves - halves.mean(axis=1, keepdims=True)
    size = 2 ** math.ceil(math.log2(2 * num_draws))
    spectrum = np.abs(np.fft.rfft(centred, size, axis=1)) ** 2
    products = np.fft.irfft(spectrum, size, axis=1)[:, :num_draws].mean(axis=0)
    covariance = products / np.arange(num_draws, 0, -1)
    tau = 1.0
    for _ in range(_ROUNDS):
        of_mean = covariance[0] * tau / (num_draws - min(tau, num_draws / 2))
        rho = (covariance + of_mean) / (covariance[0] + of_mean)
        pairs = rho[0 : num_draws - 1 : 2] + rho[1:num_draws:2]
        last = int(np.argmax(pairs <= 0)) if (pairs <= 0).any() else len(pairs)
        tau = max(1.0, 2 * float(np.minimum.accumulate(pairs[:last]).sum()) - 1) if last else 1.0
    return tau
