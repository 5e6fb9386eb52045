"""Short-run maximum likelihood against its closed form on Gaussians.

Data N(m, S), blurred V = S + sigma^2; E(x) = L (x - m)^2 / 2; chains start from N(m, V) and take k
Langevin steps of epsilon: v_{j+1} = (1 - epsilon L)^2 v_j + 2 epsilon, and dJ/dL = (V - v_k) / 2.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

import basin
from basin.core.conditions import Given
from basin.core.describe import build, describe
from basin.objectives.short_run_maximum_likelihood import ShortRunMaximumLikelihood
from basin.samplers import Langevin

MEAN, SIGMA, STEP, NUM_STEPS = 3.0, 0.5, 0.2, 3


class Parabola(nn.Module):
    """E(x) = L (x - m)^2 / 2."""

    def __init__(self, precision):
        super().__init__()
        self.precision = nn.Parameter(torch.tensor(float(precision), dtype=torch.float64))

    def forward(self, x):
        return 0.5 * self.precision * (x - MEAN).square().sum(1)


def rows(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return MEAN + 1.5 * torch.randn(n, 1, generator=generator, dtype=torch.float64)


FIRST = rows(2000)
START = float((FIRST - MEAN).square().mean()) + SIGMA**2  # the chains' own mean square at the start
DATA = 1.5**2 + SIGMA**2


def deviation(objective, precision, truth, num_batches=60):
    generator = torch.Generator().manual_seed(100_000)
    energy = Parabola(precision)
    state = objective.init(FIRST, generator)
    gradients = []
    for index in range(num_batches):
        loss = objective(energy, rows(1000, seed=1 + index), state, generator)
        assert loss.state is state
        gradients.append(torch.autograd.grad(loss.value, energy.precision)[0])
    values = torch.stack(gradients)
    return float((values.mean() - truth).abs() / (values.std() / num_batches**0.5))


def closed_form(precision, start=START):
    variance = start
    for _ in range(NUM_STEPS):
        variance = (1 - STEP * precision) ** 2 * variance + 2 * STEP
    return (DATA - variance) / 2


def short_run(**changes):
    settings = dict(kernel=Langevin(STEP), num_steps=NUM_STEPS, sigma=SIGMA, num_chains=None)
    settings |= dict(energy_l2=0.0)
    return ShortRunMaximumLikelihood(**(settings | changes))


@pytest.mark.statistical
@pytest.mark.parametrize("precision", [0.3, 1.5])
def test_the_gradient_is_the_closed_form(precision):
    assert deviation(short_run(), precision, closed_form(precision)) < 3.9


@pytest.mark.statistical
def test_mutants_miss_it():
    assert deviation(short_run(), 0.3, closed_form(0.3, start=4 * START)) > 3.9  # too wide a start
    assert deviation(short_run(num_steps=NUM_STEPS + 1), 1.5, closed_form(1.5)) > 3.9
    assert deviation(short_run(sigma=0.0), 1.5, closed_form(1.5)) > 3.9


def test_facts_terms_and_description():
    objective = ShortRunMaximumLikelihood()
    generator = torch.Generator().manual_seed(0)
    state = objective.init(FIRST, generator)
    loss = objective(Parabola(1.0), rows(20), state, generator)
    assert set(loss.terms) == set(objective.meanings)
    assert objective.alarm({name: float(term) for name, term in loss.terms.items()}) == ""
    assert objective.noise_level(state) == objective.sigma
    assert "far mode" in objective.blindness(state)
    assert objective.calmer().num_steps == 2 * objective.num_steps
    assert build(describe(objective), [basin.objectives, basin.samplers]) == objective


def test_chains_carry_the_conditions_of_their_rows():
    """E(x | c) = 50 (x - c)^2: from anywhere the chains end near c."""
    condition = torch.tensor([-3.0, 0.0, 4.0]).double()
    energy = Given(lambda x, c: 50 * (x[:, 0] - c).square(), condition)
    objective = short_run(kernel=Langevin(0.005), num_steps=30, num_chains=2)
    generator = torch.Generator().manual_seed(0)
    loss = objective(energy, condition[:, None], objective.init(FIRST, generator), generator)
    assert float(loss.terms["E_model"]) < 5
