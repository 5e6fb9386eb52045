"""Exact score matching against its closed forms on Gaussians (``helpers.quadratics``)."""

from __future__ import annotations

import importlib

import pytest
import torch

import basin
from basin.core.conditions import Given
from basin.core.curvature import score_and_hessian_diagonal
from basin.core.gradients import score
from basin.core.memory import bytes_kept
from basin.objectives.denoising_score_matching import denoising_score_matching
from basin.objectives.exact_score_matching import (
    ExactScoreMatching,
    exact_score_matching,
    exact_trace_bytes,
)
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

module = importlib.import_module("basin.objectives.exact_score_matching")


def plus(energy, x):
    """Mutant: + 2 d2E, as some course notes print."""
    s, diagonal = score_and_hessian_diagonal(energy, x)
    return s.square().sum(1) + 2 * diagonal.sum(1)


def half(energy, x):
    """Mutant: the factor 1/2 of the paper."""
    return 0.5 * exact_score_matching(energy, x)


def no_square(energy, x):
    """Mutant: the trace alone."""
    return -2 * score_and_hessian_diagonal(energy, x)[1].sum(1)


@pytest.mark.statistical
def test_minus_one_on_the_standard_normal():
    """The sign that course notes get wrong: E = x^2/2 on N(0, 1)."""
    x = gaussian_rows(100_000, covariance=torch.eye(1).double())
    loss = exact_score_matching(lambda x: 0.5 * x.square().sum(1), x)
    torch.testing.assert_close(loss, x[:, 0].square() - 2)
    assert standard_errors(loss, -1.0) < 3.9
    assert standard_errors(plus(lambda x: 0.5 * x.square().sum(1), x), -1.0) > 3.9


@pytest.mark.statistical
@pytest.mark.parametrize("scale", [0.0, 0.4, 1.5])
def test_value_is_the_closed_form(scale):
    loss = exact_score_matching(Quadratic(scale * PRECISION), gaussian_rows(100_000))
    if scale:
        assert standard_errors(loss, implicit_loss(scale * PRECISION)) < 3.9
    else:  # the trivial predictor, score zero, loses nothing
        assert torch.equal(loss, torch.zeros_like(loss))


@pytest.mark.statistical
@pytest.mark.parametrize("mutant", [plus, half, no_square])
def test_mutants_miss_the_closed_form(mutant):
    loss = mutant(Quadratic(), gaussian_rows(100_000))
    assert standard_errors(loss, implicit_loss(PRECISION)) > 3.9


@pytest.mark.statistical
@pytest.mark.parametrize("num_probes", [None, 1, 3])
def test_the_gradient_is_the_closed_forms(num_probes):
    mean, error = mean_gradient(ExactScoreMatching(num_probes))
    assert ((mean - implicit_gradient(PRECISION)).abs() < 3.9 * error).all()


@pytest.mark.statistical
def test_the_optimum_is_the_precision_of_the_data():
    assert implicit_gradient(OPTIMUM).abs().max() < 1e-12
    mean, error = mean_gradient(ExactScoreMatching(), OPTIMUM)
    assert (mean.abs() < 3.9 * error).all()
    away, error = mean_gradient(ExactScoreMatching(), 1.1 * OPTIMUM)
    assert (away.abs() > 3.9 * error).any()


@pytest.mark.statistical
def test_it_is_the_fisher_divergence_less_the_datas_own():
    """E|grad log p - s|^2 = J + E|grad log p|^2, off a Gaussian: a mixture and a wrong model."""
    truth = basin.energies.GaussianMixture([[-1.0, 0.0], [1.5, 0.5]], torch.eye(2), [0.3, 0.7])
    model = basin.energies.MLP(2, hidden=(8,), confinement=0.5)
    x = truth.sample(100_000, torch.Generator().manual_seed(0))
    own = score(truth, x)
    fisher = (own - score(model, x)).square().sum(1)
    by_parts = exact_score_matching(model, x) + own.square().sum(1)
    assert standard_errors(fisher - by_parts, 0.0) < 3.9
    assert standard_errors(fisher - plus(model, x) - own.square().sum(1), 0.0) > 3.9


@pytest.mark.statistical
def test_hutchinson_has_the_same_mean_and_none_of_its_variance_on_a_diagonal():
    x = gaussian_rows(100_000)
    generator = torch.Generator().manual_seed(1)
    exact = exact_score_matching(Quadratic(), x)
    estimate = exact_score_matching(Quadratic(), x, num_probes=2, generator=generator)
    assert standard_errors(estimate - exact, 0.0) < 3.9
    # Variance over probes 2 (||H||_F^2 - sum H_ii^2) / k, times the square of the factor 2.
    expected = 4 * 2 * 2 * PRECISION[0, 1] ** 2 / 2
    assert (estimate - exact).var().item() == pytest.approx(float(expected), rel=0.05)
    diagonal = Quadratic(PRECISION.diagonal().diag())
    estimate = exact_score_matching(diagonal, x[:9], num_probes=1, generator=generator)
    torch.testing.assert_close(estimate, exact_score_matching(diagonal, x[:9]))


@pytest.mark.statistical
def test_with_a_blur_it_has_the_gradient_of_denoising_score_matching():
    """Both are E_{p_sigma}|grad log p_sigma - s|^2 up to a constant."""
    sigma = 0.7
    mean, error = mean_gradient(ExactScoreMatching(sigma=sigma))
    blurred = COVARIANCE + sigma**2 * torch.eye(2).double()
    assert ((mean - implicit_gradient(PRECISION, blurred)).abs() < 3.9 * error).all()
    assert ((mean - implicit_gradient(PRECISION)).abs() > 3.9 * error).any()
    x = gaussian_rows(200_000)
    generator = torch.Generator().manual_seed(1)
    denoising = denoising_score_matching(Quadratic(), x, sigma=sigma, generator=generator)
    assert standard_errors(denoising, implicit_loss(PRECISION, blurred) + 2 / sigma**2) < 3.9


def test_rows_on_a_grid_are_blurred_and_it_is_said():
    whole = gaussian_rows(500).mul(3).round()
    objective, generator = ExactScoreMatching(), torch.Generator()
    state = objective.init(whole, generator)
    assert objective.noise_level(state) > 0
    assert "repeat" in objective.explain(state)
    assert objective.noise_level(objective.init(gaussian_rows(500), generator)) is None
    assert objective.blindness(state)


@pytest.mark.parametrize(
    ("energy", "shape"),
    [
        (basin.energies.MLP(2), (2,)),
        (basin.energies.MLP(16), (16,)),
        (basin.energies.ResNet(8), (8,)),
        (basin.energies.Conv((1, 6, 6)), (1, 6, 6)),
    ],
)
def test_the_forecast_is_the_size_of_the_graph(energy, shape, generator):
    """Within its allowance for the backward pass: never below the graph, at most 3 times it."""
    x = torch.randn(32, *shape, generator=generator)
    graph = bytes_kept(lambda: score_and_hessian_diagonal(energy, x))
    weights = 4 * sum(p.numel() for p in energy.parameters())
    assert graph - weights < exact_trace_bytes(energy, x) < 3 * graph


def test_what_cannot_fit_is_refused_before_it_is_built(monkeypatch, generator):
    monkeypatch.setattr(module, "available_memory", lambda device: 1e5)
    energy = basin.energies.MLP(8, hidden=(32,))
    x = torch.randn(64, 8, generator=generator)
    objective = ExactScoreMatching()
    built = []
    monkeypatch.setattr(
        module, "score_and_hessian_diagonal", lambda *arguments: built.append(arguments)
    )
    with pytest.raises(ValueError, match=r"64 rows of 8 .* 0.0001 GB are free.*num_probes.*Sliced"):
        objective(energy, x, objective.init(x, generator), generator)
    assert not built


def test_the_forecast_is_made_once_for_a_size_of_batch(monkeypatch, generator):
    sizes = []
    monkeypatch.setattr(module, "_require_room", lambda energy, x: sizes.append(len(x)))
    energy, objective = basin.energies.MLP(2, hidden=(8,)), ExactScoreMatching()
    x = torch.randn(64, 2, generator=generator)
    state = objective.init(x, generator)
    for size in (32, 32, 16, 64, 64):
        state = objective(energy, x[:size], state, generator).state
    assert sizes == [32, 64]
    hutchinson = ExactScoreMatching(num_probes=1)
    hutchinson(energy, x, hutchinson.init(x, generator), generator)
    assert sizes == [32, 64]


def test_the_forecast_knows_conditions_and_single_rows(generator):
    class Shifted(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.energy = basin.energies.MLP(3, hidden=(8,))

        def forward(self, x, condition):
            assert len(x) == len(condition)
            return self.energy(x + condition)

    x = torch.randn(9, 3, generator=generator)
    assert exact_trace_bytes(Given(Shifted(), x), x) > 0
    assert exact_trace_bytes(Given(Shifted(), x[:1]), x[:1]) > 0


def test_probes_need_a_generator():
    with pytest.raises(ValueError, match="generator must be given"):
        exact_score_matching(Quadratic(), gaussian_rows(3), num_probes=1)


@pytest.mark.parametrize("bad", [{"num_probes": 0}, {"sigma": -1.0}, {"sigma": "some"}])
def test_bad_settings_are_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        ExactScoreMatching(**bad)
