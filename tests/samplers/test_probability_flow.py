"""The probability flow on Gaussian data is linear: the map of each step, its order, its law."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from basin.samplers import probability_flow
from basin.samplers.probability_flow import ProbabilityFlow
from basin.sampling.run import sample
from helpers.energies import DiagonalGaussian, NoisyGaussian
from helpers.known_densities import IsotropicMixture
from helpers.statistics import assert_different_law, assert_same_law, normal_cdf

MEAN, SCALE = 1.5, 0.5
TOP, END = 10.0, 0.2
EXACT = math.sqrt((SCALE**2 + END**2) / (SCALE**2 + TOP**2))  # (x - m) shrinks as the deviation


def walked(start, num_steps, energy=None):
    energy = NoisyGaussian(2, MEAN, SCALE).double() if energy is None else energy
    walk = ProbabilityFlow.down(energy, TOP, END, num_steps)
    return sample(*walk, start, num_steps=num_steps, keep="last").last


def shrinkage(num_steps):
    """What a distance of one from the mean becomes."""
    start = torch.full((1, 2), MEAN + 1, dtype=torch.float64)
    return float(walked(start, num_steps)[0, 0].detach()) - MEAN


def closed_form(num_steps):
    """Heun's rule on dy/dsigma = a y with a = sigma / (s^2 + sigma^2), level by level."""
    sigma, y = TOP, 1.0
    factor = (END / TOP) ** (1 / num_steps)
    for _ in range(num_steps):
        lower = factor * sigma
        step, a, b = lower - sigma, sigma / (SCALE**2 + sigma**2), lower / (SCALE**2 + lower**2)
        y *= 1 + step / 2 * (a + b * (1 + step * a))
        sigma = lower
    return y


@pytest.mark.parametrize("num_steps", [1, 7, 30])
def test_it_is_heuns_rule(num_steps):
    assert shrinkage(num_steps) == pytest.approx(closed_form(num_steps), rel=1e-9)


def test_its_error_is_of_second_order():
    errors = [abs(closed_form(n) / EXACT - 1) for n in (40, 80, 160, 320)]
    assert all(3.6 < a / b < 4.4 for a, b in itertools.pairwise(errors))
    assert errors[-1] < 1e-3


def test_mutants_do_not_arrive(monkeypatch):
    """A missing factor of one half, or of sigma, in the drift: no number of steps mends it."""
    right = probability_flow.probability_flow
    for wrong in (
        lambda energy, x, sigma: 0.5 * right(energy, x, sigma),
        lambda energy, x, sigma: right(energy, x, sigma) / sigma,
    ):
        monkeypatch.setattr(probability_flow, "probability_flow", wrong)
        assert abs(shrinkage(160) / EXACT - 1) > 0.1


def test_data_at_one_point_are_reached_exactly_in_a_single_step():
    start = torch.tensor([[7.0, -3.0]], dtype=torch.float64)
    point = NoisyGaussian(2, MEAN, 0.0).double()
    expected = MEAN + END / TOP * (start - MEAN)
    torch.testing.assert_close(walked(start, 1, point).detach(), expected)


class NoisyMixture:
    """A mixture of far and unequal modes, blurred in closed form."""

    def __init__(self, sigma=None):
        self.sigma = sigma

    def at(self, sigma):
        return NoisyMixture(sigma)

    def __call__(self, x):
        scale = math.sqrt(0.3**2 + self.sigma**2)
        return -IsotropicMixture([[-2.0], [1.0]], [0.3, 0.7], scale).log_prob(x)


@pytest.mark.statistical
def test_it_carries_the_law_of_a_mixture_down(generator):
    """From exact draws at the top to the exact law at the bottom, weights of modes included."""
    n = 5_000

    def cdf_at(sigma):
        scale = math.sqrt(0.3**2 + sigma**2)
        return lambda x: 0.3 * normal_cdf(-2.0, scale)(x) + 0.7 * normal_cdf(1.0, scale)(x)

    top = IsotropicMixture([[-2.0], [1.0]], [0.3, 0.7], math.sqrt(0.3**2 + TOP**2))
    last = walked(top.sample(n, generator), 60, NoisyMixture())
    assert_same_law(last[:, 0], cdf_at(END))
    assert_different_law(last[:, 0], cdf_at(2 * END))  # the mutant: another level


def test_no_random_number_is_drawn(generator):
    before = generator.get_state()
    energy = NoisyGaussian().at(1.0)
    kernel = ProbabilityFlow()
    kernel.step(energy, kernel.init(energy, torch.ones(3, 2), generator), generator)
    assert torch.equal(before, generator.get_state())


def test_an_energy_without_levels_is_refused():
    with pytest.raises(ValueError, match="ProbabilityFlow needs an energy with a noise level"):
        sample(DiagonalGaussian([1.0]), ProbabilityFlow(), torch.zeros(3, 1), num_steps=2)
    fixed = DiagonalGaussian([1.0])
    fixed.sigma = 1.0
    with pytest.raises(ValueError, match="needs the energy at two levels, got DiagonalGaussian"):
        sample(fixed, ProbabilityFlow(), torch.zeros(3, 1), num_steps=2)


@pytest.mark.parametrize("bad", [0.0, -0.1, 1.0, 1.5, float("nan")])
def test_a_bad_step_size_is_named(bad):
    with pytest.raises(ValueError, match="step_size must"):
        ProbabilityFlow(bad)
