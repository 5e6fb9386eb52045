"""Posterior-mean targets: unbiased with the source an equal member, biased without it."""

from __future__ import annotations

import pytest
import torch

from basin.core import posterior_mean as module
from basin.core.posterior_mean import posterior_mean_targets, single_draw_targets


def naive_targets(y, reference, sigma):
    """The definition, in float64 and one pair at a time."""
    squared = (y[:, None] - reference[None]).double().square().sum(-1)
    weights = torch.softmax(-squared / (2 * sigma[:, None].double() ** 2), dim=1)
    difference = reference[None].double() - y[:, None].double()
    space = (weights[..., None] * difference).sum(1) / sigma[:, None].double() ** 2
    noise = (weights * squared).sum(1) / sigma.double() ** 2 - y.shape[1]
    return space, noise


def noised(dimension, sigmas):
    generator = torch.Generator().manual_seed(0)
    reference = 3 + torch.randn(50, dimension, generator=generator)
    sigma = torch.linspace(*sigmas, 20)
    y = reference[:20] + sigma[:, None] * torch.randn(20, dimension, generator=generator)
    return y, reference, sigma


def errors(targets, y, reference, sigma):
    """Largest errors of both targets, that in space in units of 1 / sigma."""
    space, noise = targets(y, reference, sigma)
    expected_space, expected_noise = naive_targets(y, reference, sigma)
    scale = sigma[:, None].double()
    in_space = ((space.double() - expected_space) * scale).abs().max()
    return float(in_space), float((noise.double() - expected_noise).abs().max())


@pytest.mark.parametrize("dimension", [2, 4, 5, 64])
def test_targets_are_the_posterior_means_of_the_definition(dimension):
    in_space, in_noise = errors(posterior_mean_targets, *noised(dimension, (0.05, 5)))
    assert in_space < 2e-5
    assert in_noise < 5e-4 * dimension  # squares of order one, multiplied out and cancelled


@pytest.mark.parametrize("dimension", [1, 2, 4])
def test_levels_far_below_the_spread_keep_their_distances(dimension, monkeypatch):
    close = noised(dimension, (1e-4, 1e-3))
    # What is left is the rounding of y itself, 4e-7 of 1e-4.
    assert max(errors(posterior_mean_targets, *close)) < 0.05
    # Mutant: squares multiplied out here as well.
    monkeypatch.setattr(module, "_may_multiply_out", lambda members, variance: True)
    assert max(errors(posterior_mean_targets, *close)) > 1


def test_members_without_weight_cost_no_meaning():
    """Far members are given e^-60 of the weight of the nearest one, and not zero."""
    reference = torch.tensor([[0.0], [1000.0]])
    space, noise = posterior_mean_targets(torch.tensor([[1.0]]), reference, torch.ones(1))
    assert space.item() == pytest.approx(-1.0, abs=1e-3)
    assert noise.item() == pytest.approx(0.0, abs=0.1)  # 1 - d, of squares of order 10^6


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
