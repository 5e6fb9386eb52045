"""The Langevin move and its proposal ratio, computed a second way."""

from __future__ import annotations

import pytest
import torch

from basin.mcmc.finiteness import finite_rows
from basin.mcmc.langevin_proposal import langevin_log_ratio, langevin_proposal


def log_proposal(to, start, score, step_size):
    """log q(to | start) up to a constant, straight from its definition."""
    return -(to - start - step_size * score).square().sum(dim=1) / (4 * step_size)


def test_ratio_is_that_of_the_two_gaussian_densities(generator):
    x, score, proposed_score, noise = torch.randn(
        4, 50, 3, generator=generator, dtype=torch.float64
    )
    moved = langevin_proposal(x, score, 0.3, noise)
    forth = log_proposal(moved, x, score, 0.3)
    back = log_proposal(x, moved, proposed_score, 0.3)
    ratio = langevin_log_ratio(score, proposed_score, 0.3, noise)
    assert torch.allclose(ratio, back - forth, atol=1e-12)
    assert not torch.allclose(ratio, forth - back, atol=1e-2)  # the mutant: the ratio reversed


def test_step_size_may_be_a_number_or_a_tensor(generator):
    x, score, noise = torch.randn(3, 5, 2, generator=generator)
    by_number = langevin_proposal(x, score, 0.2, noise)
    by_tensor = langevin_proposal(x, score, torch.full((5, 1), 0.2), noise)
    assert torch.allclose(by_number, by_tensor)
    assert torch.allclose(by_number, x + 0.2 * score + 0.4**0.5 * noise)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_finite_rows(bad):
    x = torch.zeros(3, 2, 2)
    x[1, 0, 1] = bad
    assert finite_rows(x).tolist() == [True, False, True]
    assert finite_rows(torch.tensor([1.0, bad])).tolist() == [True, False]
