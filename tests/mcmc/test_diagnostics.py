"""R-hat and effective sample size: against arviz-stats, against a known answer, at the edges."""

from __future__ import annotations

import math

import pytest
import torch
from arviz_stats.base.array import array_stats

from basin.mcmc.diagnostics import effective_sample_size, split_rhat


def autoregressive(rho: float, num_chains: int, num_draws: int, generator) -> torch.Tensor:
    """Chains x_t = rho x_{t-1} + sqrt(1 - rho^2) z, at rest: ESS = N (1 - rho) / (1 + rho)."""
    noise = torch.randn(num_chains, num_draws, generator=generator, dtype=torch.float64)
    draws = [noise[:, 0]]
    for t in range(1, num_draws):
        draws.append(rho * draws[-1] + math.sqrt(1 - rho**2) * noise[:, t])
    return torch.stack(draws, dim=1)


def test_equals_arviz_coordinate_by_coordinate(generator):
    draws = torch.randn(4, 200, 2, 3, generator=generator).cumsum(dim=1).double()
    by_arviz = draws.numpy()
    assert split_rhat(draws).shape == (2, 3)
    for i in range(2):
        for j in range(3):
            column = by_arviz[:, :, i, j]
            assert float(split_rhat(draws)[i, j]) == float(array_stats.rhat(column))
            bulk, tail = (effective_sample_size(draws, kind)[i, j] for kind in ("bulk", "tail"))
            assert float(bulk) == float(array_stats.ess(column, method="bulk"))
            assert float(tail) == float(array_stats.ess(column, method="tail", prob=0.05))


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_effective_sample_size_of_an_autoregression(rho, generator):
    draws = autoregressive(rho, 4, 5_000, generator)
    expected = 20_000 * (1 - rho) / (1 + rho)
    assert float(effective_sample_size(draws)) == pytest.approx(expected, rel=0.15)


def test_rhat_sees_a_chain_elsewhere_and_a_chain_of_another_width(generator):
    draws = torch.randn(4, 1_000, generator=generator)
    assert float(split_rhat(draws)) < 1.01
    shifted, stretched = draws.clone(), draws.clone()
    shifted[0] += 1.0
    stretched[0] *= 3.0
    assert float(split_rhat(shifted)) > 1.05
    assert float(split_rhat(stretched)) > 1.05  # the folded part


def test_where_there_is_no_number_it_says_nan_and_stuck_chains_are_infinite(generator):
    draws = torch.randn(4, 100, 3, generator=generator)
    draws[..., 1] = 2.0
    draws[..., 2] = torch.arange(4.0).unsqueeze(1)
    rhat, ess = split_rhat(draws), effective_sample_size(draws)
    assert math.isfinite(float(rhat[0]))
    assert math.isfinite(float(ess[0]))
    assert math.isnan(float(rhat[1]))
    assert math.isnan(float(ess[1]))
    assert float(rhat[2]) == math.inf
    assert math.isnan(float(ess[2]))
    draws[0, 0, 0] = math.nan
    assert math.isnan(float(split_rhat(draws)[0]))
    assert math.isnan(float(effective_sample_size(draws, "tail")[0]))
    assert math.isnan(float(split_rhat(torch.randn(4, 3, generator=generator))))  # too few draws
    assert math.isnan(float(split_rhat(torch.randn(1, 99, generator=generator))))  # one chain


def test_refuses_what_it_cannot_read():
    with pytest.raises(ValueError, match=r"shape \(chain, draw"):
        split_rhat(torch.zeros(3))
    with pytest.raises(ValueError, match='"bulk" or "tail"'):
        effective_sample_size(torch.zeros(2, 10), "mean")
