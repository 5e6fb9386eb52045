"""Denoising score matching against its closed forms on Gaussians.

For x ~ N(0, S), score s(y) = -P y and blur sigma, V = S + sigma^2 I:
    J(P) = E|-P y + z/sigma|^2 = tr(P V P) - 2 tr(P) + d/sigma^2          minimum at P = V^-1
    J(P) - E_{p_sigma}|grad log p_sigma - s|^2 = d/sigma^2 - tr(V^-1) = C
"""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import nn

from basin.core.gradients import score
from basin.core.noise_levels import noise_levels
from basin.objectives.denoising_score_matching import (
    DenoisingScoreMatching,
    denoising_score_matching,
)

SIGMA = 0.7
COVARIANCE = torch.tensor([[2.0, 0.6], [0.6, 0.5]]).double()
BLURRED = COVARIANCE + SIGMA**2 * torch.eye(2).double()


class Quadratic(nn.Module):
    """E(x) = x'Px/2."""

    def __init__(self, precision):
        super().__init__()
        self.precision = nn.Parameter(precision.clone())

    def forward(self, x):
        symmetric = (self.precision + self.precision.T) / 2
        return 0.5 * ((x @ symmetric) * x).sum(1)


def gaussian_rows(n, seed=0):
    z = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return z @ torch.linalg.cholesky(COVARIANCE).T


def closed_form(precision):
    return torch.trace(precision @ BLURRED @ precision) - 2 * torch.trace(precision) + 2 / SIGMA**2


def wrong_sign(energy, x, *, sigma, generator):
    """Mutant: the target +z/sigma."""
    z = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return (score(energy, x + sigma * z, create_graph=True) - z / sigma).square().sum(1)


def half(energy, x, *, sigma, generator):
    """Mutant: the factor 1/2 of other papers."""
    return 0.5 * denoising_score_matching(energy, x, sigma=sigma, generator=generator)


def deviation_from_closed_form(function, precision):
    rows = gaussian_rows(200_000)
    generator = torch.Generator().manual_seed(1)
    loss = function(Quadratic(precision), rows, sigma=SIGMA, generator=generator).detach()
    return float((loss.mean() - closed_form(precision)).abs() / (loss.std() / len(loss) ** 0.5))


@pytest.mark.statistical
@pytest.mark.parametrize("scale", [0.0, 0.4, 1.5])
def test_value_is_the_closed_form(scale):
    precision = scale * torch.tensor([[1.0, 0.2], [0.2, 2.0]]).double()
    assert deviation_from_closed_form(denoising_score_matching, precision) < 3.9


@pytest.mark.statistical
@pytest.mark.parametrize("mutant", [wrong_sign, half])
def test_mutants_miss_the_closed_form(mutant):
    precision = torch.tensor([[1.0, 0.2], [0.2, 2.0]]).double()
    assert deviation_from_closed_form(mutant, precision) > 3.9


@pytest.mark.statistical
def test_its_identity_with_the_fisher_divergence():
    """Fisher divergence to the blurred density = J - C (DESIGN section 1)."""
    precision = torch.tensor([[0.8, 0.1], [0.1, 1.1]]).double()
    rows = gaussian_rows(200_000)
    generator = torch.Generator().manual_seed(1)
    loss = denoising_score_matching(
        Quadratic(precision), rows, sigma=SIGMA, generator=generator
    ).detach()
    constant = 2 / SIGMA**2 - torch.trace(torch.linalg.inv(BLURRED))
    difference = torch.linalg.inv(BLURRED) - precision
    fisher = torch.trace(difference @ BLURRED @ difference)
    error = loss.std() / len(loss) ** 0.5
    assert (loss.mean() - constant - fisher).abs() < 3.9 * error


PRECISION = torch.tensor([[0.9, 0.1], [0.1, 1.4]]).double()


def mean_gradient(objective, precision=PRECISION, num_batches=200, batch=64):
    """Mean parameter gradient over fresh batches, with its standard error."""
    generator = torch.Generator().manual_seed(3)
    energy = Quadratic(precision)
    state = objective.init(gaussian_rows(100), generator)
    gradients = []
    for index in range(num_batches):
        loss = objective(energy, gaussian_rows(batch, seed=index), state, generator)
        gradients.append(torch.autograd.grad(loss.value, energy.precision)[0].flatten())
    values = torch.stack(gradients)
    return values.mean(0), values.std(0) / num_batches**0.5


def exact_gradient(precision=PRECISION):
    precision = precision.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(closed_form((precision + precision.T) / 2), precision)
    return gradient.flatten()


VARIANTS = {
    "plain": dict(antithetic=False, posterior_mean=False, num_noised=None),
    "antithetic": dict(antithetic=True, posterior_mean=False, num_noised=None),
    "posterior mean": dict(antithetic=False, posterior_mean=True, num_noised=None),
    "both, a few sources": dict(antithetic=True, posterior_mean=True, num_noised=16),
}


@pytest.mark.statistical
@pytest.mark.parametrize("name", VARIANTS)
def test_every_variance_reduction_keeps_the_mean_of_the_gradient(name):
    mean, error = mean_gradient(DenoisingScoreMatching(SIGMA, **VARIANTS[name]))
    assert ((mean - exact_gradient()).abs() < 3.9 * error).all()


@pytest.mark.statistical
def test_a_posterior_without_the_source_is_caught(monkeypatch):
    """Mutant: each point's own source left out of its reference batch."""
    from basin.core.posterior_mean import posterior_mean_targets

    module = importlib.import_module("basin.core.denoising")

    def without_source(y, reference, sigma):
        rows = [
            posterior_mean_targets(
                y[i : i + 1], torch.cat([reference[:i], reference[i + 1 :]]), sigma[i : i + 1]
            )
            for i in range(len(y))
        ]
        return torch.cat([space for space, _ in rows]), torch.cat([noise for _, noise in rows])

    monkeypatch.setattr(module, "posterior_mean_targets", without_source)
    objective = DenoisingScoreMatching(SIGMA, antithetic=False, num_noised=None)
    mean, error = mean_gradient(objective, num_batches=600, batch=2)
    assert ((mean - exact_gradient()).abs() > 3.9 * error).any()


@pytest.mark.statistical
def test_the_optimum_is_the_precision_of_the_blurred_gaussian():
    optimum = torch.linalg.inv(BLURRED)
    assert exact_gradient(optimum).abs().max() < 1e-12
    mean, error = mean_gradient(DenoisingScoreMatching(SIGMA), optimum)
    assert (mean.abs() < 3.9 * error).all()
    away, error = mean_gradient(DenoisingScoreMatching(SIGMA), 1.1 * optimum)
    assert (away.abs() > 3.9 * error).any()


def test_loss_is_relative_to_the_trivial_predictor_on_the_same_noise():
    flat = Quadratic(torch.zeros(2, 2).double())
    objective = DenoisingScoreMatching(SIGMA)
    generator = torch.Generator().manual_seed(0)
    loss = objective(
        flat, gaussian_rows(256), objective.init(gaussian_rows(10), generator), generator
    )
    assert float(loss.value.detach()) == pytest.approx(float(loss.terms["trivial"]))


def test_sigma_auto_is_read_off_the_data_and_explained():
    rows = gaussian_rows(500)
    objective = DenoisingScoreMatching("auto")
    state = objective.init(rows, torch.Generator())
    assert objective.noise_level(state) == pytest.approx(noise_levels(rows).single_sigma)
    assert "nearest neighbour" in objective.explain(state)


@pytest.mark.parametrize("sigma", [0.0, -0.1, float("nan"), float("inf"), "big"])
def test_a_bad_sigma_is_named(sigma):
    with pytest.raises(ValueError, match="sigma must be positive"):
        DenoisingScoreMatching(sigma)
