"""Calibration of densities: regions of known mass, uniform p-values, wrong widths found."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import kstest

from basin.evaluation import highest_density_calibration, marginal_calibration
from helpers.statistics import THRESHOLD


def standard(x):
    """Energy of N(0, I)."""
    return 0.5 * x.square().sum(1)


def normal(n, dim, generator):
    return torch.randn(n, dim, generator=generator, dtype=torch.float64)


def test_regions_of_a_wide_model_in_closed_form(generator):
    """d = 2: r² / (2 s²) is exponential. A model of variance 4 holds 1 - a⁴ in its 1 - a region."""
    data, samples = normal(4000, 2, generator), 2 * normal(4000, 2, generator)
    found = highest_density_calibration(lambda x: standard(x) / 4, data, samples)
    for region in found.details["regions"]:
        truth = 1 - (1 - region["level"]) ** 4
        # Samples err in the level where a⁴ has slope 4 a³.
        error = region["standard_error"] + 4 * (1 - region["level"]) ** 3 * 0.01
        assert abs(region["share"] - truth) < 3.9 * error
    # sup over a of a - a⁴ is at a = 4^(-1/3).
    largest = 4 ** (-1 / 3) - 4 ** (-4 / 3)
    assert abs(found.value - largest) < 3.9 * found.standard_error
    assert found.p_value < 1e-10


def test_marginals_of_shifted_gaussians_in_closed_form(generator):
    """sup |Φ(x) - Φ(x - m)| = 2 Φ(m / 2) - 1."""
    samples, data = normal(4000, 3, generator), normal(4000, 3, generator)
    samples[:, 1] += 0.5
    found = marginal_calibration(samples, data)
    truth = math.erf(0.25 / math.sqrt(2))
    assert found.details["worst_coordinate"] == 1
    assert abs(found.value - truth) < 3.9 * found.standard_error
    assert found.p_value < 1e-10


@pytest.mark.parametrize("width", [1.0, 0.8])
def test_p_values_are_uniform_under_the_null_alone(width, generator):
    of_regions, of_marginals = [], []
    for _ in range(200):
        data, samples = normal(200, 1, generator), width * normal(170, 1, generator)
        of_regions.append(highest_density_calibration(standard, data, samples).p_value)
        of_marginals.append(marginal_calibration(samples, data).p_value)
    for found in (of_regions, of_marginals):
        # 1/34,000 apart at most: as good as continuous.
        assert (kstest(found, "uniform").pvalue > THRESHOLD) == (width == 1.0)


@pytest.mark.parametrize("dim", [1, 4])
def test_the_floor_is_the_mean_of_a_perfect_model(dim, generator):
    found = [
        marginal_calibration(normal(300, dim, generator), normal(200, dim, generator))
        for _ in range(100)
    ]
    values = torch.tensor([one.value for one in found])
    # The limit law's mean is too large by about a sixth of a step of the shares, 1/300.
    error = 3.9 * float(values.std()) / 10 + 1 / 300
    assert abs(float(values.mean()) - found[0].floor) < error
    if dim == 1:
        assert found[0].floor == pytest.approx(
            math.sqrt(math.pi / 2) * math.log(2) * math.sqrt(1 / 200 + 1 / 300), rel=1e-4
        )


def test_bonferroni_allows_for_the_number_of_coordinates(generator):
    alarms = 0
    for _ in range(100):
        found = marginal_calibration(normal(60, 10, generator), normal(60, 10, generator))
        alarms += found.p_value <= 0.05
    assert alarms <= 5 + 3.9 * math.sqrt(100 * 0.05 * 0.95)


def test_bad_arguments(generator):
    x = normal(10, 2, generator)
    with pytest.raises(ValueError, match="level must lie between 0 and 1"):
        highest_density_calibration(standard, x, x, levels=(1.5,))
    with pytest.raises(ValueError, match="two rows or more, got 1 and 10"):
        highest_density_calibration(standard, x[:1], x)
    with pytest.raises(ValueError, match=r"samples must have shape"):
        marginal_calibration(x[:, :1], x)
