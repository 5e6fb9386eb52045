"""The penalty on gradients: its closed form on a Gaussian, and what it does to the optimum."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import basin
from basin.objectives import DualScoreMatching, GradientPenalty
from basin.objectives.denoising_score_matching import DenoisingScoreMatching

VARIANCE, SIGMA = 0.8, 0.5


class Parabola(nn.Module):
    """E = lambda |x|^2/2."""

    def __init__(self, precision=1.0):
        super().__init__()
        self.precision = nn.Parameter(torch.tensor(precision, dtype=torch.float64))

    def forward(self, x):
        return self.precision * x.square().sum(1) / 2


def rows(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return VARIANCE**0.5 * torch.randn(n, 2, generator=generator, dtype=torch.float64)


class NormOnly(GradientPenalty):
    """Mutant: the norm, not its square."""

    def penalty(self, energy, x, state, generator):
        return super().penalty(energy, x, state, generator).sqrt()


def deviation_from_closed_form(kind, precision=1.7):
    found = kind().penalty(Parabola(precision), rows(50_000), None, torch.Generator()).detach()
    expected = precision**2 * 2 * VARIANCE
    return float((found.mean() - expected).abs() / (found.std() / len(found) ** 0.5))


@pytest.mark.statistical
def test_the_penalty_is_the_mean_square_of_the_slope():
    assert deviation_from_closed_form(GradientPenalty) < 3.9
    assert deviation_from_closed_form(NormOnly) > 3.9


def deviation_of_gradient(objective, precision):
    """Of the mean gradient over batches, in standard errors."""
    energy, generator, gradients = Parabola(precision), torch.Generator().manual_seed(0), []
    state = objective.init(rows(100), generator)
    for index in range(100):
        loss = objective(energy, rows(256, seed=index), state, generator)
        gradients.append(torch.autograd.grad(loss.value, energy.precision)[0])
    values = torch.stack(gradients)
    return float(values.mean() / (values.std() / len(values) ** 0.5))


@pytest.mark.statistical
def test_the_optimum_of_denoising_score_matching_is_shrunk_as_it_must():
    """J + w lambda^2 d v is least at lambda = 1 / (v + sigma^2 + w v)."""
    objective = GradientPenalty(DenoisingScoreMatching(SIGMA), weight=0.3)
    shrunk = 1 / (VARIANCE + SIGMA**2 + 0.3 * VARIANCE)
    assert abs(deviation_of_gradient(objective, shrunk)) < 3.9
    assert abs(deviation_of_gradient(objective, 1 / (VARIANCE + SIGMA**2))) > 3.9


def test_an_energy_with_its_score_in_closed_form_has_the_same_penalty():
    energy, x = basin.energies.MLP(2, hidden=(8,)).double(), rows(10)
    found = GradientPenalty().penalty(energy, x, None, torch.Generator())
    plain = GradientPenalty().penalty(lambda x: energy(x), x, None, torch.Generator())
    torch.testing.assert_close(found, plain)
    found.sum().backward()
    assert all(parameter.grad is not None for parameter in energy.parameters())


def test_a_noise_conditional_energy_is_penalised_over_its_ladder():
    x, objective = rows(64), GradientPenalty(DualScoreMatching(0.1, 10.0))
    energy = basin.energies.NoiseConditional(2, hidden=(8,)).double()
    state = objective.init(x, torch.Generator())
    penalty = objective.penalty(energy, x, state, torch.Generator().manual_seed(0))
    assert penalty.shape == (64,)
    assert penalty.requires_grad


def test_discrete_rows_have_no_gradient():
    with pytest.raises(ValueError, match="objective must be for rows with gradients"):
        GradientPenalty(basin.objectives.PseudoLikelihood())
