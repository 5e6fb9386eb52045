"""Annealed Langevin on Gaussian data: its closed-form law at each level, and down the ladder."""

from __future__ import annotations

import math

import pytest
import torch

from basin.paths.noised import Noised
from basin.samplers.annealed_langevin import AnnealedLangevin
from basin.samplers.langevin import Langevin
from basin.sampling.run import sample
from basin.schedules.constant import Constant
from basin.schedules.geometric import Geometric
from helpers.energies import DiagonalGaussian, NoisyGaussian
from helpers.statistics import assert_different_law, assert_same_law, normal_cdf

NUM_CHAINS = 20_000
MEAN, SCALE = 1.5, 0.5


def scale_at_rest(sigma, step_size):
    ratio = sigma**2 / (SCALE**2 + sigma**2)
    return math.sqrt((SCALE**2 + sigma**2) / (1 - step_size * ratio / 2))


@pytest.mark.statistical
@pytest.mark.parametrize("sigma", [0.1, 1.0, 10.0])
def test_its_own_law_at_one_level_does_not_move(sigma, generator):
    step_size = 0.5
    scale = scale_at_rest(sigma, step_size)
    start = MEAN + scale * torch.randn(NUM_CHAINS, 2, generator=generator)
    energy = NoisyGaussian(2, MEAN, SCALE).at(sigma)
    last = sample(energy, AnnealedLangevin(step_size), start, num_steps=20, keep="last").last
    assert_same_law(last[:, 0], normal_cdf(MEAN, scale))
    if sigma > 1:  # the mutant: step_size sigma in place of step_size sigma^2
        mutant = sample(energy, Langevin(step_size * sigma), start, num_steps=100, keep="last").last
        assert_different_law(mutant[:, 0], normal_cdf(MEAN, scale))


def closed_form(schedule, step_size, num_steps, mean, variance):
    """Mean and variance of the Gaussian law after each step of the walk."""
    for k in range(1, num_steps + 1):
        sigma = schedule(k / num_steps)
        epsilon = step_size * sigma**2
        shrink = 1 - epsilon / (SCALE**2 + sigma**2)
        mean = MEAN + shrink * (mean - MEAN)
        variance = shrink**2 * variance + 2 * epsilon
    return mean, math.sqrt(variance)


@pytest.mark.statistical
def test_down_the_ladder_the_law_is_the_recursion(generator):
    schedule, step_size, num_steps = Geometric(10.0, 0.2), 0.3, 40
    path = Noised(NoisyGaussian(2, MEAN, SCALE), schedule)
    start = 3.0 * torch.randn(NUM_CHAINS, 2, generator=generator)
    kernel = AnnealedLangevin(step_size)
    last = sample(path, kernel, start, num_steps=num_steps, keep="last").last
    law = normal_cdf(*closed_form(schedule, step_size, num_steps, 0.0, 9.0))
    assert_same_law(last[:, 0], law)
    backwards = Noised(NoisyGaussian(2, MEAN, SCALE), Geometric(0.2, 10.0))
    mutant = sample(backwards, kernel, start, num_steps=num_steps, keep="last").last
    assert_different_law(mutant[:, 0], law)


def test_a_constant_level_is_the_plain_kernel_with_the_same_epsilon(generator):
    energy, x0 = NoisyGaussian().at(0.5), torch.randn(10, 2, generator=generator)
    annealed = sample(energy, AnnealedLangevin(0.4), x0, num_steps=5)
    plain = sample(energy, Langevin(0.4 * 0.25), x0, num_steps=5)
    assert torch.equal(annealed.positions, plain.positions)
    path = sample(Noised(NoisyGaussian(), Constant(0.5)), AnnealedLangevin(0.4), x0, num_steps=5)
    assert torch.equal(path.positions, plain.positions)


def test_sigma_may_be_a_tensor_that_broadcasts(generator):
    energy, x0 = DiagonalGaussian([1.0, 2.0]), torch.randn(10, 2, generator=generator)
    energy.sigma = 0.5
    by_number = sample(energy, AnnealedLangevin(0.4), x0, num_steps=3).positions
    for sigma in (torch.tensor(0.5), torch.full((2,), 0.5), torch.full((10, 1), 0.5)):
        energy.sigma = sigma
        by_tensor = sample(energy, AnnealedLangevin(0.4), x0, num_steps=3).positions
        assert torch.allclose(by_number, by_tensor)


@pytest.mark.statistical
def test_one_level_a_coordinate_is_the_same_walk_in_scaled_coordinates(generator):
    """Data scaled by (1, 5): with sigma scaled alike the law at rest is the scaled one."""
    scale, level, step_size = torch.tensor([1.0, 5.0]), 0.5, 0.5

    class Scaled:
        inner = NoisyGaussian(2, MEAN, SCALE).at(level)
        sigma = scale * level

        def __call__(self, x):
            return self.inner(x / scale)

    law_scale = scale_at_rest(level, step_size)
    start = scale * (MEAN + law_scale * torch.randn(NUM_CHAINS, 2, generator=generator))
    last = sample(Scaled(), AnnealedLangevin(step_size), start, num_steps=20, keep="last").last
    for i in range(2):
        assert_same_law(last[:, i] / scale[i], normal_cdf(MEAN, law_scale))


def test_an_energy_without_noise_level_is_refused():
    with pytest.raises(ValueError, match=r"noisy_energy.at\(sigma\)"):
        sample(lambda x: x.sum(1), AnnealedLangevin(), torch.zeros(2, 2), num_steps=1)
    with pytest.raises(ValueError, match="step_size must be positive"):
        AnnealedLangevin(-1.0)
