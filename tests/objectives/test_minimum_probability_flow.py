"""Minimum probability flow against its closed form on Gaussians, and as a difference of KLs.

With x ~ N(0, v), E = lambda x^2/2 and steps of scale r,

    K = (1 + lambda r^2/2 - lambda^2 r^2 v/4)^(-1/2)           minimum at lambda = 1/v
"""

from __future__ import annotations

import importlib
import math

import pytest
import torch
from torch import nn

import basin
from basin.objectives import MinimumProbabilityFlow, minimum_probability_flow
from helpers.neighbours import Wavy, expectation, normal_nodes

MODULE = importlib.import_module("basin.objectives.minimum_probability_flow")
VARIANCE = 0.8


class Parabola(nn.Module):
    """E = lambda x^2/2 in one dimension."""

    def __init__(self, precision):
        super().__init__()
        self.precision = nn.Parameter(torch.tensor(precision, dtype=torch.float64))

    def forward(self, x):
        return self.precision * x.squeeze(1).square() / 2


def closed_form(precision, scale, variance=VARIANCE):
    bracket = 1 + precision * scale**2 / 2 - precision**2 * scale**2 * variance / 4
    return bracket**-0.5


def rates(energy, x, *, noise_scale, generator):
    return minimum_probability_flow(energy, x, noise_scale=noise_scale, generator=generator).exp()


def whole_difference(energy, x, *, noise_scale, generator):
    """Mutant: exp(E(x) - E(y)), without the half."""
    y = x + noise_scale * MODULE.normal_like(x, generator)
    return (energy(x) - energy(y)).exp()


def flipped(energy, x, *, noise_scale, generator):
    """Mutant: the rate into the row."""
    y = x + noise_scale * MODULE.normal_like(x, generator)
    return ((energy(y) - energy(x)) / 2).exp()


def mean_rate(energy, scale, function=rates):
    def loss(x, generator):
        return function(energy, x, noise_scale=scale, generator=generator)

    return expectation(loss, MODULE, VARIANCE)


@pytest.mark.parametrize("scale", [0.1, 0.5, 1.2])
@pytest.mark.parametrize("precision", [0.0, 0.6, 1.25, 1.8])
def test_the_rate_is_the_closed_form(precision, scale):
    found = float(mean_rate(Parabola(precision), scale).detach())
    assert found == pytest.approx(closed_form(precision, scale), abs=1e-8)


@pytest.mark.parametrize("mutant", [whole_difference, flipped])
def test_mutants_miss_the_closed_form(mutant):
    found = float(mean_rate(Parabola(0.6), 1.0, mutant).detach())
    assert abs(found - closed_form(0.6, 1.0)) > 0.01


@pytest.mark.parametrize("scale", [0.1, 1.2])
def test_the_optimum_is_the_precision_of_the_data_at_any_scale(scale):
    def slope(precision, function=rates):
        energy = Parabola(precision)
        return float(torch.autograd.grad(mean_rate(energy, scale, function), energy.precision)[0])

    best = 1 / VARIANCE
    assert abs(slope(best)) < 1e-9
    assert slope(0.9 * best) < -1e-6 < 1e-6 < slope(1.1 * best)
    assert abs(slope(best, whole_difference)) > 1e-3


def test_short_steps_are_score_matching_with_an_error_of_second_order():
    energy = Wavy()

    def remainder(scale):
        return float(8 / scale**2 * (mean_rate(energy, scale) - 1)) - energy.score_matching(
            VARIANCE
        )

    first, second, third = (remainder(scale) for scale in (0.1, 0.05, 0.025))
    assert 0 < abs(third) < 1e-3
    assert first / second == pytest.approx(4, rel=0.04)
    assert second / third == pytest.approx(4, rel=0.01)


def test_it_is_a_distance_of_square_roots_and_below_a_quarter_of_the_contraction_of_kl():
    """K - int sqrt(p p) k = D(sqrt f, sqrt f) <= D(f, log f) / 4, f = p / q, on Gaussians."""
    scale, precision = 0.9, 0.7
    nodes, weights = normal_nodes(100)
    x, z = torch.meshgrid(VARIANCE**0.5 * nodes, nodes, indexing="ij")
    y, weight = x + scale * z, weights[:, None] * weights[None, :]

    def log_f(x):
        """log p/q of the two normal densities."""
        log_p = -x.square() / (2 * VARIANCE) - 0.5 * math.log(2 * math.pi * VARIANCE)
        log_q = -precision * x.square() / 2 + 0.5 * math.log(precision / (2 * math.pi))
        return log_p - log_q

    # sqrt(q(x) q(y)) k dx dy, as a weight on x ~ p: sqrt(q(y) / q(x)) / f(x).
    flow = weight * (precision * (x.square() - y.square()) / 4 - log_f(x)).exp()
    roots = ((log_f(x) / 2).exp() - (log_f(y) / 2).exp()).square()
    contraction = (log_f(x).exp() - log_f(y).exp()) * (log_f(x) - log_f(y))
    distance = float((flow * roots).sum() / 2)
    speed = float((flow * contraction).sum() / 2)
    constant = closed_form(1 / VARIANCE, scale)
    assert closed_form(precision, scale) - constant == pytest.approx(distance, rel=1e-6)
    assert 0 < distance < speed / 4


@pytest.mark.statistical
def test_the_batch_means_are_the_closed_form():
    generator = torch.Generator().manual_seed(0)
    x = VARIANCE**0.5 * torch.randn(100_000, 1, generator=generator, dtype=torch.float64)
    found = minimum_probability_flow(
        Parabola(1.0), x, noise_scale=0.7, num_pairs=2, generator=generator
    )
    found = found.detach().exp()
    error = float(found.std()) / len(x) ** 0.5
    assert abs(float(found.mean()) - closed_form(1.0, 0.7)) < 3.9 * error


@pytest.mark.statistical
def test_the_gradient_of_large_batches_vanishes_at_the_optimum_only():
    objective = MinimumProbabilityFlow(noise_min=0.3, noise_max=0.9)

    def deviation(precision):
        energy, generator = Parabola(precision), torch.Generator().manual_seed(1)

        def rows(n):
            return VARIANCE**0.5 * torch.randn(n, 1, generator=generator, dtype=torch.float64)

        state, gradients = objective.init(rows(100), generator), []
        for _ in range(100):
            loss = objective(energy, rows(4096), state, generator)
            gradients.append(torch.autograd.grad(loss.value, energy.precision)[0])
        values = torch.stack(gradients)
        return float(values.mean() / (values.std() / len(values) ** 0.5))

    assert abs(deviation(1 / VARIANCE)) < 3.9
    assert deviation(1.1 / VARIANCE) > 3.9


def test_one_far_row_cannot_make_the_gradient_explode():
    x = torch.randn(64, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x[0] = 60.0
    energy, generator = Parabola(1.0), torch.Generator().manual_seed(0)
    objective = MinimumProbabilityFlow(noise_min=2.0, noise_max=2.0)
    loss = objective(energy, x, objective.init(x, generator), generator)
    (gradient,) = torch.autograd.grad(loss.value, energy.precision)
    assert float(loss.terms["largest_share"]) > 0.99
    assert abs(float(gradient)) < 1000
    (plain,) = torch.autograd.grad(
        rates(energy, x, noise_scale=2.0, generator=generator).mean(), energy.precision
    )
    assert abs(float(plain)) > 1e6  # mutant: without the logarithm


def test_blind_where_no_step_leads_from_mode_to_mode():
    x = basin.datasets.TwoBlobs().sample(2000, torch.Generator().manual_seed(0))

    def verdict(**scales):
        objective = MinimumProbabilityFlow(**scales)
        return objective.blindness(objective.init(x, torch.Generator()))

    assert "weights are not seen" in verdict(noise_max=0.5, leaps=0.0)
    assert verdict(noise_max=0.5) == ""
    assert verdict() == ""


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(noise_max=-1.0), "noise_max must be positive"),
        (dict(noise_min=2.0, noise_max=1.0), "noise_min must be at most noise_max"),
        (dict(num_pairs=0), "num_pairs must be a positive whole number"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        MinimumProbabilityFlow(**settings)
