"""Posterior-mean targets: unbiased with the source an equal member, biased without it."""

from __future__ import annotations

import pytest
import torch

from basin.core.posterior_mean import posterior_mean_targets, single_draw_targets


def naive_targets(y, reference, sigma):
    """The definition, in float64 and one pair at a time."""
    squared = (y[:, None] - reference[None]).double().square().sum(-1)
    weights = torch.softmax(-squared / (2 * sigma[:, None].double() ** 2), dim=1)
    difference = reference[None].double() - y[:, None].double()
    space = (weights[..., None] * difference).sum(1) / sigma[:, None].double() ** 2
    noise = (weights * squared).sum(1) / sigma.double() ** 2 - y.shape[1]
    return space, noise


@pytest.mark.parametrize("dimension", [2, 4, 5, 64])
def test_targets_are_the_posterior_means_of_the_definition(dimension):
    generator = torch.Generator().manual_seed(0)
    reference = 3 + torch.randn(50, dimension, generator=generator)
    sigma = torch.linspace(0.05, 5, 20)
    y = reference[:20] + sigma[:, None] * torch.randn(20, dimension, generator=generator)
    space, noise = posterior_mean_targets(y, reference, sigma)
    expected_space, expected_noise = naive_targets(y, reference, sigma)
    scale = sigma[:, None].double()
    assert torch.allclose(space.double() * scale, expected_space * scale, atol=1e-5)
    # Above four dimensions distances come from a matrix product in float32, which cancels.
    tolerance = 1e-5 if dimension <= 4 else 5e-4 * dimension
    assert torch.allclose(noise.double(), expected_noise, rtol=1e-5, atol=tolerance)


def test_images_keep_their_shape():
    x = torch.randn(6, 1, 2, 3, generator=torch.Generator().manual_seed(0))
    space, noise = posterior_mean_targets(x, x, torch.ones(6))
    assert space.shape == x.shape
    assert noise.shape == (6,)


def regression_of_target(targets, num_batches=1500, batch=4):
    """Means of (target x y) with standard errors: what a linear score would be fitted to.

    x ~ N(0, 1) and sigma = 1, every row of a batch noised with the batch as its reference.
    """
    generator = torch.Generator().manual_seed(1)
    values = []
    for _ in range(num_batches):
        x = torch.randn(batch, 1, generator=generator, dtype=torch.float64)
        y = x + torch.randn(batch, 1, generator=generator, dtype=torch.float64)
        space, noise = targets(y, x, torch.ones(batch).double())
        values.append(torch.stack([(space * y).mean(), (noise * y[:, 0].square()).mean()]))
    stacked = torch.stack(values)
    return stacked.mean(0), stacked.std(0) / num_batches**0.5


def without_source(y, x, sigma):
    """Mutant: each point's own source left out of its reference batch."""
    kept = [torch.cat([x[:i], x[i + 1 :]]) for i in range(len(x))]
    rows = [posterior_mean_targets(y[i : i + 1], kept[i], sigma[i : i + 1]) for i in range(len(x))]
    return torch.cat([space for space, _ in rows]), torch.cat([noise for _, noise in rows])


# E[-z y / sigma] = -1 and E[(z^2 - 1) y^2] = 2.
TRUTH = torch.tensor([-1.0, 2.0]).double()


@pytest.mark.statistical
def test_targets_are_unbiased_when_the_source_is_an_equal_member():
    mean, error = regression_of_target(posterior_mean_targets)
    assert ((mean - TRUTH).abs() < 3.9 * error).all(), (mean, error)


@pytest.mark.statistical
def test_leaving_the_source_out_is_caught():
    mean, error = regression_of_target(without_source)
    assert ((mean - TRUTH).abs() > 3.9 * error).all(), (mean, error)


def test_targets_vary_less_than_single_draws():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, 2, generator=generator)
    sigma = torch.full((512,), 2.0)
    z = torch.randn(512, 2, generator=generator)
    y = x + sigma[:, None] * z
    exact = -y / (1 + 4.0)
    single, _ = single_draw_targets(z, sigma)
    mean, _ = posterior_mean_targets(y, x, sigma)
    assert (mean - exact).square().mean() < 0.05 * (single - exact).square().mean()
