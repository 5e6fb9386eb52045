"""Energy discrepancy against its closed form on Gaussians, its limits, and its identity with KL.

With x ~ N(0, v) and E = lambda x^2/2, U_t(y) = log(1 + lambda t)/2 + lambda y^2 / 2(1 + lambda t),

    ED_t = lambda v/2 - log(1 + lambda t)/2 - lambda (v + t) / 2(1 + lambda t)      minimum at 1/v
"""

from __future__ import annotations

import importlib
import math

import pytest
import torch
from torch import nn

import basin
from basin.objectives import (
    EnergyDiscrepancy,
    conditional_noise_contrastive_estimation,
    energy_discrepancy,
)

MODULE = importlib.import_module("basin.objectives.energy_discrepancy")
VARIANCE = 0.8


class Parabola(nn.Module):
    """E = lambda x^2/2 in one dimension."""

    def __init__(self, precision):
        super().__init__()
        self.precision = nn.Parameter(torch.tensor(precision, dtype=torch.float64))

    def forward(self, x):
        return self.precision * x.squeeze(1).square() / 2


def closed_form(precision, t, variance=VARIANCE):
    shrunk = precision / (1 + precision * t)
    return precision * variance / 2 - math.log1p(precision * t) / 2 - shrunk * (variance + t) / 2


def rows(n, generator):
    return VARIANCE**0.5 * torch.randn(n, 1, generator=generator, dtype=torch.float64)


def estimate(x, energy, *, t, num_neighbours, stabilisation, generator):
    return energy_discrepancy(
        energy,
        x,
        t=t,
        num_neighbours=num_neighbours,
        stabilisation=stabilisation,
        generator=generator,
    )


def flipped(x, energy, *, t, num_neighbours, stabilisation, generator):
    """Mutant: exp(E(x'_j) - E(x))."""
    return estimate(
        x,
        lambda points: -energy(points),
        t=t,
        num_neighbours=num_neighbours,
        stabilisation=stabilisation,
        generator=generator,
    )


def around_the_row(x, energy, *, t, num_neighbours, stabilisation, generator):
    """Mutant: the points x'_j drawn around x, not around its blurred self."""
    del stabilisation
    noise = torch.randn(num_neighbours, *x.shape, generator=generator, dtype=x.dtype)
    points = (x + t**0.5 * noise).flatten(0, 1)
    gaps = energy(x) - energy(points).unflatten(0, (num_neighbours, len(x)))
    return torch.logsumexp(gaps, dim=0) - math.log(num_neighbours)


def deviation_from_closed_form(function, precision, t, num_rows=1000, num_neighbours=500):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        loss = function(
            rows(num_rows, generator),
            Parabola(precision),
            t=t,
            num_neighbours=num_neighbours,
            stabilisation=0.0,
            generator=generator,
        )
    return float((loss.mean() - closed_form(precision, t)).abs() / (loss.std() / num_rows**0.5))


@pytest.mark.statistical
@pytest.mark.parametrize("t", [0.01, 0.5, 5.0])
@pytest.mark.parametrize("precision", [0.4, 1.25, 2.0])
def test_the_mean_is_the_closed_form_when_neighbours_are_many(precision, t):
    assert deviation_from_closed_form(estimate, precision, t) < 3.9


@pytest.mark.statistical
@pytest.mark.parametrize("mutant", [flipped, around_the_row])
def test_mutants_miss_the_closed_form(mutant):
    assert deviation_from_closed_form(mutant, 2.0, 0.5) > 3.9


def test_short_blurs_are_score_matching_and_long_ones_the_likelihood():
    """Both limits of the closed form, with errors O(t) and O(1/t)."""
    for precision in (0.4, 1.25, 2.0):
        score_matching = precision**2 * VARIANCE - 2 * precision
        likelihood = precision * VARIANCE / 2 + 0.5 * math.log(2 * math.pi / precision)
        short = [2 / t * closed_form(precision, t) - score_matching for t in (1e-3, 5e-4)]
        long = [
            closed_form(precision, t) + 0.5 * (math.log(2 * math.pi * t) + 1) - likelihood
            for t in (1e3, 2e3)
        ]
        for coarse, fine in (short, long):
            assert abs(fine) < 5e-3
            if abs(fine) > 1e-6:  # at the optimum an order vanishes
                assert coarse / fine == pytest.approx(2, rel=0.05)


def test_the_estimator_has_the_limit_of_score_matching():
    """With the same step for all nodes: one neighbour is half of conditional NCE, whose limit is
    tested to its rate; here that the two are the same function."""
    x = rows(50, torch.Generator().manual_seed(0))
    energy = Parabola(0.7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MODULE, "normal_like", lambda like, _: torch.full_like(like, 0.6))
        found = energy_discrepancy(energy, x, t=0.32, num_neighbours=1, generator=torch.Generator())
    other = importlib.import_module("basin.objectives.conditional_noise_contrastive_estimation")
    step = 1.2 * 0.32**0.5  # z + z', both 0.6, times sqrt t
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(other, "normal_like", lambda like, _: torch.ones_like(like))
        expected = conditional_noise_contrastive_estimation(
            energy, x, noise_scale=step, generator=torch.Generator()
        )
    torch.testing.assert_close(found, expected / 2)


def test_it_is_a_difference_of_kls():
    """KL(p || q) - KL(p_t || q_t) = ED_t - H(p) + H(p_t), and over t it tends to half of Fisher."""

    def kl(variance, model_variance):
        ratio = variance / model_variance
        return (ratio - 1 - math.log(ratio)) / 2

    def entropy(variance):
        return 0.5 * (math.log(2 * math.pi * variance) + 1)

    for t in (1e-4, 0.3, 10.0):
        for precision in (0.4, 2.0):
            contraction = kl(VARIANCE, 1 / precision) - kl(VARIANCE + t, 1 / precision + t)
            found = closed_form(precision, t) - entropy(VARIANCE) + entropy(VARIANCE + t)
            assert found == pytest.approx(contraction, abs=1e-12)
    fisher = (2.0 - 1 / VARIANCE) ** 2 * VARIANCE
    contraction = kl(VARIANCE, 0.5) - kl(VARIANCE + 1e-5, 0.5 + 1e-5)
    assert contraction / 1e-5 == pytest.approx(fisher / 2, rel=1e-4)


def mean_gradient(function, precision, num_neighbours=2, stabilisation=1.0, num_batches=100):
    energy, generator = Parabola(precision), torch.Generator().manual_seed(2)
    gradients = []
    for _ in range(num_batches):
        loss = function(
            rows(2000, generator),
            energy,
            t=0.5,
            num_neighbours=num_neighbours,
            stabilisation=stabilisation,
            generator=generator,
        ).mean()
        gradients.append(torch.autograd.grad(loss, energy.precision)[0])
    values = torch.stack(gradients)
    return float(values.mean() / (values.std() / num_batches**0.5))


def mirrored(x, energy, *, t, num_neighbours, stabilisation, generator):
    """Mutant: antithetic x'_j about one y, by which the one that is not in a pair is known."""
    z, other = (torch.randn(x.shape, generator=generator, dtype=x.dtype) for _ in range(2))
    points = torch.cat([x + t**0.5 * (z + sign * other) for sign in (1, -1)])
    gaps = energy(x) - energy(points).unflatten(0, (2, len(x)))
    return torch.logaddexp(torch.logsumexp(gaps, dim=0), torch.tensor(math.log(stabilisation)))


@pytest.mark.statistical
def test_a_stabilisation_of_one_is_right_for_two_neighbours():
    assert abs(mean_gradient(estimate, 1 / VARIANCE)) < 3.9
    assert mean_gradient(estimate, 1.15 / VARIANCE) > 3.9


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("function", "stabilisation"), [(estimate, 0.0), (estimate, 3.0), (mirrored, 1.0)]
)
def test_other_stabilisations_and_mirrored_neighbours_are_not(function, stabilisation):
    assert abs(mean_gradient(function, 1 / VARIANCE, stabilisation=stabilisation)) > 3.9


@pytest.mark.statistical
def test_antithetic_noise_keeps_the_mean_and_takes_out_variance():
    x = rows(20_000, torch.Generator().manual_seed(0))

    def loss(antithetic):
        with torch.no_grad():
            return energy_discrepancy(
                Parabola(2.0),
                x,
                t=0.02,
                antithetic=antithetic,
                generator=torch.Generator().manual_seed(1),
            )

    one, two = loss(False), loss(True)
    error = float((one.var() + two.var()).sqrt()) / len(x) ** 0.5
    assert abs(float(one.mean() - two.mean())) < 3.9 * error
    assert float(two.var()) < 0.2 * float(one.var())


def test_blind_for_a_short_blur_only():
    x = basin.datasets.TwoBlobs().sample(2000, torch.Generator().manual_seed(0))

    def verdict(**settings):
        objective = EnergyDiscrepancy(**settings)
        return objective.blindness(objective.init(x, torch.Generator()))

    assert "weights are not seen" in verdict(t_max=0.25, leaps=0.0)
    assert verdict(t_max=0.25) == ""
    assert verdict() == ""
    assert verdict(t_min=5.0, t_max=5.0) == ""


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(t_min=0.0), "t_min must be positive"),
        (dict(t_min=2.0, t_max=1.0), "t_min must be at most t_max"),
        (dict(num_neighbours=0), "num_neighbours must be a positive whole number"),
        (dict(stabilisation=-1.0), "stabilisation must be zero or positive"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        EnergyDiscrepancy(**settings)
