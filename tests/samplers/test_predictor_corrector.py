"""Predictor-corrector on Gaussian data: the recursion of its law, and what the corrector buys."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from basin.samplers import predictor_corrector
from basin.samplers.predictor_corrector import PredictorCorrector
from basin.sampling.run import sample
from helpers.energies import NoisyGaussian
from helpers.statistics import assert_different_law, assert_same_law, normal_cdf

NUM_CHAINS = 20_000
MEAN, SCALE = 1.5, 0.5
TOP, END = 10.0, 0.2


def closed_form(num_steps, corrector):
    """Standard deviation after the walk."""
    factor = (END / TOP) ** (1 / num_steps)
    r, sigma, variance = 1 - factor**2, TOP, SCALE**2 + TOP**2
    for _ in range(num_steps):
        ratio = sigma**2 / (SCALE**2 + sigma**2)
        variance = (1 - corrector * ratio) ** 2 * variance + 2 * corrector * sigma**2
        variance = (1 - r * ratio) ** 2 * variance + r * (1 - r) * sigma**2
        sigma *= factor
    return math.sqrt(variance)


def draws(kernel, num_steps, generator):
    start = MEAN + math.sqrt(SCALE**2 + TOP**2) * torch.randn(NUM_CHAINS, 2, generator=generator)
    walk = kernel.down(NoisyGaussian(2, MEAN, SCALE), TOP, END, num_steps)
    return sample(*walk, start, num_steps=num_steps, keep="last").last[:, 0]


@pytest.mark.statistical
@pytest.mark.parametrize("num_steps", [10, 50])
def test_the_law_is_the_recursion(num_steps, generator, monkeypatch):
    kernel = PredictorCorrector(corrector=0.5)
    law = normal_cdf(MEAN, closed_form(num_steps, 0.5))
    assert_same_law(draws(kernel, num_steps, generator), law)
    if num_steps == 10:  # where the step and the presence of the corrector make a difference
        mutant = replace(kernel, corrector=1.5)
        assert_different_law(draws(mutant, num_steps, generator), law)
        without = normal_cdf(MEAN, closed_form(num_steps, 0.0))
        assert_different_law(draws(kernel, num_steps, generator), without)
    right = predictor_corrector.langevin_proposal
    monkeypatch.setattr(  # the noise of another convention, sqrt(epsilon)
        predictor_corrector,
        "langevin_proposal",
        lambda x, score, epsilon, z: right(x, score, epsilon, z / math.sqrt(2)),
    )
    assert_different_law(draws(kernel, num_steps, generator), law)


def test_the_corrector_takes_error_away():
    """In few steps the predictor alone ends too narrow; with a corrector it ends nearer."""
    exact = math.sqrt(SCALE**2 + END**2)
    for num_steps in (10, 20, 40):
        alone = abs(closed_form(num_steps, 0.0) - exact)
        corrected = abs(closed_form(num_steps, PredictorCorrector().corrector) - exact)
        assert corrected < 0.75 * alone


def test_down_keeps_the_corrector():
    walk = PredictorCorrector(corrector=0.3).down(NoisyGaussian(), 8.0, 1.0, 3)
    assert walk.kernel == PredictorCorrector(0.75, 0.3)
    assert walk.path(1.0).sigma == pytest.approx(2.0)


def test_an_energy_without_noise_level_is_refused():
    with pytest.raises(ValueError, match="PredictorCorrector needs an energy with a noise level"):
        sample(lambda x: x.square().sum(1), PredictorCorrector(), torch.zeros(3, 2), num_steps=2)


@pytest.mark.parametrize("bad", [0.0, -0.1, float("nan")])
def test_a_bad_setting_is_named(bad):
    with pytest.raises(ValueError, match="step_size must"):
        PredictorCorrector(bad)
    with pytest.raises(ValueError, match="corrector must"):
        PredictorCorrector(corrector=bad)
