"""log Z from independent weights of mean Z, with an interval that heavy weights do not fool.

    log Ẑ = log (1/n) Σ w_i        ESS = (Σ w)² / Σ w²,   standard error = √((1/ESS - 1/n) n/(n-1))

Z is estimated without bias, so log Ẑ is low in expectation. The delta method takes the spread of
the weights that were seen; when the heaviest are rare none of them may have been, and then both the
value and its error are too small: of weights whose logarithms are N(0, 2²), 256 a time, it covers
in 79% of cases instead of 95 (``tests/partition/test_weights.py``). So the upper end is the larger
of that error and the one that weights of a log-normal tail would have,

    √((exp(v) - 1) / n),      v: mean square of log w - median above the median,

which is the truth for log-normal weights (those of a long annealing, by the central limit theorem)
and is known well from few weights, as no exponential of them is averaged. Only the upper half is
looked at: weights that are very small do no harm. Student's t takes the place of the normal.

Source: Owen, Monte Carlo theory, methods and examples, ch. 9; Neal 2001, section 3; the tail rule
is derived here. Cost: none beside the weights.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from basin.core.validation import in_unit_interval, positive
from basin.partition.log_z import LogZ, LogZNotEstimated

__all__ = ["effective_number", "log_mean", "log_z_of_weights", "student_quantile"]


def log_mean(log_weights: Tensor) -> float:
    """log of the mean of exp(``log_weights``), in float64."""
    return float(torch.logsumexp(log_weights.double(), 0)) - math.log(len(log_weights))


def effective_number(log_weights: Tensor) -> float:
    """(Σ w)² / Σ w² of weights given by their logarithms; 0 when all are zero.

    >>> import torch
    >>> round(effective_number(torch.zeros(7)), 9)
    7.0
    """
    log_weights = log_weights.double()
    total = torch.logsumexp(log_weights, 0)
    if not bool(torch.isfinite(total)):
        return 0.0
    return float(torch.exp(2 * total - torch.logsumexp(2 * log_weights, 0)))


def student_quantile(level: float, degrees: int) -> float:
    """Two-sided quantile of Student's t: P(|T| < q) = ``level``."""
    from scipy import stats  # imported here: it takes a second

    return float(stats.t.ppf(0.5 + level / 2, max(1, degrees)))


def log_z_of_weights(
    log_weights: Tensor,
    *,
    method: str,
    raise_what: str,
    minimum_effective_sample_size: float = 10.0,
    is_reverse: bool = False,
    level: float = 0.95,
) -> LogZ:
    """The estimate and its interval from ``log_weights`` ``[n]``.

    Args:
        log_weights: logarithms of independent weights, minus infinity allowed.
        method: for the answer.
        raise_what: what to raise when it is refused.
        minimum_effective_sample_size: fewer effective weights are refused.
        is_reverse: the weights have the mean 1/Z (a walk from the target to the base): the
            estimate is then high in expectation, and its lower end is the careful one.
        level: probability of the interval.

    Raises:
        LogZNotEstimated: the effective sample size collapsed.

    Example:
        >>> import torch
        >>> log_weights = torch.randn(1000, generator=torch.Generator().manual_seed(0)).double()
        >>> found = log_z_of_weights(log_weights, method="a test", raise_what="n")
        >>> found.lower < 0.5 < found.upper                         # log E exp(N(0, 1))
        True
    """
    positive(minimum_effective_sample_size=minimum_effective_sample_size)
    in_unit_interval(level=level)
    log_weights = log_weights.double().cpu()
    n, effective = len(log_weights), effective_number(log_weights)
    if n < 2 or not effective >= minimum_effective_sample_size:
        raise LogZNotEstimated(
            f"effective_sample_size must be at least {minimum_effective_sample_size:g} for log Z "
            f"to mean anything, got {effective:.1f} of {n} weights ({method}); raise {raise_what}"
        )
    value = log_mean(log_weights)
    relative = math.sqrt(max(0.0, 1 / effective - 1 / n) * n / (n - 1))
    quantile = student_quantile(level, n - 1)
    near, far = quantile * relative, quantile * max(relative, _tail_error(log_weights))
    if is_reverse:
        value, near, far = -value, far, near
    return LogZ(
        log_z=value,
        standard_error=relative,
        lower=value - near,
        upper=value + far,
        effective_sample_size=effective,
        method=method,
        kind="interval",
        level=level,
    )


def _tail_error(log_weights: Tensor) -> float:
    """Error of the mean of n log-normal weights whose spread is that of the upper half."""
    above = log_weights - log_weights.median()
    above = above[above > 0]
    if len(above) == 0:
        return 0.0
    variance = float(above.square().mean())
    return math.sqrt(math.expm1(min(variance, 600.0)) / len(log_weights))
