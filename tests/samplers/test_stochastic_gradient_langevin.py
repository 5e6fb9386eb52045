"""SGLD on a Gaussian posterior: the law of its bias in closed form, with and without control."""

from __future__ import annotations

import math

import pytest
import torch

from basin.energies import Posterior
from basin.samplers.mala import MALA
from basin.samplers.stochastic_gradient_langevin import StochasticGradientLangevin
from basin.sampling.run import sample
from helpers.energies import DiagonalGaussian
from helpers.statistics import assert_different_law, assert_same_law, normal_cdf

NUM_CHAINS = 20_000
PRIOR, NOISE = 0.5, 2.0  # precisions of x and of a row given x
ROWS = torch.tensor([0.2, 1.5, -0.7, 2.4, 0.9, 1.1, -0.1, 3.0])
PRECISION = PRIOR + NOISE * len(ROWS)
MEAN = NOISE * float(ROWS.sum()) / PRECISION


def posterior(centre=None, rows=ROWS):
    return Posterior(
        prior=lambda x: 0.5 * PRIOR * x.square().sum(dim=1),
        row_energy=lambda x, rows: 0.5 * NOISE * (rows - x).square(),
        rows=rows,
        centre=None if centre is None else torch.tensor([centre]),
    )


def score_variance(batch_size):
    """Of N/n sum_j NOISE (y_j - x), rows with replacement: the same for every x."""
    return (NOISE * len(ROWS)) ** 2 * float(ROWS.var(correction=0)) / batch_size


def law_at_rest(step_size, variance):
    return math.sqrt((1 + step_size * variance / 2) / (PRECISION * (1 - step_size * PRECISION / 2)))


def draws(energy, kernel, scale, generator, num_steps=20):
    start = MEAN + scale * torch.randn(NUM_CHAINS, 1, generator=generator)
    return sample(energy, kernel, start, num_steps=num_steps, keep="last").last[:, 0]


def deviation_of_variance(x, truth):
    """Standard errors between the variance of independent draws and the truth."""
    squares = (x.double() - MEAN).square()
    return float((squares.mean() - truth) / squares.std()) * math.sqrt(len(x))


@pytest.mark.statistical
@pytest.mark.parametrize("batch_size", [1, 4])
def test_its_variance_is_the_closed_form(batch_size, generator):
    """With a step so large that the noise of the score doubles the variance and more."""
    step_size = 0.01
    variance = score_variance(batch_size)
    scale = law_at_rest(step_size, variance)
    kernel = StochasticGradientLangevin(step_size, batch_size)
    x = draws(posterior(), kernel, scale, generator, num_steps=40)
    assert abs(float((x.mean() - MEAN) / x.std())) * math.sqrt(NUM_CHAINS) < 3.9
    assert abs(deviation_of_variance(x, scale**2)) < 3.9
    without = law_at_rest(step_size, 0.0) ** 2  # mutants: no noise of rows; another batch
    assert deviation_of_variance(x, without) > 10
    twice = law_at_rest(step_size, score_variance(2 * batch_size)) ** 2
    assert deviation_of_variance(x, twice) > 10


@pytest.mark.statistical
@pytest.mark.parametrize("centre", [MEAN, 0.0])
def test_a_control_variate_leaves_the_law_of_ula(centre, generator):
    """Row energies are quadratic, so that it removes the noise of the rows entirely."""
    step_size = 0.03
    scale = law_at_rest(step_size, 0.0)
    kernel = StochasticGradientLangevin(step_size, 1)
    x = draws(posterior(centre), kernel, scale, generator)
    assert_same_law(x, normal_cdf(MEAN, scale))
    mutant = draws(posterior(), kernel, scale, generator)  # without it
    assert_different_law(mutant, normal_cdf(MEAN, scale))


@pytest.mark.statistical
def test_with_every_row_mala_samples_the_posterior(generator):
    scale = PRECISION**-0.5
    x = draws(posterior(), MALA(0.05), scale, generator)
    assert_same_law(x, normal_cdf(MEAN, scale))


def test_another_kernel_than_the_rows_is_never_taken_in_silence():
    with pytest.raises(ValueError, match="needs an energy with a method stochastic_score"):
        sample(
            DiagonalGaussian([1.0]), StochasticGradientLangevin(), torch.zeros(2, 1), num_steps=1
        )


@pytest.mark.parametrize("bad", [0, -1, 2.0])
def test_refuses_bad_settings(bad):
    with pytest.raises(ValueError, match="batch_size must be a positive whole number"):
        StochasticGradientLangevin(batch_size=bad)
