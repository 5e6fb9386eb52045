"""Ancestral steps on Gaussian data: the recursion of their law, and the law that they aim at."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from basin.samplers.annealed_langevin import AnnealedLangevin
from basin.samplers.reverse_diffusion import ReverseDiffusion
from basin.sampling.run import sample
from helpers.energies import NoisyGaussian
from helpers.statistics import assert_different_law, assert_same_law, normal_cdf

NUM_CHAINS = 20_000
MEAN, SCALE = 1.5, 0.5
TOP, END = 10.0, 0.2


def start(generator):
    z = torch.randn(NUM_CHAINS, 2, generator=generator)
    return MEAN + math.sqrt(SCALE**2 + TOP**2) * z


def closed_form(num_steps):
    """Standard deviation after the walk: v <- (1 - r sigma^2 / (s^2 + sigma^2))^2 v + noise."""
    factor = (END / TOP) ** (1 / num_steps)
    r, sigma, variance = 1 - factor**2, TOP, SCALE**2 + TOP**2
    for _ in range(num_steps):
        shrink = 1 - r * sigma**2 / (SCALE**2 + sigma**2)
        variance = shrink**2 * variance + r * (1 - r) * sigma**2
        sigma *= factor
    return math.sqrt(variance)


@pytest.mark.statistical
@pytest.mark.parametrize("num_steps", [10, 100])
def test_the_law_is_the_recursion(generator, num_steps):
    walk = ReverseDiffusion.down(NoisyGaussian(2, MEAN, SCALE), TOP, END, num_steps)
    last = sample(*walk, start(generator), num_steps=num_steps, keep="last").last
    law = normal_cdf(MEAN, closed_form(num_steps))
    assert_same_law(last[:, 0], law)
    # Mutant: Langevin's noise, sqrt(2 r) in place of sqrt(r (1 - r)).
    mutant = AnnealedLangevin(walk.kernel.step_size)
    wrong = sample(walk.path, mutant, start(generator), num_steps=num_steps, keep="last").last
    assert_different_law(wrong[:, 0], law)


def test_its_error_falls_with_the_number_of_steps():
    exact = math.sqrt(SCALE**2 + END**2)
    errors = [abs(closed_form(n) - exact) for n in (50, 100, 200, 400)]
    ratios = [a / b for a, b in itertools.pairwise(errors)]
    assert all(1.8 < ratio < 2.3 for ratio in ratios)
    assert errors[-1] < 0.01 * exact


def test_an_energy_without_noise_level_is_refused(generator):
    with pytest.raises(ValueError, match="needs an energy with a noise level"):
        sample(lambda x: x.square().sum(1), ReverseDiffusion(), torch.zeros(3, 2), num_steps=2)


@pytest.mark.parametrize("sigma", [TOP, 2 * TOP])
def test_a_walk_that_does_not_go_down_is_refused(sigma):
    with pytest.raises(ValueError, match="sigma must lie below sigma_max"):
        ReverseDiffusion.down(NoisyGaussian(), TOP, sigma, 10)


@pytest.mark.parametrize("bad", [0.0, -0.1, 1.5, float("nan")])
def test_a_bad_step_size_is_named(bad):
    with pytest.raises(ValueError, match="step_size must"):
        ReverseDiffusion(bad)
