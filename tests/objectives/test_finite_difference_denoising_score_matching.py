"""Finite-difference denoising score matching: denoising score matching's closed forms and limit.

For E = x'Px/2 the difference of energies is exact, so with V = S + sigma^2 I
    J(P) = tr(P V P) - 2 tr(P) + d/sigma^2 at any radius.
"""

from __future__ import annotations

import pytest
import torch

import basin
from basin.core.directions import sphere_like
from basin.objectives.denoising_score_matching import denoising_score_matching
from basin.objectives.finite_difference_denoising_score_matching import (
    FiniteDifferenceDenoisingScoreMatching,
    finite_difference_denoising_score_matching,
)
from helpers.quadratics import (
    COVARIANCE,
    PRECISION,
    Quadratic,
    gaussian_rows,
    implicit_gradient,
    implicit_loss,
    mean_gradient,
    standard_errors,
)

SIGMA = 0.7
BLURRED = COVARIANCE + SIGMA**2 * torch.eye(2).double()
CLOSED_FORM = implicit_loss(PRECISION, BLURRED) + 2 / SIGMA**2


def as_printed(energy, x, *, sigma, radius, generator):
    """Mutant: the paper's scale, 1/d of ours."""
    loss = finite_difference_denoising_score_matching(
        energy, x, sigma=sigma, radius=radius, generator=generator
    )
    return loss / x.shape[1]


def differences(energy, x, sigma, radius, generator, sign=1.0, one_sided=False):
    z = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    y, v = x + sigma * z, radius / x.shape[1] ** 0.5 * sphere_like(x, generator)
    along = 2 * (energy(y) - energy(y + v)) if one_sided else energy(y - v) - energy(y + v)
    along = along + sign * 2 * (v * z).sum(1) / sigma
    return x.shape[1] / (4 * radius**2) * along.square()


def wrong_sign(energy, x, *, sigma, radius, generator):
    """Mutant: the target +z/sigma."""
    return differences(energy, x, sigma, radius, generator, sign=-1.0)


def one_sided(energy, x, *, sigma, radius, generator):
    """Mutant: a forward difference, whose error is of order r."""
    return differences(energy, x, sigma, radius, generator, one_sided=True)


@pytest.mark.statistical
@pytest.mark.parametrize("radius", [1e-3, 0.35, 2.0])
def test_a_quadratic_is_exact_at_any_radius(radius):
    losses = finite_difference_denoising_score_matching(
        Quadratic(),
        gaussian_rows(200_000),
        sigma=SIGMA,
        radius=radius,
        generator=torch.Generator().manual_seed(1),
    )
    assert standard_errors(losses, CLOSED_FORM) < 3.9


@pytest.mark.statistical
@pytest.mark.parametrize("mutant", [as_printed, wrong_sign, one_sided])
def test_mutants_miss_the_closed_form(mutant):
    generator = torch.Generator().manual_seed(1)
    rows = gaussian_rows(200_000)
    losses = mutant(Quadratic(), rows, sigma=SIGMA, radius=0.7, generator=generator)
    assert standard_errors(losses, CLOSED_FORM) > 3.9


def rate(function, radii=(0.2, 0.1, 0.05)):
    energy = basin.energies.MLP(3, hidden=(16, 16), activation="tanh", confinement=0.3).double()
    with torch.no_grad():
        for parameter in energy.parameters():
            parameter.mul_(3)
    x = gaussian_rows(2000, covariance=torch.eye(3).double())

    def loss(radius):
        generator = torch.Generator().manual_seed(5)
        return function(energy, x, sigma=SIGMA, radius=radius, generator=generator).mean().item()

    errors = torch.tensor([loss(radius) - loss(1e-4) for radius in radii]).abs()
    return (errors[:-1] / errors[1:]).log2()[-1].item(), energy


@pytest.mark.statistical
def test_the_error_falls_as_the_square_of_the_radius():
    """Pang et al. 2020, theorem 1; the limit is denoising score matching."""
    slope, energy = rate(finite_difference_denoising_score_matching)
    assert slope == pytest.approx(2.0, abs=0.1)
    assert rate(one_sided)[0] < 1.5  # the mutant
    rows = gaussian_rows(1, covariance=torch.eye(3).double()).expand(100_000, 3)
    limit = finite_difference_denoising_score_matching(
        energy, rows, sigma=SIGMA, radius=1e-3, generator=torch.Generator().manual_seed(1)
    )
    exact = denoising_score_matching(
        energy, rows, sigma=SIGMA, generator=torch.Generator().manual_seed(1)
    )
    assert standard_errors(limit - exact, 0.0) < 3.9


VARIANTS = {
    "plain": dict(antithetic=False, posterior_mean=False),
    "antithetic": dict(antithetic=True, posterior_mean=False),
    "posterior mean": dict(antithetic=False, posterior_mean=True),
    "all, a few sources": dict(num_noised=16, num_directions=2),
}


@pytest.mark.statistical
@pytest.mark.parametrize("name", VARIANTS)
def test_every_variance_reduction_keeps_the_mean_of_the_gradient(name):
    mean, error = mean_gradient(FiniteDifferenceDenoisingScoreMatching(SIGMA, **VARIANTS[name]))
    assert ((mean - implicit_gradient(PRECISION, BLURRED)).abs() < 3.9 * error).all()


@pytest.mark.statistical
def test_the_optimum_is_the_precision_of_the_blurred_gaussian():
    optimum = torch.linalg.inv(BLURRED)
    objective = FiniteDifferenceDenoisingScoreMatching(SIGMA)
    mean, error = mean_gradient(objective, optimum)
    assert (mean.abs() < 3.9 * error).all()
    away, error = mean_gradient(objective, 1.2 * optimum)
    assert (away.abs() > 3.9 * error).any()


def test_loss_is_relative_to_the_trivial_predictor_on_the_same_noise():
    flat = Quadratic(torch.zeros(2, 2).double())
    objective, generator = FiniteDifferenceDenoisingScoreMatching(SIGMA), torch.Generator()
    loss = objective(flat, gaussian_rows(256), None, generator)
    assert float(loss.value.detach()) == pytest.approx(float(loss.terms["trivial"]))
    assert objective.noise_level(None) == SIGMA
    assert "0.7" in objective.blindness(None)


@pytest.mark.parametrize(
    "bad", [{"sigma": 0.0}, {"radius": -0.1}, {"num_directions": 0}, {"num_noised": 0}]
)
def test_bad_settings_are_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        FiniteDifferenceDenoisingScoreMatching(**bad)
