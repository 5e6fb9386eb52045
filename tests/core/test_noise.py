"""Noise with the variance taken out keeps the law of each draw."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from basin.core.noise import (
    antithetic,
    complementary_radius,
    log_uniform_stratified,
    paired_radii,
    stratified_uniform,
)


@pytest.mark.parametrize("dimension", [1, 2, 3, 10, 64, 784])
def test_complementary_radius_is_the_other_chi_squared_quantile(dimension):
    probabilities = torch.tensor([1e-7, 1e-4, 0.1, 0.5, 0.9, 1 - 1e-4, 1 - 1e-7]).double()
    radius = torch.tensor(stats.chi.ppf(probabilities.numpy(), dimension))
    expected = torch.tensor(stats.chi.isf(stats.chi.cdf(radius.numpy(), dimension), dimension))
    assert torch.allclose(complementary_radius(radius, dimension), expected, rtol=1e-6)


@pytest.mark.parametrize("dimension", [1, 2, 3, 10, 784])
def test_complementary_radius_far_out(dimension):
    """To the stated 1e-9, where the approximation that it starts from is far off."""
    law = stats.chi(dimension)
    small, large = law.ppf([1e-12, 1e-9, 1e-5]), law.isf([1e-12, 1e-9, 1e-5])
    radius = torch.tensor([*small, *large])
    expected = torch.tensor([*law.isf(law.cdf(small)), *law.ppf(law.sf(large))])
    assert torch.allclose(complementary_radius(radius, dimension), expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("dimension", [1, 2, 3, 64])
def test_noise_of_length_zero_stays_finite(dimension):
    """Torch draws an exact 0.0 once in 10^7 float32 normals: in one dimension, a whole row."""
    z = torch.zeros(2, dimension)
    z[1] = 1.0
    pair = paired_radii(z)
    assert pair.isfinite().all()
    assert torch.equal(pair[2], z[0])
    assert torch.equal(pair[3], paired_radii(z[1:])[1])


@pytest.mark.statistical
@pytest.mark.parametrize("dimension", [1, 2, 7, 64])
def test_paired_radii_are_standard_normal_and_share_a_direction(dimension):
    z = torch.randn(20_000, dimension, generator=torch.Generator().manual_seed(0))
    pair = paired_radii(z)
    first, second = pair.split(len(z))
    assert torch.equal(first, z)
    assert stats.kstest(second[:, 0].numpy(), "norm").pvalue > 1e-4
    assert stats.kstest(second.square().sum(1).numpy(), stats.chi2(dimension).cdf).pvalue > 1e-4
    cosine = torch.nn.functional.cosine_similarity(first, second)
    assert torch.allclose(cosine, torch.ones_like(cosine), atol=1e-4)


@pytest.mark.statistical
def test_a_scaled_partner_is_caught():
    """Mutant: the complementary radius two per cent too long."""
    z = torch.randn(20_000, 7, generator=torch.Generator().manual_seed(0))
    mutant = 1.02 * paired_radii(z)[len(z) :]
    assert stats.kstest(mutant.square().sum(1).numpy(), stats.chi2(7).cdf).pvalue < 1e-4


@pytest.mark.statistical
@pytest.mark.parametrize("dimension", [2, 10, 64])
def test_paired_radii_cancel_as_much_of_the_noise_target_as_quantiles_can(dimension):
    """Their correlation is that of the chi-squared quantiles at u and 1 - u."""
    u = torch.linspace(0, 1, 200_001).double()[1:-1].numpy()
    law = stats.chi2(dimension)
    exact = ((law.ppf(u) - dimension) * (law.ppf(1 - u) - dimension)).mean() / (2 * dimension)
    z = torch.randn(20_000, dimension, generator=torch.Generator().manual_seed(0))
    first, second = paired_radii(z).square().sum(1).split(len(z))
    found = torch.corrcoef(torch.stack([first, second]))[0, 1]
    assert exact < -0.6
    assert abs(found - exact) < 0.03


def test_antithetic_noise_cancels_exactly():
    z = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(antithetic(z).view(2, 5, 2, 3).sum(0), torch.zeros(5, 2, 3))


def test_stratified_draws_fill_every_cell_and_are_uniform_each():
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([stratified_uniform(8, generator) for _ in range(2000)])
    assert torch.equal((draws * 8).long().sort(1).values, torch.arange(8).expand(2000, 8))
    assert stats.kstest(draws[:, 0].numpy(), "uniform").pvalue > 1e-4


def test_log_uniform_levels_stay_within_their_ends():
    levels = log_uniform_stratified(0.1, 10.0, 512, torch.Generator().manual_seed(0))
    assert levels.min() >= 0.1
    assert levels.max() <= 10.0 * (1 + 1e-6)
    assert abs(levels.log().mean()) < 0.01
