"""Conditional noise-contrastive estimation: its optimum, and its limit at the rate of the theory.

With x ~ N(0, v) and E = lambda x^2/2 the expectation over x and z is a smooth integral, here by
quadrature. The expansion in the scale r (softplus(D) = log 2 + D/2 + D^2/8 + O(D^4)) gives

    J = 2 log 2 + r^2/4 E[ E'^2 - 2 E'' ] + O(r^4)
"""

from __future__ import annotations

import importlib
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import softplus

import basin
from basin.objectives import (
    ConditionalNoiseContrastiveEstimation,
    conditional_noise_contrastive_estimation,
)
from helpers.neighbours import Wavy, expectation

MODULE = importlib.import_module("basin.objectives.conditional_noise_contrastive_estimation")
VARIANCE = 0.8


class Parabola(nn.Module):
    """E = lambda x^2/2 in one dimension."""

    def __init__(self, precision):
        super().__init__()
        self.precision = nn.Parameter(torch.tensor(precision, dtype=torch.float64))

    def forward(self, x):
        return self.precision * x.squeeze(1).square() / 2


def mean_loss(energy, scale, function=conditional_noise_contrastive_estimation):
    def loss(x, generator):
        return function(energy, x, noise_scale=scale, generator=generator)

    return expectation(loss, MODULE, VARIANCE)


def flipped(energy, x, *, noise_scale, generator):
    """Mutant: the neighbour taken for the data."""
    y = x + noise_scale * MODULE.normal_like(x, generator)
    return 2 * softplus(energy(y) - energy(x))


def one_sided(energy, x, *, noise_scale, generator):
    """Mutant: log(1 + exp(-G)) without its factor 2."""
    return 0.5 * conditional_noise_contrastive_estimation(
        energy, x, noise_scale=noise_scale, generator=generator
    )


def slope(precision, scale, function=conditional_noise_contrastive_estimation):
    energy = Parabola(precision)
    return float(torch.autograd.grad(mean_loss(energy, scale, function), energy.precision)[0])


@pytest.mark.parametrize("scale", [0.05, 0.5, 1.5])
def test_the_optimum_is_the_precision_of_the_data_at_any_scale(scale):
    best = 1 / VARIANCE
    assert abs(slope(best, scale)) < 1e-7
    assert slope(0.9 * best, scale) < -1e-5 < 1e-5 < slope(1.1 * best, scale)


def test_the_mutant_has_another_optimum():
    assert slope(1 / VARIANCE, 0.5, flipped) > 0.01


def remainder(scale, function=conditional_noise_contrastive_estimation):
    """How far (4 / r^2) (J - 2 log 2) is from exact score matching."""
    energy = Wavy()
    limit = energy.score_matching(VARIANCE)
    return float(4 / scale**2 * (mean_loss(energy, scale, function) - 2 * math.log(2)) - limit)


def test_small_noise_is_score_matching_with_an_error_of_second_order():
    first, second, third = (remainder(scale) for scale in (0.1, 0.05, 0.025))
    assert 0 < abs(third) < 1e-3
    assert first / second == pytest.approx(4, rel=0.04)
    assert second / third == pytest.approx(4, rel=0.01)


@pytest.mark.parametrize("mutant", [flipped, one_sided])
def test_mutants_miss_the_limit(mutant):
    assert abs(remainder(0.1, mutant)) > 0.1


@pytest.mark.statistical
def test_the_mean_over_draws_is_the_expectation():
    generator = torch.Generator().manual_seed(0)
    x = VARIANCE**0.5 * torch.randn(100_000, 1, generator=generator, dtype=torch.float64)
    energy = Wavy()
    loss = conditional_noise_contrastive_estimation(
        energy, x, noise_scale=0.7, num_pairs=3, generator=generator
    )
    error = float(loss.std()) / len(x) ** 0.5
    assert abs(float(loss.mean() - mean_loss(energy, 0.7))) < 3.9 * error


def test_each_row_has_its_scale():
    x = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    scale = torch.tensor([0.1, 0.1, 0.1, 2.0, 2.0, 2.0])

    def loss(scale, rows):
        return conditional_noise_contrastive_estimation(
            lambda x: x.square().sum(1),
            x,
            noise_scale=scale,
            generator=torch.Generator().manual_seed(1),
        )[rows]

    torch.testing.assert_close(loss(scale, slice(3)), loss(0.1, slice(3)))
    torch.testing.assert_close(loss(scale, slice(3, 6)), loss(2.0, slice(3, 6)))


def test_blind_where_no_step_leads_from_mode_to_mode():
    x = basin.datasets.TwoBlobs().sample(2000, torch.Generator().manual_seed(0))

    def verdict(**scales):
        objective = ConditionalNoiseContrastiveEstimation(**scales)
        return objective.blindness(objective.init(x, torch.Generator()))

    assert "weights are not seen" in verdict(noise_max=0.5, leaps=0.0)
    assert verdict(noise_max=0.5) == ""
    assert verdict() == ""
    assert verdict(noise_min=3.0, noise_max=3.0) == ""


def test_a_loss_relative_to_one_that_cannot_tell():
    objective = ConditionalNoiseContrastiveEstimation()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 2, generator=generator)
    loss = objective(lambda x: 0 * x.sum(1), x, objective.init(x, generator), generator)
    assert float(loss.value) == pytest.approx(float(loss.terms["trivial"]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(noise_min=0.0), "noise_min must be positive"),
        (dict(noise_min=2.0, noise_max=1.0), "noise_min must be at most noise_max"),
        (dict(num_pairs=0), "num_pairs must be a positive whole number"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        ConditionalNoiseContrastiveEstimation(**settings)
