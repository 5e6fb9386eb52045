"""The blurred mixture, against the mixture of blurred covariances, autograd and heat equation."""

from __future__ import annotations

import pytest
import torch

from basin.core.gradients import dual_score
from basin.energies import GaussianMixture, NoisedGaussianMixture
from helpers.known_densities import IsotropicMixture

WEIGHTS = [0.6, 0.3, 0.1]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def blobs(n=600, seed=0):
    """Three stretched clouds in three dimensions."""
    stretch = torch.tensor([[1.0, 0.3, 0.0], [0.0, 0.5, 0.2], [0.0, 0.0, 0.1]]).double()
    truth = IsotropicMixture([[-4.0, 0.0, 0.0], [4.0, 1.0, 0.0], [0.0, 6.0, 2.0]], WEIGHTS, 0.7)
    return truth.sample(n, generator(seed)) @ stretch


@pytest.fixture(params=[1, 3, 5], ids="{} components".format)
def energy(request):
    fitted = NoisedGaussianMixture(3, request.param).double()
    fitted.fit(blobs(), generator(1))
    return fitted


@pytest.fixture
def points():
    x = blobs(9, seed=2) + torch.randn(9, 3, generator=generator(3), dtype=torch.float64)
    return x, 0.1 + 2 * torch.rand(9, generator=generator(4), dtype=torch.float64)


def test_it_is_the_mixture_with_the_noise_in_its_covariances(energy, points):
    x, _ = points
    covariances = (energy.axes * energy.variances.unsqueeze(1)) @ energy.axes.mT
    for sigma in (0.05, 1.0, 20.0):
        noise = sigma**2 * torch.eye(3, dtype=torch.float64)
        blurred = GaussianMixture(energy.means, covariances + noise, energy.weights)
        torch.testing.assert_close(energy(x, sigma), blurred(x))
        torch.testing.assert_close(energy.score(x, sigma), blurred.score(x))
        unblurred = GaussianMixture(energy.means, covariances + 1e-3 * noise, energy.weights)
        assert (unblurred(x) - energy(x, sigma)).abs().max() > 1e-3  # the mutant: too little noise


def test_both_derivatives_are_those_of_autograd(energy, points):
    closed = energy.dual_score(*points)
    by_autograd = dual_score(lambda x, sigma: energy(x, sigma), *points)
    for first, second in zip(closed, by_autograd, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-10, atol=1e-10)


def test_it_solves_the_heat_equation(energy, points):
    """dp/dlog sigma = sigma^2 (Laplacian of p), so -dE/dlog sigma = sigma^2 (|s|^2 + div s)."""
    x, sigma = points
    jacobians = torch.func.vmap(
        torch.func.jacrev(lambda row, level: energy.score(row[None], level[None])[0])
    )(x, sigma)
    divergence = jacobians.diagonal(dim1=1, dim2=2).sum(1)
    in_space, in_noise = energy.dual_score(x, sigma)
    heat = sigma.square() * (in_space.square().sum(1) + divergence)
    torch.testing.assert_close(in_noise, heat)
    assert not torch.allclose(-in_noise, heat)  # the mutant: its sign


def test_the_fit_finds_clusters_and_one_component_the_moments():
    x = blobs(3000)
    one, three = NoisedGaussianMixture(3).double(), NoisedGaussianMixture(3, 3).double()
    for energy in (one, three):
        energy.fit(x, generator(1))
    weights = three.weights.sort(descending=True).values
    torch.testing.assert_close(weights, torch.tensor(WEIGHTS).double(), atol=0.03, rtol=0)
    assert three(x, 0.1).mean() < one(x, 0.1).mean() - 0.5
    torch.testing.assert_close(one.means[0], x.mean(0))
    ridge = torch.eye(3).double() * x.var(0).mean()
    for energy, count in ((one, 1), (three, 3)):  # a mixture fitted to rows has their moments
        mean, covariance = energy.moments(0.5)
        torch.testing.assert_close(mean, x.mean(0))
        expected = torch.cov(x.T) + ridge * count / len(x) + 0.25 * torch.eye(3).double()
        torch.testing.assert_close(covariance, expected, rtol=1e-3, atol=1e-3)


def test_draws_have_the_moments_of_their_level(energy):
    draws = energy.sample_base(40_000, generator(5), 0.7)
    mean, covariance = energy.moments(0.7)
    deviation = covariance.diagonal().sqrt()
    assert ((draws.mean(0) - mean).abs() < 5 * deviation / 200).all()
    correlations = (torch.cov(draws.T) - covariance) / (deviation * deviation[:, None])
    assert correlations.abs().max() < 5 * (2 / 40_000) ** 0.5
    assert not (energy.sample_base(4, generator(5), 1.4) == draws[:4]).any()


def test_no_more_components_than_rows_can_bear(points):
    """With 11 rows of 3 coordinates two covariances of 4 rows each; the rest has weight 0."""
    energy = NoisedGaussianMixture(3, 6).double()
    energy.fit(blobs(11), generator(1))
    assert energy.weights.count_nonzero() == 2
    assert all(torch.isfinite(part).all() for part in energy.dual_score(*points))
    x = points[0].requires_grad_(True)
    assert torch.isfinite(torch.autograd.grad(energy(x, 0.3).sum(), x)[0]).all()
    assert torch.isfinite(energy.sample_base(100, generator(2), 0.1)).all()


def test_rows_that_are_all_the_same_or_half_constant(points):
    energy = NoisedGaussianMixture(3, 4).double()
    energy.fit(torch.ones(50, 3).double(), generator(1))
    assert torch.isfinite(energy(points[0], 0.1)).all()
    rows = blobs(50)
    rows[:, 1] = 0.5
    energy.fit(rows, generator(1))
    assert torch.isfinite(energy.score(rows, 0.05)).all()


def test_same_seed_same_numbers():
    first, second = NoisedGaussianMixture(3, 4), NoisedGaussianMixture(3, 4)
    first.fit(blobs(), generator(1))
    second.fit(blobs(), generator(1))
    assert all(torch.equal(a, b) for a, b in zip(first.buffers(), second.buffers(), strict=True))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="num_components must be a positive whole number"):
        NoisedGaussianMixture(2, 0)
    with pytest.raises(ValueError, match="at least two rows"):
        NoisedGaussianMixture(2).fit(torch.zeros(1, 2), generator())
    with pytest.raises(ValueError, match="x must be finite"):
        NoisedGaussianMixture(2).fit(torch.full((3, 2), torch.nan), generator())
    with pytest.raises(ValueError, match="x must have"):
        NoisedGaussianMixture(2)(torch.zeros(4, 3), 0.1)
