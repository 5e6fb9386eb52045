"""Sliced score matching: the mean of exact score matching, the variances of the paper's table.

For E = x'Px/2 and one direction v at a fixed x: reduced, |Px|^2 - 2 v'Pv has a variance over v of
8 (|P|_F^2 - sum P_ii^2) for Rademacher and 8 |P|_F^2 for Gaussian directions.
"""

from __future__ import annotations

import pytest
import torch

import basin
from basin.core.curvature import score_and_curvatures
from basin.core.directions import random_signs_like
from basin.objectives.exact_score_matching import exact_score_matching
from basin.objectives.sliced_score_matching import SlicedScoreMatching, sliced_score_matching
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

FORMS = [
    dict(directions=directions, reduced=reduced)
    for directions in ("rademacher", "gaussian")
    for reduced in (True, False)
]


def as_printed(energy, x, generator):
    """Mutant: the paper's, half of ours."""
    return 0.5 * sliced_score_matching(energy, x, generator=generator)


def plus(energy, x, generator):
    """Mutant: the derivative of dE where that of s = -dE belongs."""
    s, curvatures = score_and_curvatures(energy, x, random_signs_like(x[None], generator))
    return s.square().sum(1) + 2 * curvatures[0]


def unit_directions(energy, x, generator):
    """Mutant: v of length one, whose E vv' is I/d."""
    v = random_signs_like(x[None], generator) / x.shape[1] ** 0.5
    s, curvatures = score_and_curvatures(energy, x, v)
    return s.square().sum(1) - 2 * curvatures[0]


@pytest.mark.statistical
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_mean_is_exact_score_matching(form):
    """Row by row on a network, where only the directions are random."""
    energy = basin.energies.MLP(3, hidden=(8,), confinement=0.3).double()
    x = torch.randn(1, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    losses = sliced_score_matching(energy, x.expand(50_000, 3), generator=generator, **form)
    assert standard_errors(losses, exact_score_matching(energy, x).item()) < 3.9


@pytest.mark.statistical
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_value_is_the_closed_form(form):
    generator = torch.Generator().manual_seed(1)
    losses = sliced_score_matching(Quadratic(), gaussian_rows(100_000), generator=generator, **form)
    assert standard_errors(losses, implicit_loss(PRECISION)) < 3.9


@pytest.mark.statistical
@pytest.mark.parametrize("mutant", [as_printed, plus, unit_directions])
def test_mutants_miss_the_closed_form(mutant):
    losses = mutant(Quadratic(), gaussian_rows(100_000), torch.Generator().manual_seed(1))
    assert standard_errors(losses, implicit_loss(PRECISION)) > 3.9


@pytest.mark.statistical
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_gradient_is_the_closed_forms(form):
    mean, error = mean_gradient(SlicedScoreMatching(**form))
    assert ((mean - implicit_gradient(PRECISION)).abs() < 3.9 * error).all()


@pytest.mark.statistical
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_optimum_is_the_precision_of_the_data(form):
    mean, error = mean_gradient(SlicedScoreMatching(**form), OPTIMUM)
    assert (mean.abs() < 3.9 * error).all()
    away, error = mean_gradient(SlicedScoreMatching(**form), 1.2 * OPTIMUM, num_batches=400)
    assert (away.abs() > 3.9 * error).any()


@pytest.mark.statistical
def test_variances_over_directions_are_the_known_ones():
    x = gaussian_rows(1).expand(100_000, 2)
    square = PRECISION.square().sum()
    off_diagonal = square - PRECISION.diagonal().square().sum()
    for directions, known in (("rademacher", off_diagonal), ("gaussian", square)):
        for num_directions in (1, 3):
            losses = sliced_score_matching(
                Quadratic(),
                x,
                directions=directions,
                num_directions=num_directions,
                generator=torch.Generator().manual_seed(2),
            )
            found = losses.var().item()
            assert found == pytest.approx(float(8 * known / num_directions), rel=0.05)


@pytest.mark.statistical
def test_a_blur_targets_the_blurred_data():
    mean, error = mean_gradient(SlicedScoreMatching(sigma=0.7))
    blurred = COVARIANCE + 0.49 * torch.eye(2).double()
    assert ((mean - implicit_gradient(PRECISION, blurred)).abs() < 3.9 * error).all()
    assert ((mean - implicit_gradient(PRECISION)).abs() > 3.9 * error).any()


def test_it_says_which_density_it_learns():
    objective, generator = SlicedScoreMatching(sigma=0.3), torch.Generator()
    assert objective.noise_level(objective.init(gaussian_rows(50), generator)) == 0.3
    plain = SlicedScoreMatching()
    state = plain.init(gaussian_rows(50), generator)
    assert plain.noise_level(state) is None
    assert "sigma 0" in plain.explain(state)
    assert plain.blindness(state)


@pytest.mark.parametrize(
    "bad", [{"num_directions": 0}, {"directions": "sphere"}, {"sigma": float("inf")}]
)
def test_bad_settings_are_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        SlicedScoreMatching(**bad)
