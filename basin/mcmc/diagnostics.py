"""Convergence diagnostics of chains: split R-hat, effective sample size and E-BFMI.

    R-hat   sqrt of (variance of the pooled draws / variance within half-chains), on ranks; the
            larger of the bulk and the folded one. Near 1 when chains agree; above 1.01 they do not.
    ESS     how many independent draws would estimate as well, on ranks (bulk) or for the 5 % and
            95 % quantiles (tail)
    E-BFMI  sum of (E_n - E_{n-1})^2 over sum of (E_n - mean E)^2, for each chain: how far a step
            moves between energies, against their spread (Betancourt 2016, arXiv 1604.00695,
            section 3); below 0.3 the chain hardly reaches the tails

Source: Vehtari, Gelman, Simpson, Carpenter & Buerkner 2021 (arXiv 1903.08008), computed by
arviz-stats' array functions, which are imported at the first call. One number a coordinate.

Where a number cannot be had the answer is not a number: NaN with fewer than four draws a chain
(R-hat: or fewer than two chains), with NaN or infinity among the draws, and for a coordinate that
is the same in all draws. Chains that never moved, each in its own place, have R-hat = infinity
and an effective sample size of NaN.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor

__all__ = ["e_bfmi", "effective_sample_size", "split_rhat"]

_FEWEST_DRAWS = 4  # two halves of two draws: a variance in each


def split_rhat(positions: Tensor) -> Tensor:
    """Rank-normalised split R-hat, ``[*event]`` in float64.

    Args:
        positions: ``[chain, draw, *event]``.

    >>> import torch
    >>> draws = torch.randn(4, 500, 2, generator=torch.Generator().manual_seed(0))
    >>> bool((split_rhat(draws) < 1.02).all())
    True
    """
    columns = _columns(positions)
    values = [_rhat_of(column) for column in columns]
    return torch.tensor(values, dtype=torch.float64).reshape(positions.shape[2:])


def effective_sample_size(positions: Tensor, kind: Literal["bulk", "tail"] = "bulk") -> Tensor:
    """Effective sample size of all chains together, ``[*event]`` in float64.

    Args:
        positions: ``[chain, draw, *event]``.
        kind: "bulk" (for means and medians) or "tail" (the worse of the 5 % and 95 % quantiles).

    >>> import torch
    >>> draws = torch.randn(4, 500, generator=torch.Generator().manual_seed(0))
    >>> 1500 < float(effective_sample_size(draws)) < 2500
    True
    """
    if kind not in ("bulk", "tail"):
        raise ValueError(f'kind must be "bulk" or "tail", got {kind!r}')
    columns = _columns(positions)
    values = [_ess_of(column, kind) for column in columns]
    return torch.tensor(values, dtype=torch.float64).reshape(positions.shape[2:])


def e_bfmi(energies: Tensor) -> Tensor:
    """Energy Bayesian fraction of missing information of each chain, ``[chain]`` in float64.

    About 2 for independent draws, 2 (1 - rho) for energies with a correlation of rho from draw to
    draw.

    Args:
        energies: ``[chain, draw]``; of Hamiltonian Monte Carlo the total energy (with the kinetic
            one, after the momentum is drawn), else E at each draw.

    >>> import torch
    >>> draws = torch.randn(2, 5000, generator=torch.Generator().manual_seed(0))
    >>> bool(((e_bfmi(draws) - 2).abs() < 0.1).all())
    True
    """
    if energies.ndim != 2:
        raise ValueError(f"energies must have shape (chain, draw), got {tuple(energies.shape)}")
    chains = energies.detach().to("cpu", torch.float64)
    values = [
        math.nan if _is_undefined(chain) else float(_array_stats().bfmi(chain.numpy())[0])
        for chain in chains[:, None]
    ]
    return torch.tensor(values, dtype=torch.float64)


def _columns(positions: Tensor) -> list[Tensor]:
    """One ``[chain, draw]`` tensor of float64 a coordinate."""
    if positions.ndim < 2:
        raise ValueError(
            f"positions must have shape (chain, draw, *event), got {tuple(positions.shape)}"
        )
    flat = positions.detach().to("cpu", torch.float64).reshape(*positions.shape[:2], -1)
    return list(flat.unbind(dim=2))


def _rhat_of(column: Tensor) -> float:
    if len(column) < 2 or _is_undefined(column):
        return math.nan
    if _never_moved(column):
        return math.inf
    return float(_array_stats().rhat(column.numpy(), method="rank"))


def _ess_of(column: Tensor, kind: str) -> float:
    if _is_undefined(column) or _never_moved(column):
        return math.nan
    options = {"prob": 0.05} if kind == "tail" else {}
    return float(_array_stats().ess(column.numpy(), method=kind, **options))


def _is_undefined(column: Tensor) -> bool:
    too_few = column.shape[1] < _FEWEST_DRAWS
    return too_few or not bool(column.isfinite().all()) or bool((column == column[0, 0]).all())


def _never_moved(column: Tensor) -> bool:
    return bool((column == column[:, :1]).all())


def _array_stats() -> Any:
    try:
        from arviz_stats.base.array import array_stats
    except ImportError as error:
        raise ImportError(
            "the diagnostics of chains need arviz-stats: pip install arviz-stats"
        ) from error
    return array_stats
