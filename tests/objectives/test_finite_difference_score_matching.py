"""Finite-difference score matching: exact on quadratics, an error of order r^2 elsewhere.

In one dimension and for E = x^4/4 both differences are known polynomials:
    E(x+r) + E(x-r) - 2 E(x) = 3 x^2 r^2 + r^4/2,      E(x+r) - E(x-r) = 2 x^3 r + 2 x r^3.
"""

from __future__ import annotations

import pytest
import torch

import basin
from basin.core.directions import sphere_like
from basin.objectives.exact_score_matching import exact_score_matching
from basin.objectives.finite_difference_score_matching import (
    FiniteDifferenceScoreMatching,
    finite_difference_score_matching,
)
from basin.objectives.sliced_score_matching import sliced_score_matching
from helpers.quadratics import (
    COVARIANCE,
    OPTIMUM,
    PRECISION,
    Quadratic,
    gaussian_rows,
    implicit_gradient,
    implicit_loss,
    mean_gradient,
    standard_errors,
)


def as_printed(energy, x, *, radius=0.1, generator):
    """Mutant: the paper's scale, 1/2d of ours."""
    loss = finite_difference_score_matching(energy, x, radius=radius, generator=generator)
    return loss / (2 * x.shape[1])


def one_sided(energy, x, *, radius=0.1, generator):
    """Mutant: a forward difference for the score, whose error is of order r."""
    v = radius / x.shape[1] ** 0.5 * sphere_like(x, generator)
    ahead, here, behind = energy(x + v), energy(x), energy(x - v)
    weight = x.shape[1] / radius**2
    return weight * ((ahead - here).square() - 2 * (ahead + behind - 2 * here))


def plus(energy, x, *, radius=0.1, generator):
    """Mutant: + the second difference."""
    v = radius / x.shape[1] ** 0.5 * sphere_like(x, generator)
    ahead, here, behind = energy(x + v), energy(x), energy(x - v)
    weight = x.shape[1] / radius**2
    return weight * ((ahead - behind).square() / 4 + 2 * (ahead + behind - 2 * here))


@pytest.mark.statistical
@pytest.mark.parametrize("radius", [1e-3, 0.1, 3.0])
def test_a_quadratic_is_exact_at_any_radius(radius):
    generator = torch.Generator().manual_seed(1)
    losses = finite_difference_score_matching(
        Quadratic(), gaussian_rows(200_000), radius=radius, generator=generator
    )
    assert standard_errors(losses, implicit_loss(PRECISION)) < 3.9


@pytest.mark.statistical
@pytest.mark.parametrize("mutant", [as_printed, one_sided, plus])
def test_mutants_miss_the_closed_form(mutant):
    generator = torch.Generator().manual_seed(1)
    losses = mutant(Quadratic(), gaussian_rows(200_000), radius=0.5, generator=generator)
    assert standard_errors(losses, implicit_loss(PRECISION)) > 3.9


def test_the_error_on_a_quartic_is_the_known_polynomial(generator):
    def quartic(x):
        return 0.25 * x.pow(4).sum(1)

    x, r = torch.linspace(-2, 2, 41).double()[:, None], 0.3
    found = finite_difference_score_matching(quartic, x, radius=r, generator=generator)
    square, y = (x**3 + x * r**2).square(), x
    torch.testing.assert_close(found, (square - 2 * (3 * y**2 + r**2 / 2))[:, 0])
    exact = exact_score_matching(quartic, x)
    torch.testing.assert_close(exact, (x**6 - 6 * x**2)[:, 0])


def rate(function, radii=(0.4, 0.2, 0.1, 0.05)):
    """Order of the error in r: the slope of log error, on common rows and directions."""
    energy = basin.energies.MLP(3, hidden=(16, 16), activation="tanh", confinement=0.3).double()
    with torch.no_grad():
        for parameter in energy.parameters():
            parameter.mul_(3)  # bent enough for the differences to err
    x = gaussian_rows(500, covariance=torch.eye(3).double())
    x = x.repeat(4, 1)

    def loss(radius):
        generator = torch.Generator().manual_seed(5)
        return function(energy, x, radius=radius, generator=generator).mean().item()

    limit = loss(1e-3)
    errors = torch.tensor([loss(radius) - limit for radius in radii]).abs()
    slopes = (errors[:-1] / errors[1:]).log2()
    return slopes[-1].item(), limit, energy, x


def test_the_error_falls_as_the_square_of_the_radius():
    """Pang et al. 2020, theorem 1."""
    slope, limit, energy, x = rate(finite_difference_score_matching)
    assert slope == pytest.approx(2.0, abs=0.1)
    assert rate(one_sided)[0] < 1.5  # the mutant
    # The limit is plain sliced score matching along the same directions, whose mean is exact.
    v = sphere_like(x, torch.Generator().manual_seed(5))
    s = basin.score(energy, x)
    curvature = basin.core.hessian_vector_product(energy, x, v)
    sliced = ((v * s).sum(1).square() - 2 * (v * curvature).sum(1)).mean().item()
    assert limit == pytest.approx(sliced, rel=1e-5)


@pytest.mark.statistical
def test_its_mean_at_a_small_radius_is_exact_and_sliced_score_matching():
    energy = basin.energies.MLP(3, hidden=(8,), confinement=0.3).double()
    x = torch.randn(1, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    rows = x.expand(50_000, 3)
    losses = finite_difference_score_matching(energy, rows, radius=1e-3, generator=generator)
    assert standard_errors(losses, exact_score_matching(energy, x).item()) < 3.9
    sliced = sliced_score_matching(energy, rows, reduced=False, generator=generator)
    assert standard_errors(losses - sliced, 0.0) < 3.9


@pytest.mark.statistical
@pytest.mark.parametrize("num_directions", [1, 3])
def test_the_gradient_is_the_closed_forms(num_directions):
    objective = FiniteDifferenceScoreMatching(num_directions=num_directions)
    mean, error = mean_gradient(objective)
    assert ((mean - implicit_gradient(PRECISION)).abs() < 3.9 * error).all()


@pytest.mark.statistical
def test_the_optimum_is_the_precision_of_the_data():
    mean, error = mean_gradient(FiniteDifferenceScoreMatching(), OPTIMUM)
    assert (mean.abs() < 3.9 * error).all()
    away, error = mean_gradient(FiniteDifferenceScoreMatching(), 1.2 * OPTIMUM, num_batches=400)
    assert (away.abs() > 3.9 * error).any()


@pytest.mark.statistical
def test_a_blur_targets_the_blurred_data():
    mean, error = mean_gradient(FiniteDifferenceScoreMatching(sigma=0.7))
    blurred = COVARIANCE + 0.49 * torch.eye(2).double()
    assert ((mean - implicit_gradient(PRECISION, blurred)).abs() < 3.9 * error).all()


def test_it_takes_energies_that_have_no_second_derivative():
    energy = basin.energies.MLP(2, hidden=(8,), activation="relu")
    run = basin.fit(
        energy,
        basin.datasets.StandardGaussian(2),
        FiniteDifferenceScoreMatching(),
        num_steps=5,
        batch_size=16,
    )
    assert torch.isfinite(torch.tensor(run.history[-1]["loss"]))


def test_events_of_any_shape(generator):
    energy = basin.energies.Conv((1, 6, 6))
    x = torch.randn(5, 1, 6, 6, generator=generator)
    loss = finite_difference_score_matching(energy, x, num_directions=2, generator=generator)
    assert loss.shape == (5,)


@pytest.mark.parametrize("bad", [{"radius": 0.0}, {"num_directions": 0}, {"sigma": -1.0}])
def test_bad_settings_are_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        FiniteDifferenceScoreMatching(**bad)
