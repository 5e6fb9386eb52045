"""Mean log density of held-out rows in nats, beside that of a Gaussian.

    value = (1/n) Σ log pθ(x_i)        in the user's units, the log-determinant of scaling included

A number of nats alone says nothing: it moves with the units. So beside it stands the Gaussian with
the mean and covariance of the training rows, and the difference row by row, whose error is small
because both see the same rows. Where the truth is known its own mean log density is the floor (here
the value a perfect model would get, an upper one). An error of log Z moves every row alike: no
number of rows averages it out, so it is added to the errors of the value and of the difference.
Cost: one log density a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from basin.core.types import Density
from basin.core.validation import all_finite, non_negative, same_event_shape
from basin.evaluation.estimate import About, Estimate

__all__ = ["held_out_log_likelihood"]


def held_out_log_likelihood(
    log_prob: Callable[[Tensor], Tensor],
    held_out: Tensor,
    *,
    train: Tensor | None = None,
    added_variance: Tensor | float = 0.0,
    density: Density | None = None,
    log_z_standard_error: float = 0.0,
    about: About | None = None,
) -> Estimate:
    """Mean of ``log_prob`` over held-out rows, with a Gaussian's.

    Args:
        log_prob: ``[n, *event] -> [n]`` in nats, normalised, in the units of ``held_out``.
        held_out: rows not trained on, ``[n, *event]``; with noise added for a model of pσ, or
            clean to ask how the blurred density predicts data as they come.
        train: training rows ``[m, *event]`` that fit the Gaussian; no Gaussian without them.
        added_variance: variance of the noise in ``held_out``, a number or ``[*event]``, added to
            the Gaussian's covariance so that both models are of one density.
        density: the truth of ``held_out`` where it is known; gives the floor.
        log_z_standard_error: of the log Z in ``log_prob``, 0 where that is exact.
        about: what to state in the result.

    Returns:
        ``standard_error``: over the rows and of log Z; ``details``: ``gaussian``,
        ``gain_over_gaussian`` and its standard error; ``gaussian`` is ``None`` with
        ``gaussian_reason`` where the covariance is singular. With ``density``: ``gap_to_truth``,
        the mean of log p - log pθ (when the rows are draws of p, an estimate of the KL divergence
        plus the error of log Z), its error over the rows, and ``mean_absolute_gap``.

    Example:
        >>> import torch
        >>> g = torch.Generator().manual_seed(0)
        >>> train, x = torch.randn(5000, 1, generator=g), torch.randn(5000, 1, generator=g)
        >>> exact = lambda x: -0.5 * x[:, 0] ** 2 - 0.5 * torch.log(torch.tensor(2 * torch.pi))
        >>> found = held_out_log_likelihood(exact, x, train=train)
        >>> round(found.value, 1), abs(found.details["gain_over_gaussian"]) < 0.01
        (-1.4, True)
    """
    non_negative(log_z_standard_error=log_z_standard_error)
    all_finite("held_out", held_out)
    if len(held_out) < 2:
        raise ValueError(f"held_out must have two rows or more, got {len(held_out)}")
    with torch.no_grad():
        values = log_prob(held_out).detach().double().cpu()
    same_event_shape("log_prob(held_out)", values, ())
    n = len(values)
    details: dict[str, Any] = {}
    if train is not None:
        same_event_shape("train", train, held_out.shape[1:])
        of_gaussian = _gaussian_log_prob(train, held_out, added_variance)
        if isinstance(of_gaussian, str):
            details |= {"gaussian": None, "gaussian_reason": of_gaussian}
        else:
            gain = values - of_gaussian
            details |= {
                "gaussian": float(of_gaussian.mean()),
                "gain_over_gaussian": float(gain.mean()),
                "gain_standard_error": _with_log_z(gain, log_z_standard_error),
            }
    floor = None
    if density is not None:
        truth = density.log_prob(held_out).double().cpu()
        floor = float(truth.mean())
        details["gap_to_truth"] = float((truth - values).mean())
        details["gap_standard_error"] = float((truth - values).std()) / math.sqrt(n)
        details["mean_absolute_gap"] = float((truth - values).abs().mean())
    return Estimate(
        value=float(values.mean()),
        standard_error=_with_log_z(values, log_z_standard_error),
        floor=floor,
        p_value=None,
        n=n,
        meaning="mean log density of held-out rows, in nats, in the units of the data",
        about=about or About(),
        details=details,
    )


def _with_log_z(of_rows: Tensor, log_z_standard_error: float) -> float:
    """Standard error of a mean over rows that all share one log Z."""
    return math.hypot(float(of_rows.std()) / math.sqrt(len(of_rows)), log_z_standard_error)


def _gaussian_log_prob(train: Tensor, x: Tensor, added_variance: Tensor | float) -> Tensor | str:
    """log N(x; mean, covariance of train + added variance), or why there is none."""
    rows, queries = train.flatten(1).double().cpu(), x.flatten(1).double().cpu()
    if len(rows) < 2:
        return "one training row has no covariance"
    mean = rows.mean(dim=0)
    added = torch.as_tensor(added_variance, dtype=torch.float64).expand(x.shape[1:]).flatten()
    covariance = (rows - mean).T @ (rows - mean) / len(rows) + torch.diag(added)
    factor, failed = torch.linalg.cholesky_ex(covariance)
    spread = covariance.diagonal().sqrt()
    if int(failed) or bool((factor.diagonal() < 1e-7 * spread).any()):
        return "the covariance of the training rows is singular (constant or dependent columns)"
    whitened = torch.linalg.solve_triangular(factor, (queries - mean).T, upper=False)
    log_determinant = factor.diagonal().log().sum()
    constant = 0.5 * rows.shape[1] * math.log(2 * math.pi)
    return -0.5 * whitened.square().sum(dim=0) - log_determinant - constant
