"""ULA is held to its own closed-form law: variance 1 / (lambda (1 - epsilon lambda / 2))."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

from basin.mcmc import unadjusted_langevin
from basin.samplers.langevin import Langevin
from basin.sampling.curvature import StepSizeWarning
from basin.sampling.run import sample
from helpers.energies import DiagonalGaussian
from helpers.statistics import assert_different_law, assert_same_law, normal_cdf

NUM_CHAINS = 20_000
CASES = [(1.0, 0.1), (4.0, 0.1), (4.0, 0.4), (0.25, 2.0)]


def law_at_rest(precision, step_size):
    return 1 / math.sqrt(precision * (1 - step_size * precision / 2))


def run(precision, step_size, x0, num_steps):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StepSizeWarning)  # some of these steps are large on purpose
        energy = DiagonalGaussian([precision])
        return sample(energy, Langevin(step_size), x0, num_steps=num_steps, keep="last").last[:, 0]


@pytest.mark.statistical
@pytest.mark.parametrize(("precision", "step_size"), CASES)
def test_its_own_law_does_not_move(precision, step_size, generator):
    scale = law_at_rest(precision, step_size)
    start = scale * torch.randn(NUM_CHAINS, 1, generator=generator)
    assert_same_law(run(precision, step_size, start, 20), normal_cdf(0.0, scale))


@pytest.mark.statistical
def test_law_after_k_steps_from_a_point(generator):
    """From x0 it is N(a^k x0, 2 epsilon (1 - a^2k) / (1 - a^2)) with a = 1 - epsilon lambda."""
    precision, step_size, num_steps = 2.0, 0.2, 5
    shrink = 1 - step_size * precision
    variance = 2 * step_size * (1 - shrink ** (2 * num_steps)) / (1 - shrink**2)
    final = run(precision, step_size, torch.full((NUM_CHAINS, 1), 3.0), num_steps)
    assert_same_law(final, normal_cdf(3.0 * shrink**num_steps, math.sqrt(variance)))


def proposal_with_noise(factor):
    def mutant(x, score, step_size, noise):
        return x + step_size * score + math.sqrt(factor * step_size) * noise

    return mutant


@pytest.mark.statistical
@pytest.mark.parametrize(("precision", "step_size"), CASES)
def test_mutant_with_the_noise_of_another_convention(precision, step_size, generator, monkeypatch):
    monkeypatch.setattr(unadjusted_langevin, "langevin_proposal", proposal_with_noise(1.0))
    scale = law_at_rest(precision, step_size)
    start = scale * torch.randn(NUM_CHAINS, 1, generator=generator)
    assert_different_law(run(precision, step_size, start, 20), normal_cdf(0.0, scale))


@pytest.mark.statistical
def test_mutant_that_climbs_the_energy(generator, monkeypatch):
    def uphill(x, score, step_size, noise):
        return x - step_size * score + math.sqrt(2 * step_size) * noise

    monkeypatch.setattr(unadjusted_langevin, "langevin_proposal", uphill)
    start = law_at_rest(1.0, 0.1) * torch.randn(NUM_CHAINS, 1, generator=generator)
    assert_different_law(run(1.0, 0.1, start, 20), normal_cdf(0.0, law_at_rest(1.0, 0.1)))


@pytest.mark.statistical
def test_its_bias_is_seen(generator):
    """The power of the tests above: at epsilon lambda = 0.4 the target's own law is rejected."""
    start = torch.randn(NUM_CHAINS, 1, generator=generator)
    assert_different_law(run(1.0, 0.4, start, 50), normal_cdf(0.0, 1.0))


class HalfBroken:
    """A Gaussian whose score is not finite beyond 1.5."""

    def __call__(self, x):
        return 0.5 * x.square().sum(dim=1)

    def score(self, x):
        return torch.where(x.abs() < 1.5, -x, math.nan)


def test_divergence_is_marked_at_the_step_where_it_happens(generator):
    half_broken = HalfBroken()
    kernel = Langevin(0.1)
    state = kernel.init(half_broken, torch.tensor([[0.0], [2.0]]), generator)
    state, info = kernel.step(half_broken, state, generator)
    assert info.is_divergent.tolist() == [False, True]
    assert state.is_finite.tolist() == [True, False]
    state, info = kernel.step(half_broken, state, generator)
    assert info.is_divergent.tolist() == [False, False]  # it has been counted


@pytest.mark.parametrize("step_size", [0.0, -0.1, float("nan"), float("inf"), "0.1"])
def test_refuses_bad_steps(step_size):
    with pytest.raises(ValueError, match="step_size must be positive, got"):
        Langevin(step_size)
