"""The curvature estimate and the warning that comes from it."""

from __future__ import annotations

import warnings

import pytest
import torch

from basin.paths.noised import Noised
from basin.samplers.annealed_langevin import AnnealedLangevin
from basin.samplers.langevin import Langevin
from basin.samplers.mala import MALA
from basin.samplers.parallel_tempering import ParallelTempering
from basin.samplers.reflected import Reflected
from basin.samplers.underdamped_langevin import UnderdampedLangevin
from basin.sampling.curvature import (
    StepSizeWarning,
    largest_curvature,
    warn_if_step_too_large,
)
from basin.sampling.run import sample
from basin.schedules.geometric import Geometric
from helpers.energies import DiagonalGaussian, NoisyGaussian


def test_largest_eigenvalue_of_a_gaussian(generator):
    matrix = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    precision = matrix @ matrix.T

    def energy(x):
        return 0.5 * ((x @ precision) * x).sum(dim=1)

    x = torch.zeros(3, 6, dtype=torch.float64)
    expected = float(torch.linalg.eigvalsh(precision)[-1])
    found = largest_curvature(energy, x, num_iterations=200)
    assert found == pytest.approx(expected, rel=1e-6)
    assert 0.9 * expected < largest_curvature(energy, x) <= expected * (1 + 1e-9)


def test_a_large_negative_curvature_does_not_hide_the_positive_one():
    def saddle(x):
        return 0.5 * (3 * x[:, 0].square() - 50 * x[:, 1].square() + x[:, 2].square())

    x = torch.zeros(1, 3, dtype=torch.float64)
    assert largest_curvature(saddle, x, num_iterations=300) == pytest.approx(3.0, rel=1e-2)


def test_it_is_the_largest_over_the_points():
    def quartic(x):
        return x.pow(4).sum(dim=1) / 12  # curvature x^2

    x = torch.linspace(0, 3, 50).unsqueeze(1)
    assert largest_curvature(quartic, x) == pytest.approx(9.0, rel=1e-4)


class OnceDifferentiable:
    """A Gaussian of precision 5 whose score autograd cannot follow."""

    def __call__(self, x):
        return 2.5 * x.square().sum(dim=1)

    def score(self, x):
        if torch.is_grad_enabled():
            raise RuntimeError("derivative for the fused operation is not implemented")
        return -5 * x


def test_without_second_derivatives_it_takes_differences_of_scores():
    x = torch.zeros(2, 3)
    assert largest_curvature(OnceDifferentiable(), x) == pytest.approx(5.0, rel=1e-3)


def test_langevin_warns_with_the_numbers():
    energy, x0 = DiagonalGaussian([1.0, 25.0]), torch.zeros(4, 2)
    words = (
        r"Langevin: step_size = 0.06 .* lambda_max = 25; .* 2/lambda_max = 0.08, .*0.16, is 4 times"
    )
    with pytest.warns(StepSizeWarning, match=words):
        sample(energy, Langevin(0.06), x0, num_steps=3)
    with pytest.warns(StepSizeWarning, match="unstable in the stiffest direction"):
        sample(energy, Langevin(0.1), x0, num_steps=3)


@pytest.mark.parametrize("kernel", [Langevin(0.03), MALA(1.0)])
def test_no_warning_for_a_step_that_is_allowed_or_corrected(kernel):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sample(DiagonalGaussian([1.0, 25.0]), kernel, torch.zeros(4, 2), num_steps=3)


def test_a_step_with_a_velocity_is_judged_by_its_frequency():
    """BAOAB is exact on Gaussians up to h = 2 / sqrt(25) = 0.4, and has no law beyond."""
    energy, x0 = DiagonalGaussian([1.0, 25.0]), torch.zeros(4, 2)
    words = (
        r"UnderdampedLangevin: step_size = 0.41 .* lambda_max = 25; .* 2/sqrt\(lambda_max\) = 0.4,"
    )
    with pytest.warns(StepSizeWarning, match=words):
        sample(energy, UnderdampedLangevin(0.41), x0, num_steps=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sample(energy, UnderdampedLangevin(0.39), x0, num_steps=3)


@pytest.mark.parametrize("around", [Reflected, ParallelTempering])
def test_the_step_of_a_kernel_inside_another_one_is_judged_too(around):
    energy, x0 = DiagonalGaussian([1.0, 25.0]), torch.ones(4, 2)
    with pytest.warns(StepSizeWarning, match="Langevin: step_size = 0.06"):
        sample(energy, around(Langevin(0.06)), x0, num_steps=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sample(energy, around(Langevin(0.03)), x0, num_steps=3)


def test_it_looks_again_where_the_chains_have_gone():
    def steep_beyond_one(x):
        return (50 * (x - 1).clamp(min=0).square() - 3 * x).sum(dim=1)

    with pytest.warns(StepSizeWarning, match="lambda_max = 100"):
        sample(steep_beyond_one, Langevin(0.015), torch.zeros(50, 1), num_steps=100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        options = {"num_steps": 100, "check_step_size": False}
        sample(steep_beyond_one, Langevin(0.015), torch.zeros(50, 1), **options)


def test_annealed_langevin_is_judged_by_its_own_epsilon():
    path = Noised(NoisyGaussian(scale=0.1), Geometric(10.0, 0.1))
    x0 = torch.zeros(4, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sample(path, AnnealedLangevin(0.5), x0, num_steps=5)
    with pytest.warns(StepSizeWarning, match="AnnealedLangevin"):
        sample(path, AnnealedLangevin(1.5), x0, num_steps=5)


def test_a_step_for_each_coordinate_is_judged_in_its_own_units():
    energy, x = DiagonalGaussian([1.0, 100.0]), torch.zeros(4, 2)
    assert not warn_if_step_too_large(energy, x, torch.tensor([0.5, 0.005]), "kernel")
    with pytest.warns(StepSizeWarning, match="step_size = 1.5 .* lambda_max = 1;"):
        warn_if_step_too_large(energy, x, torch.tensor([1.5, 0.015]), "kernel")


def test_the_check_does_not_touch_the_noise_of_the_chains():
    energy, x0 = DiagonalGaussian([1.0, 4.0]), torch.zeros(4, 2)
    with_check = sample(energy, Langevin(0.1), x0, num_steps=5).positions
    without = sample(energy, Langevin(0.1), x0, num_steps=5, check_step_size=False).positions
    assert torch.equal(with_check, without)
