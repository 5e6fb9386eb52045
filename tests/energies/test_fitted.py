"""Gaussians and mixtures fitted to rows."""

from __future__ import annotations

import pytest
import torch

from basin.energies import fit_covering_mixture, fit_gaussian, fit_gaussian_mixture
from helpers.known_densities import IsotropicMixture


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_gaussian_has_the_moments_of_the_rows_and_a_little_width():
    x = torch.randn(1000, 3, generator=generator()) * torch.tensor([1.0, 2.0, 0.0])
    found = fit_gaussian(x)
    torch.testing.assert_close(found.mean, x.double().mean(0))
    width = 0.01 * x.double().var(0, correction=0).mean()
    expected = torch.cov(x.T.double(), correction=0) + width * torch.eye(3)
    torch.testing.assert_close(found.covariance, expected)


def test_the_mixture_finds_blobs_with_their_weights():
    truth = IsotropicMixture([[-4.0, 0.0], [4.0, 0.0], [0.0, 6.0]], [0.6, 0.3, 0.1], 0.5)
    found = fit_gaussian_mixture(truth.sample(4000, generator()), 3, generator(1))
    order = found.weights.argsort(descending=True)
    assert (found.weights[order] - truth.mode_weights).abs().max() < 0.03
    assert (found.means[order] - truth.means).abs().max() < 0.1
    assert (found.covariances.diagonal(dim1=1, dim2=2).sqrt() - 0.5).abs().max() < 0.2


def test_its_likelihood_is_higher_than_the_gaussian_s_and_near_the_truth_s():
    truth = IsotropicMixture([[-2.0, 0.0], [2.0, 1.0]], [0.5, 0.5], 0.5)
    x, held_out = truth.sample(3000, generator()), truth.sample(3000, generator(2))
    mixture = float(fit_gaussian_mixture(x, 8, generator(1))(held_out).mean())
    assert mixture < float(fit_gaussian(x)(held_out).mean()) - 0.2
    assert mixture < float(-truth.log_prob(held_out).mean()) + 0.05


@pytest.mark.parametrize("distinct", [1, 3])
def test_more_components_than_different_rows(distinct):
    x = torch.arange(distinct + 1.0).repeat(20).unsqueeze(1)
    found = fit_gaussian_mixture(x, 16, generator())
    assert torch.isfinite(found(x)).all()


def test_images_constant_columns_and_few_rows():
    x = torch.rand(5, 4, 4, generator=generator())
    x[:, 0] = 0.5
    for found in (fit_gaussian(x), fit_gaussian_mixture(x, 16, generator())):
        assert torch.isfinite(found(x.flatten(1))).all()


def test_what_cannot_be_fitted_is_named():
    with pytest.raises(ValueError, match="at least two rows"):
        fit_gaussian(torch.zeros(1, 2))
    with pytest.raises(ValueError, match="x must vary"):
        fit_gaussian(torch.ones(4, 2))
    with pytest.raises(ValueError, match="num_components must be a positive whole number"):
        fit_gaussian_mixture(torch.zeros(4, 2), 0, generator())


def test_a_covering_mixture_is_the_fitted_one_widened_beside_a_wide_gaussian():
    x = torch.cat(
        [torch.randn(300, 2, generator=generator()) + 9, -torch.rand(300, 2, generator=generator())]
    )
    fitted = fit_gaussian_mixture(x, 2, generator(1))
    found = fit_covering_mixture(x, 2, generator(1), scale=1.5)
    torch.testing.assert_close(found.weights[:2], 0.9 * fitted.weights)
    torch.testing.assert_close(found.covariances[:2], 2.25 * fitted.covariances)
    torch.testing.assert_close(found.covariances[2], 9 * fit_gaussian(x).covariance)
    # Nowhere among the rows is it ten times thinner than the Gaussian of them all.
    wide = fit_gaussian(x)
    assert (found(x) - wide(x) < 3).all()
    far = wide.mean + 20 * wide.covariance.diagonal().sqrt()
    assert found(far[None]) < wide(far[None])
