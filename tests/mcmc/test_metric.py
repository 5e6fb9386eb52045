"""Metrics: L L' is what was given, they are values, and what they learn is the formula."""

from __future__ import annotations

import json
import math

import pytest
import torch

from basin.core.describe import build, describe
from basin.mcmc import metric as metrics
from basin.mcmc.metric import DenseMetric, DiagonalMetric, IdentityMetric
from basin.mcmc.running_moments import RunningMoments

COVARIANCE = [[2.0, 0.6], [0.6, 0.5]]
GIVEN = [IdentityMetric(), DiagonalMetric([2.0, 0.5]), DenseMetric(COVARIANCE)]
ALL = [*GIVEN, DiagonalMetric(), DenseMetric()]
INVERSE_MASS = [torch.eye(2), torch.diag(torch.tensor([2.0, 0.5])), torch.tensor(COVARIANCE)]


@pytest.mark.parametrize(("metric", "truth"), list(zip(GIVEN, INVERSE_MASS)))
def test_spread_and_pull_are_the_halves_of_the_inverse_mass(metric, truth):
    identity = torch.eye(2)
    factor = metric.spread(identity).mT  # rows of spread(I) are L e_i
    torch.testing.assert_close(factor @ factor.mT, truth)
    torch.testing.assert_close(metric.pull(identity), factor)  # rows of pull(I) are L' e_i


@pytest.mark.parametrize("metric", ALL)
def test_a_metric_is_a_value_that_a_config_can_hold(metric):
    again = build(json.loads(json.dumps(describe(metric))), [metrics])
    assert again == metric
    assert hash(again) == hash(metric)
    assert sum(other == metric for other in ALL) == 1


def test_precision_and_layout_are_no_part_of_the_value():
    single = DiagonalMetric(torch.tensor([2.0, 0.5]))
    assert single == DiagonalMetric([2.0, 0.5])
    assert hash(single) == hash(DiagonalMetric([2.0, 0.5]))
    assert single != DiagonalMetric([2.0, 0.25])
    assert single != DiagonalMetric([[2.0, 0.5]])


def test_the_numbers_given_are_copied():
    variances = torch.tensor([2.0, 0.5])
    metric = DiagonalMetric(variances)
    variances.zero_()
    assert metric == DiagonalMetric([2.0, 0.5])


def test_long_ones_are_not_printed():
    assert repr(DiagonalMetric()) == "DiagonalMetric()"
    assert repr(DiagonalMetric([1.0, 2.0])) == "DiagonalMetric([1.0, 2.0])"
    assert repr(DenseMetric(torch.eye(50))) == "DenseMetric(50 x 50 numbers)"


@pytest.mark.parametrize("metric", [DiagonalMetric(), DenseMetric()])
def test_learns_the_regularised_covariance(metric, generator):
    """n / (n + 5) of the covariance and 5 / (n + 5) of 0.001, in any shape of event."""
    x = torch.randn(4, 30, 2, 2, generator=generator, dtype=torch.float64)
    moments = metric.moments(x[0])
    for rows in x:
        moments = moments.with_rows(rows)
    learned = metric.learned(moments, x[0])
    covariance = torch.cov(x.reshape(-1, 4).mT)
    truth = 120 / 125 * covariance + 5 / 125 * 1e-3 * torch.eye(4, dtype=torch.float64)
    if isinstance(learned, DiagonalMetric):
        torch.testing.assert_close(learned.variances, truth.diag().reshape(2, 2))
    else:
        torch.testing.assert_close(learned.covariance, truth)


def test_fewer_draws_than_dimensions_still_give_a_metric(generator):
    x = torch.randn(3, 20, generator=generator)
    learned = DenseMetric().learned(DenseMetric().moments(x).with_rows(x), x)
    assert learned.spread(x).isfinite().all()


def test_moments_do_not_lose_small_variances_beside_large_means(generator):
    """The mutant: mean of squares less square of mean, in the same float32 rows."""
    x = 1e4 + 1e-2 * torch.randn(10, 1000, 1, generator=generator)
    moments = RunningMoments.of_coordinates(x[0])
    for rows in x:
        moments = moments.with_rows(rows)
    truth = float(x.double().var())
    assert float(moments.covariance()) == pytest.approx(truth, rel=1e-9)
    assert abs(float(x.square().mean() - x.mean().square()) - truth) > 0.1 * truth


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: DiagonalMetric([1.0, 0.0]), r"variances must be positive, got \[1.0, 0.0\]"),
        (lambda: DiagonalMetric([1.0, math.nan]), "variances must be finite"),
        (lambda: DenseMetric([1.0, 2.0]), "covariance must be a symmetric matrix"),
        (lambda: DenseMetric([[1.0, 0.5], [0.0, 1.0]]), "covariance must be a symmetric matrix"),
        (lambda: DenseMetric([[1.0, 2.0], [2.0, 1.0]]), "must be positive definite.*take Diagonal"),
        (lambda: IdentityMetric().moments(torch.zeros(1, 1)), "learns nothing"),
    ],
)
def test_refuses_what_is_no_metric(make, words):
    with pytest.raises((ValueError, TypeError), match=words):
        make()
