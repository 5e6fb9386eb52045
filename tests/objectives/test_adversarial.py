"""Adversarial training against its closed forms on Gaussians.

For x ~ N(0, S), E = x'Px/2 and a linear generator, q = N(0, C) with C = WW' + sigma^2 I:

    J = E_p[E] - E_q[E] + H(q) = tr(PS)/2 - tr(PC)/2 + log det(2 pi e C)/2
      = E_p[-log model] - KL(q || model)
    dJ/dP = (S - C)/2      dJ/dW = -PW + C^-1 W

and at C = P^-1 the bound is tight and dJ/dP = (S - P^-1)/2, the likelihood's gradient.
"""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import nn

import basin
from basin.core.conditions import Given
from basin.energies.analytic.gaussian import Gaussian
from basin.energies.networks.noisy_generator import NoisyGenerator
from basin.objectives.adversarial import Adversarial, adversarial

COVARIANCE = torch.tensor([[2.0, 0.6], [0.6, 0.5]]).double()
PRECISION = torch.tensor([[0.9, 0.1], [0.1, 1.4]]).double()
SIGMA = 0.1  # of a new generator whose scale is one


class Quadratic(nn.Module):
    """E(x) = x'Px/2, P symmetric."""

    def __init__(self, precision):
        super().__init__()
        self.precision = nn.Parameter(precision.clone())

    def forward(self, x):
        symmetric = (self.precision + self.precision.T) / 2
        return 0.5 * ((x @ symmetric) * x).sum(1)


class Linear(nn.Module):
    """g(z) = Wz, with its derivatives."""

    def __init__(self, matrix):
        super().__init__()
        self.matrix = nn.Parameter(matrix.clone())

    def forward(self, z):
        return z @ self.matrix.T

    def with_derivatives(self, z, directions):
        return self(z), (directions @ self.matrix.T).expand(len(z), -1, -1)


def gaussian_rows(n, seed=0):
    z = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return z @ torch.linalg.cholesky(COVARIANCE).T


def matrix_for(covariance):
    """W whose generator draws from N(0, covariance)."""
    return torch.linalg.cholesky(covariance - SIGMA**2 * torch.eye(2).double())


EXACT = matrix_for(torch.linalg.inv(PRECISION))  # q is the model
OTHER = torch.tensor([[1.1, 0.2], [-0.3, 0.6]]).double()


STANDARD = Gaussian([0.0, 0.0], torch.eye(2))


def generator_with(matrix):
    """q = N(0, WW' + sigma^2 I): the part that starts along the data's axes is taken out."""
    q = NoisyGenerator(Linear(matrix), 2, STANDARD)
    with torch.no_grad():
        q.linear.zero_()
    return q


def covariance_of(matrix):
    return matrix @ matrix.T + SIGMA**2 * torch.eye(2).double()


def closed_form(precision, matrix, penalty=0.0):
    precision, covariance = (precision + precision.T) / 2, covariance_of(matrix)
    entropy = 0.5 * torch.logdet(2 * math.pi * math.e * covariance)
    energies = 0.5 * torch.trace(precision @ (COVARIANCE - covariance))
    return energies + entropy + penalty * torch.trace(precision @ COVARIANCE @ precision)


def value_and_gradients(function, matrix, num_batches=40, batch=500):
    """Means over fresh batches of value and of both gradients, with their standard errors."""
    energy = Quadratic(PRECISION)
    q = generator_with(matrix)
    generator, found = torch.Generator().manual_seed(1), []
    for x in gaussian_rows(num_batches * batch).split(batch):
        value = function(energy, q, x, generator).mean()
        gradients = torch.autograd.grad(value, [energy.precision, q.network.matrix])
        parts = [value.detach().reshape(1), *(gradient.flatten() for gradient in gradients)]
        found.append(torch.cat(parts))
    values = torch.stack(found)
    return values.mean(0), values.std(0) / num_batches**0.5


def exact(matrix, penalty=0.0):
    inputs = [PRECISION.clone().requires_grad_(True), matrix.clone().requires_grad_(True)]
    value = closed_form(*inputs, penalty)
    gradients = torch.autograd.grad(value, inputs)
    return torch.cat([value.detach().reshape(1), *(g.flatten() for g in gradients)])


def deviations(function, matrix, penalty=0.0):
    mean, error = value_and_gradients(function, matrix)
    return (mean - exact(matrix, penalty)).abs() / error


def right(energy, q, x, generator, **kwargs):
    return adversarial(energy, q, x, num_shared=64, generator=generator, **kwargs)


def penalised(energy, q, x, generator):
    return right(energy, q, x, generator, gradient_penalty=0.3)


def wrong_entropy(energy, q, x, generator):
    """Mutant: the entropy's sign flipped."""
    energies = energy(x) - energy(q.draw(len(x), generator).x)
    return 2 * energies - right(energy, q, x, generator)


def no_entropy(energy, q, x, generator):
    """Mutant: the entropy left out, as in the first energy-based GAN."""
    return energy(x) - energy(q.draw(len(x), generator).x)


def wrong_side(energy, q, x, generator):
    """Mutant: the energy of data and draws exchanged."""
    return right(lambda x: -energy(x), q, x, generator)


@pytest.mark.statistical
@pytest.mark.parametrize("matrix", [EXACT, OTHER], ids=["q is the model", "another q"])
def test_value_and_both_gradients_are_the_closed_form(matrix):
    assert (deviations(right, matrix) < 3.9).all()


@pytest.mark.statistical
def test_the_gradient_penalty_adds_its_closed_form():
    assert (deviations(penalised, OTHER, penalty=0.3) < 3.9).all()


@pytest.mark.statistical
@pytest.mark.parametrize("mutant", [wrong_entropy, no_entropy, wrong_side])
def test_mutants_miss_the_closed_form(mutant):
    assert (deviations(mutant, OTHER) > 3.9).any()


def test_with_the_exact_generator_the_bound_is_the_likelihood_and_so_is_its_gradient():
    """On the closed form that the estimates were just held to."""
    value, *gradients = exact(EXACT)
    log_z = 0.5 * torch.logdet(2 * math.pi * torch.linalg.inv(PRECISION))
    assert torch.allclose(value, 0.5 * torch.trace(PRECISION @ COVARIANCE) + log_z)
    likelihood = 0.5 * (COVARIANCE - torch.linalg.inv(PRECISION))
    assert torch.allclose(torch.stack(gradients[:4]).reshape(2, 2), likelihood)
    assert torch.stack(gradients[4:]).abs().max() < 1e-12
    assert exact(OTHER)[0] < value  # any other q bounds from below


BASE = Gaussian([0.0, 0.0], 4.0 * torch.eye(2))


def weighed(energy, q, x, generator):
    return right(energy, q, x, generator, base=BASE, base_share=0.2)


@pytest.mark.statistical
def test_weighed_draws_give_the_likelihood_gradient_where_even_ones_do_not():
    """q is twice too wide; the error that remains is of order one over the batch."""
    matrix = matrix_for(2 * torch.linalg.inv(PRECISION))
    likelihood = 0.5 * (COVARIANCE - torch.linalg.inv(PRECISION)).flatten()
    of_weighed, error = value_and_gradients(weighed, matrix)
    of_even, error_of_even = value_and_gradients(right, matrix)
    assert ((of_weighed[1:5] - likelihood).abs() < 3.9 * error[1:5] + 5 / 500).all()
    assert (of_even[1:5] - likelihood).abs().max() > 0.3
    # The value and the generator's own gradient are those of the plain bound.
    difference = (of_weighed - of_even).abs() / (error.square() + error_of_even.square()).sqrt()
    assert (difference[[0, 5, 6, 7, 8]] < 3.9).all()


@pytest.mark.statistical
def test_without_the_base_in_the_mixture_s_density_weights_are_wrong(monkeypatch):
    """Mutant: draws of the base weighed as if the generator alone had made them."""
    monkeypatch.setattr(Gaussian, "forward", lambda self, x: torch.full_like(x[:, 0], torch.inf))
    matrix = matrix_for(torch.linalg.inv(PRECISION))
    likelihood = 0.5 * (COVARIANCE - torch.linalg.inv(PRECISION)).flatten()
    found, error = value_and_gradients(weighed, matrix)
    assert ((found[1:5] - likelihood).abs() > 3.9 * error[1:5] + 5 / 500).any()


def test_a_far_mode_that_the_generator_misses_is_found_by_the_base():
    """The energy has a second pit where q never goes: it takes nearly all the weight."""

    def two_pits(x):
        near, far = x.square().sum(1), (x - torch.tensor([4.0, 0.0]).double()).square().sum(1)
        return -torch.logsumexp(torch.stack([-near / 2, -far / 2 + 3.0]), dim=0)

    q, generator = generator_with(0.5 * torch.eye(2).double()), torch.Generator().manual_seed(0)
    offset = torch.zeros(2).double().requires_grad_(True)  # raises each pit

    def shifted(x):
        return two_pits(x) + torch.where(x[:, 0] < 2, offset[0], offset[1])

    x = torch.zeros(500, 2).double()
    wide = Gaussian([0.0, 0.0], 16.0 * torch.eye(2))
    loss = right(shifted, q, x, generator, base=wide, base_share=1.0).mean()
    (gradient,) = torch.autograd.grad(loss, offset)
    share = math.exp(3) / (1 + math.exp(3))
    assert float(gradient[1]) == pytest.approx(-share, abs=0.1)
    plain = right(shifted, q, x, generator).mean()
    assert float(torch.autograd.grad(plain, offset)[0][1]) == pytest.approx(0, abs=0.01)


def test_the_generator_ascends_and_the_energy_descends():
    """Against a fixed energy the generator becomes the model, and the bound the likelihood."""
    energy, generator = Quadratic(PRECISION), torch.Generator().manual_seed(0)
    q = generator_with(OTHER)
    optimizer = torch.optim.Adam(
        q.parameters(), 0.03, maximize=Adversarial.learned["generator_network"].ascends
    )
    for x in gaussian_rows(200 * 100).split(200):
        value = right(energy, q, x, generator).mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    matrix, model = q.network.matrix.detach(), torch.linalg.inv(PRECISION)
    matrix = matrix + q.linear.detach().T
    covariance = matrix @ matrix.T + q.sigma().detach() ** 2 * torch.eye(2).double()
    assert (covariance - model).abs().max() < 0.1
    assert (covariance_of(OTHER) - model).abs().max() > 0.2


def make(objective, shape=(2,), n=64):
    x = torch.randn(n, *shape, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    return x, generator, objective.init(x, generator)


def test_each_side_is_trained_by_its_own_part_of_the_loss():
    objective = Adversarial(hidden=(8,), gradient_penalty=0.1)
    x, generator, state = make(objective)
    energy = basin.energies.MLP(2, hidden=(8,))
    loss = objective(energy, x, state, generator)
    loss.value.backward()
    for module in (energy, state.generator_network):
        assert all(parameter.grad is not None for parameter in module.parameters())
    assert set(loss.terms) <= set(objective.meanings)
    bound = loss.terms["E_data"] - loss.terms["E_model"] + loss.terms["entropy"]
    assert float(loss.value.detach()) == pytest.approx(
        float(bound + loss.terms["penalty"]), abs=1e-4
    )


def test_images_are_rows_with_a_narrow_latent_space():
    objective = Adversarial(hidden=(8,))
    x, generator, state = make(objective, shape=(1, 5, 5), n=8)
    assert state.generator_network.latent_dim == 16
    energy = basin.energies.MLP((1, 5, 5), hidden=(8,))
    assert torch.isfinite(objective(energy, x, state, generator).value)


def test_alarms_name_the_number_and_a_calmer_one_helps_the_generator():
    objective = Adversarial()
    fine = {"gap_per_dimension": -1.0, "outside": 0.0}
    assert objective.alarm(fine) == ""
    assert "-21" in objective.alarm({**fine, "gap_per_dimension": -21.0})
    assert "60%" in objective.alarm({**fine, "outside": 0.6})
    calmer = objective.calmer()
    assert calmer.learned_steps == 2 * objective.learned_steps
    assert calmer.gradient_penalty > objective.gradient_penalty
    assert (
        dataclasses.replace(
            calmer,
            learned_steps=objective.learned_steps,
            gradient_penalty=objective.gradient_penalty,
        )
        == objective
    )


def test_the_running_gap_is_state_and_forgets():
    objective = Adversarial(hidden=(8,))
    x, generator, state = make(objective)
    energy = basin.energies.MLP(2, hidden=(8,))
    loss = objective(energy, x, state, generator)
    gap = (loss.terms["E_data"] - loss.terms["E_model"]) / 2
    assert float(loss.state.running_gap) == pytest.approx(0.01 * float(gap), abs=1e-7)
    assert float(state.running_gap) == 0


def test_fit_trains_energy_and_generator():
    truth = basin.datasets.StandardGaussian(2)
    run = basin.fit(
        basin.energies.MLP(2, hidden=(32,)),
        truth,
        Adversarial(hidden=(16,), num_shared=64),
        num_steps=150,
        batch_size=128,
        learning_rate=0.01,
        warmup_steps=0,
        ema_decay=0.95,
        evaluate_every=100,
    )
    assert basin.evaluation.kl_to_truth(run.energy, truth, num_points=100).value < 0.15
    last = run.history[-1]["terms"]
    assert abs(last["gap_per_dimension"]) < 1


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="gradient_penalty must be zero or positive"):
        Adversarial(gradient_penalty=-1)
    with pytest.raises(ValueError, match="num_local must be even, got 3"):
        Adversarial(num_local=3)
    with pytest.raises(ValueError, match="base_share must be positive"):
        Adversarial(base_share=0)
    with pytest.raises(ValueError, match="hidden must name at least one width"):
        Adversarial(hidden=())
    objective = Adversarial(hidden=(8,))
    with pytest.raises(ValueError, match="at least two rows"):
        objective.init(torch.zeros(1, 2), torch.Generator())
    x, generator, state = make(objective)
    given = Given(lambda x, c: x.sum(1), torch.zeros(64))
    with pytest.raises(ValueError, match="without conditions"):
        objective(given, x, state, generator)


@pytest.mark.parametrize(
    ("dim", "settings", "words"),
    [
        (2, {}, ""),
        (16, {}, ""),
        (17, {}, "few effective draws in 17 dimensions"),
        (2, {"importance_weighted": False}, "not weighed"),
    ],
)
def test_blind_where_no_weight_corrects_the_generator(dim, settings, words):
    objective = Adversarial(hidden=(4,), **settings)
    generator = torch.Generator().manual_seed(0)
    state = objective.init(torch.randn(200, dim, generator=generator), generator)
    found = objective.blindness(state)
    assert words in found
    assert bool(found) == bool(words)
