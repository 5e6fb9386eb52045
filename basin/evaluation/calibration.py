"""Calibration of predicted probabilities: of the events called 70%, do 70% happen?

    value = Σ_b (n_b / n) |share of events in bin b - mean probability in bin b|

the expected calibration error (ECE), over bins of equally many predictions. Source: Naeini, Cooper
& Hauskrecht 2015; Vaicenavicius et al. 2019 (arXiv 1902.06977) for the test by
resampling: if the probabilities are right, the events are draws of them, and can be drawn again. So
the p-value is exact, and ``floor`` says what perfect probabilities would score (never 0: the ECE of
few events is large by chance alone).

For any probability: of an outlier, of a class, of data against noise by the logit of an energy.
For a density see ``density_calibration``.
Cost: a sort, and ``num_simulations`` times n random numbers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from basin.core.validation import all_finite, positive_integer
from basin.evaluation.estimate import About, Estimate
from basin.evaluation.two_sample import permutation_p_value

__all__ = ["calibration_error"]


def calibration_error(
    probabilities: Tensor,
    events: Tensor,
    generator: torch.Generator | None = None,
    *,
    num_bins: int = 10,
    num_simulations: int = 500,
    about: About | None = None,
) -> Estimate:
    """Expected calibration error of probabilities, null hypothesis: they are right.

    Args:
        probabilities: of the events, ``[n]``, in [0, 1].
        events: 1 where the event happened, 0 where not, ``[n]``; independent of each other.
        generator: source of the simulated events; a fresh one of seed 0 by default.
        num_bins: bins of equally many predictions, at most n.
        num_simulations: the smallest p-value is 1 / (num_simulations + 1).
        about: what to state in the result.

    Returns:
        ``value``; ``standard_error``: the larger of its spread under the null and of its
        first-order error at these bins; ``floor``: the mean ECE of events drawn from the
        probabilities; ``details``: ``reliability``, for each bin the mean probability, the share of
        events, its standard error and the count, and ``brier``, the mean squared error.

    Example:
        >>> import torch
        >>> g = torch.Generator().manual_seed(0)
        >>> p = torch.rand(1000, generator=g)
        >>> events = (torch.rand(1000, generator=g) < p).long()
        >>> right, sure = (calibration_error(q, events, g) for q in (p, (p > 0.5).float()))
        >>> right.p_value > 0.01, round(sure.value, 2), sure.p_value < 0.01  # ∫ min(p, 1-p) = 1/4
        (True, 0.25, True)
    """
    positive_integer(num_bins=num_bins, num_simulations=num_simulations)
    p, y = probabilities.detach().double().cpu(), events.detach().double().cpu()
    n = len(p)
    if p.ndim != 1 or y.shape != p.shape or n < 2:
        raise ValueError(
            "probabilities and events must have one shape [n], two or more, got "
            f"{tuple(p.shape)} and {tuple(y.shape)}"
        )
    all_finite("probabilities", p)
    if bool(((p < 0) | (p > 1)).any()):
        raise ValueError(
            f"probabilities must lie between 0 and 1, got {float(p.min())} to {float(p.max())}"
        )
    if bool(((y != 0) & (y != 1)).any()):
        raise ValueError("events must be 0 or 1, got other values")
    generator = generator or torch.Generator().manual_seed(0)
    p, order = p.sort()
    y = y[order]
    bins = torch.arange(n) * min(num_bins, n) // n
    counts = torch.bincount(bins).double()
    mean_p = torch.bincount(bins, weights=p) / counts

    def errors(of: Tensor) -> Tensor:
        """Share of events less mean probability, for events ``[..., n]``: ``[..., bins]``."""
        sums = torch.zeros(*of.shape[:-1], len(counts), dtype=torch.float64)
        return sums.index_add_(-1, bins, of) / counts - mean_p

    found = errors(y)
    value = float((found.abs() * counts).sum() / n)
    uniform = torch.rand(num_simulations, n, generator=generator, device=generator.device)
    simulated = (errors((uniform.cpu() < p).double()).abs() * counts).sum(dim=-1) / n
    shares = found + mean_p
    residual = (y - p) - found[bins]
    of_bins = torch.bincount(bins, weights=residual.square())
    first_order = math.sqrt(float(of_bins.sum())) / n
    null_spread = float(simulated.std()) if num_simulations > 1 else 0.0
    return Estimate(
        value=value,
        standard_error=max(null_spread, first_order),
        floor=float(simulated.mean()),
        p_value=permutation_p_value(value, simulated, generator),
        n=n,
        meaning="expected calibration error: mean distance of shares of events from probabilities",
        about=about or About(),
        null="the events are independent draws of their probabilities",
        details={
            "null_95": float(simulated.quantile(0.95)),
            "brier": float((y - p).square().mean()),
            "reliability": [
                {
                    "probability": float(mean_p[b]),
                    "share": float(shares[b]),
                    "standard_error": math.sqrt(float(of_bins[b])) / float(counts[b]),
                    "count": int(counts[b]),
                }
                for b in range(len(counts))
            ],
        },
    )
