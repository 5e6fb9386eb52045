"""The penalty on energies: its closed form on a Gaussian, and a run with one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import basin
from basin.objectives import DualScoreMatching, EnergyPenalty, NoiseContrastiveEstimation
from basin.objectives.denoising_score_matching import DenoisingScoreMatching

VARIANCE = 0.8


class Parabola(nn.Module):
    """E = lambda |x|^2/2 + c."""

    def __init__(self, precision=1.0, constant=0.0):
        super().__init__()
        self.precision = nn.Parameter(torch.tensor(precision, dtype=torch.float64))
        self.constant = nn.Parameter(torch.tensor(constant, dtype=torch.float64))

    def forward(self, x):
        return self.precision * x.square().sum(1) / 2 + self.constant


def rows(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return VARIANCE**0.5 * torch.randn(n, 1, generator=generator, dtype=torch.float64)


def closed_form(precision, constant):
    """E[(lambda x^2/2 + c)^2] in one dimension."""
    return 3 * precision**2 * VARIANCE**2 / 4 + precision * constant * VARIANCE + constant**2


class OnTheLoss(EnergyPenalty):
    """Mutant: the square of the mean energy."""

    def penalty(self, energy, x, state, generator):
        return energy(x).mean().square().expand(len(x))


def deviation_from_closed_form(kind):
    energy, x = Parabola(1.3, -0.6), rows(100_000)
    found = kind().penalty(energy, x, None, torch.Generator()).detach()
    error = energy(x).detach().square().std() / len(x) ** 0.5
    return float((found.mean() - closed_form(1.3, -0.6)).abs() / error)


@pytest.mark.statistical
def test_the_penalty_is_the_mean_square_of_the_energy():
    assert deviation_from_closed_form(EnergyPenalty) < 3.9
    assert deviation_from_closed_form(OnTheLoss) > 3.9


def test_it_is_added_with_its_weight_to_the_same_draws():
    energy, x, inside = Parabola(1.3), rows(64), DenoisingScoreMatching(0.5)
    outside = EnergyPenalty(inside, weight=0.2)

    def loss(objective):
        generator = torch.Generator().manual_seed(0)
        return objective(energy, x, objective.init(x, generator), generator)

    with_it, without = loss(outside), loss(inside)
    square = energy(x).square().mean().detach()
    torch.testing.assert_close(with_it.terms["energy_square"], square)
    torch.testing.assert_close(with_it.value, without.value + 0.2 * square)
    gradients = torch.autograd.grad(with_it.value, list(energy.parameters()))
    assert float(gradients[1]) == pytest.approx(0.4 * float(energy(x).mean().detach()))


def test_a_noise_conditional_energy_is_penalised_over_its_ladder():
    x, objective = rows(64), EnergyPenalty(DualScoreMatching(0.1, 10.0))
    levels = []

    def energy(points, sigma):
        levels.append(sigma)
        return points.square().sum(1) / sigma**2

    state = objective.init(x, torch.Generator())
    objective.penalty(energy, x, state, torch.Generator().manual_seed(0))
    assert 0.1 <= float(levels[0].min()) < 0.2
    assert 5.0 < float(levels[0].max()) <= 10.0


def test_a_run_with_learned_parts_inside():
    truth = basin.datasets.StandardGaussian(2)

    def largest_energy(weight):
        run = basin.fit(
            basin.energies.MLP(2, hidden=(16,)),
            truth,
            EnergyPenalty(NoiseContrastiveEstimation(), weight=weight),
            num_steps=100,
            batch_size=64,
        )
        assert "log_z" in run.history[-1]["terms"]
        x = truth.sample(500, torch.Generator().manual_seed(0))
        return float(run.energy(x).detach().square().mean())

    assert largest_energy(10.0) < 0.2 * largest_energy(1e-4)
