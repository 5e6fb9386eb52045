"""How far the log Z that a model claims is from the true one, by quadrature (1-3 dimensions).

    error = log Z claimed - log ∫ exp(-E) dx        in nats

Every log-likelihood of the model is wrong by exactly minus this number. A model that says it is
normalised claims log Z = 0.
Cost: that of the quadrature.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from basin.evaluation.estimate import About, Estimate
from basin.evaluation.grid import Grid
from basin.partition.log_z import LogZ
from basin.partition.quadrature import quadrature

__all__ = ["log_z_error"]


def log_z_error(
    energy: Any,
    claimed: float | LogZ = 0.0,
    *,
    bounds: Tensor | Sequence[Any] | None = None,
    grid: Grid | None = None,
    about: About | None = None,
    block: int = 8192,
) -> Estimate:
    """Claimed minus true log Z of ``energy``.

    Args:
        energy: ``[batch, *event] -> [batch]``, at most three coordinates.
        claimed: the log Z that the model's log-likelihoods use.
        bounds: ``[*event, 2]``; looked for by default.
        grid: truth and model on a grid (two dimensions), to share it with other checks; the true
            log Z is then that of twice its box.
        about: what to state in the result.
        block: points evaluated at a time.

    Example:
        >>> unnormalised = lambda x: 0.5 * x.square().sum(1)
        >>> print(round(log_z_error(unnormalised, bounds=[[-9.0, 9.0]]).value, 4))  # -log √(2π)
        -0.9189
    """
    stated = claimed.log_z if isinstance(claimed, LogZ) else float(claimed)
    if grid is not None:
        true, error = grid.with_error(Grid.log_z)
    else:
        found = quadrature(energy, bounds, block=block)
        true, error = found.log_z, found.error
    details: dict[str, Any] = {"claimed": stated, "true": true}
    if isinstance(claimed, LogZ) and claimed.is_checked:
        details["claimed_standard_error"] = claimed.standard_error
        details["claimed_lower"], details["claimed_upper"] = claimed.lower, claimed.upper
    return Estimate(
        value=stated - true,
        standard_error=error if math.isfinite(error) else None,
        floor=0.0,
        p_value=None,
        n=None,
        meaning="claimed minus true log Z, in nats, by quadrature",
        about=about or About(),
        details=details,
    )
