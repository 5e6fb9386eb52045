"""The learned Stein discrepancy against its closed forms on Gaussians.

For x ~ N(0, S), the score s(x) = -Px, a critic f(x) = Ax + b and the weight w of the penalty,

    J(P, A, b) = -tr(PAS) + tr A - w (tr(ASA') + |b|^2),

which is largest at b = 0, A = (S^-1 - P) / (2w): there it is E|s - grad log p|^2 / (4w).
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

import basin
from basin.core.conditions import Given
from basin.core.gradients import score
from basin.objectives.learned_stein import LearnedStein, learned_stein

COVARIANCE = torch.tensor([[2.0, 0.6], [0.6, 0.5]]).double()
PRECISION = torch.tensor([[0.9, 0.1], [0.1, 1.4]]).double()
WEIGHT = 0.7


class Quadratic(nn.Module):
    """E(x) = x'Px/2, P symmetric."""

    def __init__(self, precision):
        super().__init__()
        self.precision = nn.Parameter(precision.clone())

    def forward(self, x):
        symmetric = (self.precision + self.precision.T) / 2
        return 0.5 * ((x @ symmetric) * x).sum(1)


class Linear(nn.Module):
    """f(x) = Ax + b."""

    def __init__(self, matrix, shift=(0.0, 0.0)):
        super().__init__()
        self.matrix = nn.Parameter(matrix.clone())
        self.shift = nn.Parameter(torch.tensor(shift).double())

    def forward(self, x):
        return x @ self.matrix.T + self.shift


def gaussian_rows(n, seed=0):
    z = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return z @ torch.linalg.cholesky(COVARIANCE).T


def closed_form(precision, matrix, shift):
    precision = (precision + precision.T) / 2
    own = torch.trace(matrix) - torch.trace(precision @ matrix @ COVARIANCE)
    return own - WEIGHT * (torch.trace(matrix @ COVARIANCE @ matrix.T) + shift.square().sum())


def best(precision):
    return (torch.linalg.inv(COVARIANCE) - precision) / (2 * WEIGHT)


MATRIX = torch.tensor([[0.4, -0.3], [0.2, 0.6]]).double()
SHIFT = (0.3, -0.5)


def value_and_gradients(function, num_rows=100_000, block=500):
    """Means over blocks of the value and of both gradients, with their standard errors."""
    energy, critic = Quadratic(PRECISION), Linear(MATRIX, SHIFT)
    generator, found = torch.Generator().manual_seed(1), []
    for x in gaussian_rows(num_rows).split(block):
        value = function(energy, critic, x, generator).mean()
        gradients = torch.autograd.grad(value, [*energy.parameters(), *critic.parameters()])
        parts = [value.detach().reshape(1), *(gradient.flatten() for gradient in gradients)]
        found.append(torch.cat(parts))
    values = torch.stack(found)
    return values.mean(0), values.std(0) / len(found) ** 0.5


def deviations(function):
    mean, error = value_and_gradients(function)
    inputs = [PRECISION.clone(), MATRIX.clone(), torch.tensor(SHIFT).double()]
    inputs = [tensor.requires_grad_(True) for tensor in inputs]
    truth = closed_form(*inputs)
    gradients = torch.autograd.grad(truth, inputs)
    exact = torch.cat([truth.detach().reshape(1), *(g.flatten() for g in gradients)])
    return (mean - exact).abs() / error


def right(energy, critic, x, generator, num_probes=None):
    return learned_stein(
        energy, critic, x, penalty=WEIGHT, num_probes=num_probes, generator=generator
    )


def one_probe(energy, critic, x, generator):
    return right(energy, critic, x, generator, num_probes=1)


def three_probes(energy, critic, x, generator):
    return right(energy, critic, x, generator, num_probes=3)


def wrong_trace(energy, critic, x, generator):
    """Mutant: the trace subtracted."""
    f = critic(x)
    return (
        2 * (score(energy, x, create_graph=True) * f).sum(1)
        - right(energy, critic, x, generator)
        - 2 * WEIGHT * f.square().sum(1)
    )


def wrong_score(energy, critic, x, generator):
    """Mutant: the score +dE/dx."""
    return right(lambda x: -energy(x), critic, x, generator)


def without_penalty(energy, critic, x, generator):
    """Mutant: no penalty."""
    return right(energy, critic, x, generator) + WEIGHT * critic(x).square().sum(1)


@pytest.mark.statistical
@pytest.mark.parametrize("function", [right, one_probe, three_probes])
def test_value_and_gradients_are_the_closed_form(function):
    assert (deviations(function) < 3.9).all()


@pytest.mark.statistical
@pytest.mark.parametrize("mutant", [wrong_trace, wrong_score, without_penalty])
def test_mutants_miss_the_closed_form(mutant):
    assert (deviations(mutant) > 3.9).any()


def test_the_best_critic_is_the_error_of_the_score():
    """Both gradients vanish in A; the value is the Fisher divergence over 4w, and so its slope."""
    matrix = best(PRECISION).requires_grad_(True)
    shift = torch.zeros(2).double().requires_grad_(True)
    precision = PRECISION.clone().requires_grad_(True)
    value = closed_form(precision, matrix, shift)
    in_precision, in_matrix, in_shift = torch.autograd.grad(value, (precision, matrix, shift))
    assert in_matrix.abs().max() < 1e-12
    assert in_shift.abs().max() < 1e-12
    gap = torch.linalg.inv(COVARIANCE) - (precision + precision.T) / 2
    fisher = torch.trace(gap @ COVARIANCE @ gap) / (4 * WEIGHT)
    assert float(value.detach()) == pytest.approx(float(fisher.detach()))
    assert torch.allclose(in_precision, torch.autograd.grad(fisher, precision)[0])


def trained_critic(ascend, num_steps=300):
    """The objective's own critic, trained against a fixed energy."""
    objective, generator = LearnedStein(WEIGHT, hidden=(32,)), torch.Generator().manual_seed(0)
    state = objective.init(gaussian_rows(100), generator)
    optimizer = torch.optim.Adam(state.critic.parameters(), 0.02, maximize=ascend)
    energy, rows = Quadratic(PRECISION), gaussian_rows(num_steps * 256, seed=1)
    for x in rows.split(256):
        loss = objective(energy, x, state, generator)
        optimizer.zero_grad()
        loss.value.backward()
        optimizer.step()
    x = gaussian_rows(2000, seed=2)
    truth = x @ best(PRECISION).T
    error = (state.critic(x).detach() - truth).square().sum() / truth.square().sum()
    return float(error), loss.terms


def test_a_trained_critic_becomes_the_best_one():
    """Its mean squared error is below 2 % of that of predicting nothing, and its size right."""
    error, terms = trained_critic(ascend=True)
    assert error < 0.02
    ratio = float(terms["gap"]) / (2 * WEIGHT * float(terms["critic_square"]))
    assert ratio == pytest.approx(1, abs=0.2)


def test_a_critic_that_descends_is_a_mutant_that_fails():
    error, _ = trained_critic(ascend=False, num_steps=30)
    assert error > 1
    assert LearnedStein.learned["critic"].ascends


def test_derivatives_of_any_critic_are_those_of_the_network():
    generator = torch.Generator().manual_seed(0)
    x, energy = gaussian_rows(20), Quadratic(PRECISION)
    network = LearnedStein().init(x, generator).critic
    first, second = (
        learned_stein(energy, critic, x, generator=generator)
        for critic in (network, lambda x: network(x))
    )
    assert torch.allclose(first, second, atol=1e-12)


def test_many_coordinates_take_one_probe_and_images_are_rows():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(16, 1, 4, 4, generator=generator)
    objective = LearnedStein(hidden=(8,))
    energy = basin.energies.MLP((1, 4, 4), hidden=(8,))
    loss = objective(energy, x, objective.init(x, generator), generator)
    before = generator.get_state()
    objective(energy, x, objective.init(x, generator), generator)
    assert torch.isfinite(loss.value)
    assert not torch.equal(before, generator.get_state())


def test_rows_without_a_density_are_blurred_and_it_says_so():
    whole = torch.arange(200.0).reshape(100, 2) % 7
    objective, generator = LearnedStein(hidden=(8,)), torch.Generator().manual_seed(0)
    state = objective.init(whole, generator)
    assert objective.noise_level(state) == state.smoothing.sigma > 0
    assert "repeat" in objective.explain(state)
    assert objective.noise_level(objective.init(gaussian_rows(100), generator)) is None
    assert "weights" in objective.blindness(state)


def test_fit_trains_critic_and_energy():
    run = basin.fit(
        basin.energies.MLP(2, hidden=(16,)),
        basin.datasets.StandardGaussian(2),
        LearnedStein(hidden=(16,), learned_steps=2),
        num_steps=150,
        batch_size=128,
        learning_rate=0.02,
        warmup_steps=0,
        evaluate_every=50,
    )
    divergence = basin.evaluation.fisher_divergence(
        run.energy, basin.datasets.StandardGaussian(2), 2000
    )
    assert divergence.value < 0.3 * divergence.details["of_zero_score"]


def test_bad_arguments_are_named():
    x, generator = gaussian_rows(10), torch.Generator().manual_seed(0)
    with pytest.raises(ValueError, match="penalty must be positive, got 0"):
        LearnedStein(penalty=0)
    with pytest.raises(ValueError, match="num_probes must be a positive whole number"):
        LearnedStein(num_probes=0)
    with pytest.raises(ValueError, match="learned_steps must be a positive whole number"):
        LearnedStein(learned_steps=0)
    with pytest.raises(ValueError, match="hidden must name at least one width"):
        LearnedStein(hidden=())
    with pytest.raises(ValueError, match="critic must return 2 numbers a row"):
        learned_stein(Quadratic(PRECISION), lambda x: x[:, :1], x, generator=generator)
    objective = LearnedStein()
    given = Given(lambda x, c: x.sum(1), torch.zeros(10))
    with pytest.raises(ValueError, match="without conditions"):
        objective(given, x, objective.init(x, generator), generator)
