"""Recovery likelihood against its closed forms on Gaussians.

Data N(0, S), V = S + sigma^2, t = s^2, y = x_sigma + s z; E(x, sigma) = L x^2 / 2. The conditional
p(x | y) is Gaussian of precision L + 1/t and mean y / (1 + L t), so exact draws have
    E[x~^2] = t / (1 + L t) + (V + t) / (1 + L t)^2,    dJ/dL = (V - E[x~^2]) / 2
which is zero at L = 1 / V for every t, and tends to t (L V - 1) as t -> 0: t times the gradient of
score matching.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

import basin
from basin.core.conditions import Given
from basin.core.describe import build, describe
from basin.objectives.recovery_likelihood import RecoveryLikelihood, recovery_likelihood
from basin.samplers import MALA, Langevin

VARIANCE, SIGMA = 1.5, 0.5
BLURRED = VARIANCE + SIGMA**2


class Parabola(nn.Module):
    """E(x, sigma) = L x^2 / 2 whatever sigma, or with the right dependence on it."""

    def __init__(self, precision, follows_sigma=False):
        super().__init__()
        self.precision = nn.Parameter(torch.tensor(float(precision), dtype=torch.float64))
        self.follows_sigma = follows_sigma

    def forward(self, x, sigma):
        square = 0.5 * self.precision * x.square().sum(1)
        return square / (VARIANCE + sigma**2) if self.follows_sigma else square


def rows(n, seed=0, dim=1):
    generator = torch.Generator().manual_seed(seed)
    return VARIANCE**0.5 * torch.randn(n, dim, generator=generator, dtype=torch.float64)


def closed_form(precision, spread):
    t = (spread * SIGMA) ** 2
    recovered = t / (1 + precision * t) + (BLURRED + t) / (1 + precision * t) ** 2
    return (BLURRED - recovered) / 2


def deviation(precision, truth, *, spread=1.0, n=40_000):
    """Of the mean gradient from ``truth``, in standard errors."""
    energy, generator = Parabola(precision), torch.Generator().manual_seed(100_000)
    gradients = []
    for index in range(20):
        loss = recovery_likelihood(
            energy,
            rows(n // 20, seed=index),
            SIGMA,
            spread=spread,
            kernel=MALA(0.4),
            num_steps=15,
            generator=generator,
        )
        gradients.append(torch.autograd.grad(loss.mean(), energy.precision)[0])
    values = torch.stack(gradients)
    return float((values.mean() - truth).abs() / (values.std() / 20**0.5))


@pytest.mark.statistical
@pytest.mark.parametrize(("precision", "spread"), [(0.2, 1.0), (1.5, 1.0), (1.5, 3.0)])
def test_the_gradient_is_the_closed_form(precision, spread):
    assert deviation(precision, closed_form(precision, spread), spread=spread) < 3.9


@pytest.mark.statistical
def test_mutants_miss_it():
    precision = 1.5
    assert deviation(precision, -closed_form(precision, 1.0)) > 3.9  # the sign
    assert deviation(precision, closed_form(precision, 0.5)) > 3.9  # the wrong s
    of_likelihood = (BLURRED - 1 / precision) / 2
    assert deviation(precision, of_likelihood) > 3.9  # chains that are not held near y


@pytest.mark.statistical
def test_the_optimum_is_the_blurred_data_at_any_spread():
    optimum = 1 / BLURRED
    for spread in (0.5, 2.0):
        assert closed_form(optimum, spread) == pytest.approx(0, abs=1e-12)
        assert deviation(optimum, 0.0, spread=spread) < 3.9
    assert deviation(1.2 * optimum, 0.0, spread=2.0) > 3.9


def test_it_tends_to_score_matching_as_the_spread_falls():
    for precision in (0.2, 1.5):
        limit = precision * BLURRED - 1
        errors = [abs(closed_form(precision, s) / (s * SIGMA) ** 2 - limit) for s in (0.1, 0.05)]
        assert errors[1] / errors[0] == pytest.approx(0.25, abs=0.02)  # of order s^2


def objective_of(**changes):
    return RecoveryLikelihood(**(dict(sigma_min=0.1, sigma_max=10.0) | changes))


@pytest.mark.statistical
def test_the_right_energy_at_every_level_has_no_gradient():
    generator, objective = torch.Generator().manual_seed(100_000), objective_of(num_steps=15)
    for precision, is_right in ((1.0, True), (1.2, False)):
        energy = Parabola(precision, follows_sigma=True)
        state, gradients = objective.init(rows(500), generator), []
        for index in range(60):
            loss = objective(energy, rows(256, seed=index), state, generator)
            gradients.append(torch.autograd.grad(loss.value, energy.precision)[0])
        values = torch.stack(gradients)
        away = float(values.mean().abs() / (values.std() / 60**0.5))
        assert (away < 3.9) == is_right


def test_the_ladder_is_read_off_the_data_and_exposed():
    generator = torch.Generator().manual_seed(0)
    state = RecoveryLikelihood().init(rows(500), generator)
    assert 0 < state.sigma_min < state.sigma_max
    assert "diameter" in RecoveryLikelihood().explain(state)
    given = objective_of().init(rows(500), generator)
    assert (given.sigma_min, given.sigma_max) == (0.1, 10.0)
    assert RecoveryLikelihood().noise_level(state) is None


def test_facts_terms_and_description():
    objective = RecoveryLikelihood()
    generator = torch.Generator().manual_seed(0)
    state = objective.init(rows(200, dim=2), generator)
    loss = objective(Parabola(1.0), rows(20, dim=2), state, generator)
    assert set(loss.terms) == set(objective.meanings)
    assert objective.alarm({name: float(term) for name, term in loss.terms.items()}) == ""
    assert "far modes" in objective.blindness(state)
    assert objective.calmer().num_steps == 2 * objective.num_steps
    assert build(describe(objective), [basin.objectives, basin.samplers, basin.mcmc]) == objective


def test_each_row_keeps_its_condition_and_its_level():
    """E(x | c) = 5000 (x - c)^2: the draws lie near c, wherever the noisier copies are."""
    condition = torch.tensor([-3.0, 0.0, 4.0]).double()
    energy = Given(lambda x, sigma, c: 5000 * (x[:, 0] - c).square(), condition)
    objective = objective_of(sigma_max=0.2, kernel=Langevin(0.005), num_steps=50, num_chains=2)
    generator = torch.Generator().manual_seed(0)
    loss = objective(energy, condition[:, None], objective.init(rows(9), generator), generator)
    assert float(loss.terms["E_model"]) < 20


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sigma_min": 0.0}, "sigma_min must be"),
        ({"sigma_max": -1.0}, "sigma_max must be"),
        ({"spread": 0.0}, "spread must be"),
        ({"kernel": None}, "kernel must be one of"),
    ],
)
def test_bad_settings_are_named(settings, words):
    with pytest.raises(ValueError, match=words):
        RecoveryLikelihood(**settings)


def test_a_ladder_upside_down_is_refused():
    with pytest.raises(ValueError, match="sigma_min must lie below sigma_max"):
        objective_of(sigma_min=20.0).init(rows(50), torch.Generator())
