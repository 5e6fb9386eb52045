"""The density of a noisy generator: exact where it is linear, and right where it folds.

For g(z) = Wz + b, q = N(b, C) with C = WW' + sigma^2 I: log q, its score and its entropy are known.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from basin.energies.analytic.gaussian import Gaussian
from basin.energies.networks.noisy_generator import NoisyGenerator
from basin.energies.networks.vector_network import VectorNetwork

MATRIX = torch.tensor([[1.2, 0.3], [-0.4, 0.7], [0.5, 0.5]]).double()


class Linear(nn.Module):
    """g(z) = Wz, with its derivatives."""

    def __init__(self, matrix):
        super().__init__()
        self.matrix = nn.Parameter(matrix.clone())

    def forward(self, z):
        return z @ self.matrix.T

    def with_derivatives(self, z, directions):
        return self(z), (directions @ self.matrix.T).expand(len(z), -1, -1)


class Fold(nn.Module):
    """g(z) = |z|, smoothed: two z for each x."""

    def __init__(self):
        super().__init__()
        self.sharpness = nn.Parameter(torch.tensor(0.01).double())

    def forward(self, z):
        return (z.square() + self.sharpness).sqrt()

    def with_derivatives(self, z, directions):
        return self(z), directions * (z / self(z))[:, None]


LAW = Gaussian([0.5, -1.0, 2.0], 4.0 * torch.eye(3).double())  # so that scale is 2


def linear(matrix=MATRIX):
    """g(z) = mean + 2 Wz: the part that starts along the data's axes is taken out."""
    q = NoisyGenerator(Linear(matrix), matrix.shape[1], LAW)
    return without_axes(q)


def without_axes(q):
    with torch.no_grad():
        q.linear.zero_()
    return q


def law(q):
    matrix = q.scale * q.network.matrix + q.linear.T
    covariance = matrix @ matrix.T + q.sigma() ** 2 * torch.eye(3).double()
    return torch.distributions.MultivariateNormal(q.mean, covariance)


def estimate(q, n=400, num_local=4, num_shared=4000, seed=0):
    generator = torch.Generator().manual_seed(seed)
    draws = q.draw(n, generator)
    found = q.log_density_and_score(draws, generator, num_local=num_local, num_shared=num_shared)
    return draws, *found


def test_draws_have_the_law_of_a_linear_generator(generator):
    q = linear()
    x = q.draw(100_000, generator).x.detach()
    truth = law(q).covariance_matrix.detach()
    # Var of an entry of a sample covariance: (C_ii C_jj + C_ij^2) / n.
    variances = truth.diagonal()[:, None] * truth.diagonal() + truth.square()
    assert ((torch.cov(x.T) - truth).abs() < 3.9 * (variances / len(x)).sqrt()).all()
    assert ((x.mean(0) - q.mean).abs() < 3.9 * (truth.diagonal() / len(x)).sqrt()).all()


def test_log_density_and_score_of_a_linear_generator_are_exact():
    """Its posterior is the linearised one, which outweighs the shared draws where it is narrow."""
    q = linear()
    draws, log_density, score = estimate(q, num_shared=256)
    x = draws.x.detach().requires_grad_(True)
    truth = law(q).log_prob(x)
    (of_truth,) = torch.autograd.grad(truth.sum(), x)
    assert (log_density - truth).abs().mean() < 0.03
    assert (score - of_truth).square().sum() < 2e-3 * of_truth.square().sum()


def gradient_of_entropy(q, n=20_000):
    """-E[grad log q(x) dx/dw], with its standard error, over W, B and the logit of sigma."""
    generator, found = torch.Generator().manual_seed(1), []
    parameters = [q.network.matrix, q.linear, q.noise_logit]
    for _ in range(n // 400):
        draws = q.draw(400, generator)
        _, score = q.log_density_and_score(draws, generator, num_local=4, num_shared=256)
        gradients = torch.autograd.grad(-(score * draws.x).sum(1).mean(), parameters)
        found.append(torch.cat([gradient.flatten() for gradient in gradients]))
    values = torch.stack(found)
    return values.mean(0), values.std(0) / len(found) ** 0.5


@pytest.mark.statistical
def test_the_gradient_of_the_entropy_is_the_closed_form():
    """H = log det C / 2 + const; the sign flipped is a mutant that must fail."""
    q = linear()
    entropy = law(q).entropy()
    exact = torch.autograd.grad(entropy, [q.network.matrix, q.linear, q.noise_logit])
    exact = torch.cat([gradient.flatten() for gradient in exact])
    mean, error = gradient_of_entropy(q)
    assert ((mean - exact).abs() < 3.9 * error).all()
    assert ((-mean - exact).abs() > 3.9 * error).any()


@pytest.mark.statistical
def test_the_entropy_is_bounded_from_below():
    """E log q^ >= E log q however few the candidates; without the true z it would be too low."""
    q, excess = linear(0.2 * MATRIX), []
    for seed in range(500):  # the shared draw is the same for all rows of a repetition
        draws, log_density, _ = estimate(q, n=20, num_local=2, num_shared=1, seed=seed)
        truth = law(q).log_prob(draws.x.detach()).detach()
        excess.append(float((log_density - truth).mean()))
    sample = torch.tensor(excess)
    assert float(sample.mean()) > 3.9 * float(sample.std()) / math.sqrt(len(sample))


@pytest.mark.statistical
def test_folds_are_seen_by_the_shared_draws_alone():
    """q of |z| + noise has twice the density of one branch: log 2 in the entropy."""
    q = without_axes(NoisyGenerator(Fold(), 1, Gaussian([0.0], [[1.0]])))
    grid = torch.linspace(-9, 9, 4001, dtype=torch.float64)
    draws, with_shared, _ = estimate(q, n=500, num_shared=4000)
    _, one_branch, _ = estimate(q, n=500, num_local=64, num_shared=1)
    with torch.no_grad():
        outputs = q(grid[:, None])
        log_prior = -0.5 * grid.square() - 0.5 * math.log(2 * math.pi)
        sigma = q.sigma()
        log_noise = -0.5 * ((draws.x - outputs.T) / sigma).square() - torch.log(
            sigma * math.sqrt(2 * math.pi)
        )
        truth = torch.logsumexp(log_prior + log_noise, dim=1) + math.log(18 / 4000)
    assert (with_shared - truth).mean().abs() < 0.02
    far = draws.x[:, 0] > 1
    assert -0.8 < float((one_branch - truth)[far].median()) < -0.6


def test_a_stiff_generator_in_float32_stays_finite():
    """Jacobians a million times sigma: the posterior's precision would not factorise in float32."""
    network = VectorNetwork(8, 20, (16,), torch.Generator().manual_seed(0))
    with torch.no_grad():
        network.output.weight *= 1e4
    q = NoisyGenerator(network, 8, Gaussian(torch.zeros(20), torch.eye(20)))
    _, log_density, score = estimate(q, n=50, num_shared=64)
    assert torch.isfinite(log_density).all()
    assert torch.isfinite(score).all()


def test_it_starts_along_the_axes_of_the_law():
    """With as many axes as coordinates B'B is the covariance, with fewer its largest part."""
    covariance = torch.tensor([[4.0, 1.0, 0.0], [1.0, 3.0, 0.5], [0.0, 0.5, 1.0]]).double()
    full, one = (
        NoisyGenerator(Linear(torch.zeros(3, k).double()), k, Gaussian(torch.zeros(3), covariance))
        for k in (3, 1)
    )
    assert torch.allclose(full.linear.T @ full.linear, covariance)
    variances, axes = torch.linalg.eigh(covariance)
    largest = variances[-1] * torch.outer(axes[:, -1], axes[:, -1])
    assert torch.allclose(one.linear.T @ one.linear, largest)


@pytest.mark.statistical
def test_the_density_at_any_rows_by_draws_of_the_prior(generator):
    q = linear(0.3 * MATRIX)
    x = q.mean + 0.3 * torch.randn(50, 3, generator=generator).double()
    found = q.log_density(x, generator, num_shared=50_000)
    assert (found - law(q).log_prob(x).detach()).abs().max() < 0.15


def test_sigma_stays_between_its_bounds():
    q = linear()
    for logit, sigma in ((-100.0, 0.04), (100.0, 0.6)):
        with torch.no_grad():
            q.noise_logit.fill_(logit)
        assert float(q.sigma().detach()) == pytest.approx(sigma)
    assert float(linear().sigma().detach()) == pytest.approx(0.2)


def test_derivatives_of_the_network_are_those_of_autograd():
    network = VectorNetwork(3, 2, (8, 8), torch.Generator().manual_seed(0)).double()
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    value, derivatives = network.with_derivatives(x, torch.eye(3).double())
    assert torch.allclose(value, network(x), atol=1e-14)
    for i in range(5):
        truth = torch.autograd.functional.jacobian(network, x[i])
        assert torch.allclose(derivatives[i], truth.T, atol=1e-12)
