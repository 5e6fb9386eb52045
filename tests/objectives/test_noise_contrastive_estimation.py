"""Noise-contrastive estimation: its value by quadrature, its optimum, and log Z with its error.

With data of density p, noise of density q and nu draws of it a row, in one dimension,

    J = int p log(1 + exp(-G)) + nu int q log(1 + exp(G)),    G = -E - log Z - log q - log nu
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import softplus

import basin
from basin.core.describe import build, describe
from basin.objectives import (
    NoiseContrastiveEstimation,
    nce_log_z,
    noise_contrastive_estimation,
)
from basin.training.adam import Adam
from basin.training.loop import learned_parts
from helpers.known_densities import IsotropicMixture, two_blobs

VARIANCE = 0.8


class Normal:
    """N(mean, sd^2) in one dimension: data, and noise."""

    def __init__(self, mean, sd):
        self.mean, self.sd = mean, sd

    def sample(self, n, generator):
        return self.mean + self.sd * torch.randn(n, 1, generator=generator, dtype=torch.float64)

    def log_prob(self, x):
        z = (x[:, 0] - self.mean) / self.sd
        return -0.5 * z.square() - math.log(self.sd) - 0.5 * math.log(2 * math.pi)


DATA, NOISE = Normal(0.0, VARIANCE**0.5), Normal(0.3, 1.4)


class Parabola(nn.Module):
    """E = lambda x^2/2 in one dimension, with log Z beside it."""

    def __init__(self, precision, log_z):
        super().__init__()
        self.precision = nn.Parameter(torch.tensor(precision, dtype=torch.float64))
        self.log_z = nn.Parameter(torch.tensor(log_z, dtype=torch.float64))

    def forward(self, x):
        return self.precision * x.squeeze(1).square() / 2


def true_log_z(precision):
    return 0.5 * math.log(2 * math.pi / precision)


def by_quadrature(energy, nu):
    x = torch.linspace(-12, 12, 4001, dtype=torch.float64).unsqueeze(1)
    log_p, log_q = DATA.log_prob(x), NOISE.log_prob(x)
    log_odds = -energy(x) - energy.log_z - log_q - math.log(nu)
    return torch.trapezoid(
        log_p.exp() * softplus(-log_odds) + nu * log_q.exp() * softplus(log_odds), x[:, 0]
    )


def losses(energy, x, nu, generator):
    return noise_contrastive_estimation(
        energy, x, log_z=energy.log_z, noise=NOISE, noise_ratio=nu, generator=generator
    )


def _mutant(change):
    def function(energy, x, nu, generator):
        y = NOISE.sample(nu * len(x), generator)
        points = torch.cat([x, y])
        log_odds = change(-energy(points), energy.log_z, NOISE.log_prob(points), math.log(nu))
        log_odds = log_odds.unflatten(0, (1 + nu, len(x)))
        return softplus(-log_odds[0]) + softplus(log_odds[1:]).sum(0)

    return function


MUTANTS = {
    "without log nu": _mutant(lambda minus_e, log_z, log_q, log_nu: minus_e - log_z - log_q),
    "without log q": _mutant(lambda minus_e, log_z, log_q, log_nu: minus_e - log_z - log_nu),
    "log Z added": _mutant(lambda minus_e, log_z, log_q, log_nu: minus_e + log_z - log_q - log_nu),
}


def deviation_from_quadrature(function, nu):
    energy, generator = Parabola(0.9, 0.4), torch.Generator().manual_seed(0)
    with torch.no_grad():
        found = function(energy, DATA.sample(50_000, generator), nu, generator)
        expected = by_quadrature(energy, nu)
    return float((found.mean() - expected).abs() / (found.std() / len(found) ** 0.5))


@pytest.mark.statistical
@pytest.mark.parametrize("nu", [1, 3])
def test_the_mean_is_the_quadrature(nu):
    assert deviation_from_quadrature(losses, nu) < 3.9


@pytest.mark.statistical
@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_miss_the_quadrature(name):
    assert deviation_from_quadrature(MUTANTS[name], 3) > 3.9


def deviation_of_gradient(function, precision, log_z, nu=3, num_batches=100):
    energy, generator = Parabola(precision, log_z), torch.Generator().manual_seed(1)
    gradients = []
    for _ in range(num_batches):
        loss = function(energy, DATA.sample(500, generator), nu, generator).mean()
        gradients.append(torch.stack(torch.autograd.grad(loss, (energy.precision, energy.log_z))))
    values = torch.stack(gradients)
    return float((values.mean(0) / (values.std(0) / num_batches**0.5)).abs().max())


@pytest.mark.statistical
def test_the_optimum_is_the_data_with_their_log_z():
    best = 1 / VARIANCE
    assert deviation_of_gradient(losses, best, true_log_z(best)) < 3.9
    assert deviation_of_gradient(losses, best, true_log_z(best) + 0.1) > 3.9
    assert deviation_of_gradient(losses, 1.2 * best, true_log_z(best)) > 3.9


@pytest.mark.statistical
@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_have_another_optimum(name):
    best = 1 / VARIANCE
    assert deviation_of_gradient(MUTANTS[name], best, true_log_z(best)) > 3.9


# log Z of a given energy.

MIXTURE = IsotropicMixture([[-2.0, 0.0], [1.5, 1.0]], [0.3, 0.7], 0.6)
WIDE = IsotropicMixture([[0.0, 0.0]], [1.0], 2.5)
LOG_Z = 3.7


def mixture_energy(x):
    """E = -log p - log Z: exp(-E) integrates to exp(3.7)."""
    return -MIXTURE.log_prob(x) - LOG_Z


def z_scores(num_repeats, nu=2, n=400):
    generator, scores = torch.Generator().manual_seed(5), []
    for _ in range(num_repeats):
        x = MIXTURE.sample(n, generator)
        log_z, error = nce_log_z(mixture_energy, x, WIDE, generator, noise_ratio=nu)
        scores.append((log_z - LOG_Z) / error)
    return np.array(scores)


def p_value_of_errors(scores):
    """Of the scores being standard normal: their sum of squares is chi-squared."""
    from scipy import stats

    return 2 * min(
        stats.chi2.sf((scores**2).sum(), len(scores)),
        stats.chi2.cdf((scores**2).sum(), len(scores)),
    )


@pytest.mark.statistical
def test_log_z_of_a_mixture_within_its_stated_error():
    generator = torch.Generator().manual_seed(0)
    x = MIXTURE.sample(20_000, generator)
    log_z, error = nce_log_z(mixture_energy, x, WIDE, generator)
    assert 0 < error < 0.02
    assert abs(log_z - LOG_Z) < 3.9 * error
    off, _ = nce_log_z(lambda x: mixture_energy(x) + 0.1, x, WIDE, generator)
    assert abs(off - LOG_Z) > 3.9 * error  # mutant: another log Z is told apart


@pytest.mark.statistical
def test_the_stated_error_is_the_spread_of_the_estimate():
    scores = z_scores(200)
    assert p_value_of_errors(scores) > 1e-4
    # Mutants: an error as if there were twice, or half, as many draws.
    assert p_value_of_errors(2**0.5 * scores) < 1e-4
    assert p_value_of_errors(0.5**0.5 * scores) < 1e-4


def test_log_z_does_not_depend_on_a_constant_but_by_it():
    x = MIXTURE.sample(500, torch.Generator().manual_seed(0))

    def solve(shift):
        generator = torch.Generator().manual_seed(1)
        return nce_log_z(lambda x: mixture_energy(x) - shift, x, WIDE, generator)

    (low, error), (high, same_error) = solve(0.0), solve(250.0)
    assert high - low == pytest.approx(250.0)
    assert same_error == pytest.approx(error)


def test_one_row_has_no_error():
    with pytest.raises(ValueError, match="x must have at least two rows"):
        nce_log_z(mixture_energy, torch.zeros(1, 2), WIDE, torch.Generator())


@pytest.mark.statistical
def test_log_z_of_the_objective_counts_a_wrong_model_as_error():
    """Rows that are no draws of the model: the noise alone tells, and enters the error."""
    generator = torch.Generator().manual_seed(0)
    x = MIXTURE.sample(8000, generator)
    objective = NoiseContrastiveEstimation(noise=WIDE)
    state = objective.init(x, generator)
    log_z, error = objective.log_z(mixture_energy, x, state, generator)
    assert abs(log_z - LOG_Z) < 3.9 * error
    assert error < 0.05

    def tempered(x):  # of variance 2, so log Z is larger by d/2 log 2 up to the components' overlap
        return -IsotropicMixture([[-2.0, 0.0], [1.5, 1.0]], [0.3, 0.7], 0.9).log_prob(x) - LOG_Z

    log_z, error = objective.log_z(tempered, x, state, generator)
    assert abs(log_z - LOG_Z) < 3.9 * error
    assert abs(nce_log_z(tempered, x, WIDE, generator)[0] - LOG_Z) > 0.05


# The noise.


def blobs(n=2000):
    return two_blobs().sample(n, torch.Generator().manual_seed(0)).float()


@pytest.mark.parametrize("noise", ["gaussian", "mixture"])
def test_fitted_noise_is_a_density_of_events_of_any_shape(noise):
    x = torch.randn(300, 2, 3, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    state = NoiseContrastiveEstimation(noise).init(x, generator)
    y = state.noise.sample(5000, generator)
    assert y.shape == (5000, 2, 3)
    assert state.noise.log_prob(y).shape == (5000,)
    assert (y.mean(0) - x.mean(0)).abs().max() < 0.2
    assert (y.std(0) / x.std(0) - 1).abs().max() < 0.2


def test_the_mixture_knows_the_weights_of_the_blobs():
    state = NoiseContrastiveEstimation("mixture").init(blobs(), torch.Generator().manual_seed(1))
    y = state.noise.sample(20_000, torch.Generator().manual_seed(2))
    assert float((y[:, 0] < 0).double().mean()) == pytest.approx(0.8, abs=0.03)


def test_noise_that_misses_data_is_blind_and_wide_noise_is_not():
    def verdict(*arguments, **settings):
        objective = NoiseContrastiveEstimation(*arguments, **settings)
        return objective.blindness(objective.init(blobs(), torch.Generator().manual_seed(1)))

    assert verdict() == ""
    assert verdict("mixture") == ""
    assert verdict(WIDE.blurred(2.0)) == ""
    assert "weights of modes there are not seen" in verdict(noise_scale=0.1)
    one_mode = IsotropicMixture([[-4.0, 0.0]], [1.0], 0.4)
    assert "weights of modes there are not seen" in verdict(one_mode)


def test_a_density_as_noise_makes_a_round_trip():
    objective = NoiseContrastiveEstimation(basin.datasets.TwoBlobs(weight=0.5), noise_ratio=2)
    again = build(describe(objective), [basin.objectives, basin.datasets])
    assert again == objective


class Affine(nn.Module):
    """The smallest flow: y = mean + exp(log_scale) z."""

    def __init__(self):
        super().__init__()
        self.mean = nn.Parameter(torch.tensor([1.0, -1.0]))
        self.log_scale = nn.Parameter(torch.full((2,), 1.0))

    def sample(self, n, generator):
        return self.mean + self.log_scale.exp() * torch.randn(n, 2, generator=generator)

    def log_prob(self, x):
        z = (x - self.mean) * (-self.log_scale).exp()
        return -0.5 * z.square().sum(1) - self.log_scale.sum() - math.log(2 * math.pi)


class Drawn(Affine):
    """Mutant: draws without a gradient."""

    def sample(self, n, generator):
        return super().sample(n, generator).detach()


def test_a_trained_noise_is_a_learned_part_that_climbs_and_is_a_copy():
    x, noise = torch.randn(200, 2, generator=torch.Generator().manual_seed(0)), Affine()
    objective = NoiseContrastiveEstimation(noise)
    state = objective.init(x, torch.Generator().manual_seed(0))
    parts = learned_parts(objective, state, (0.9, 0.99))
    assert set(parts) == {"log_z", "noise"}
    assert parts["noise"].how.ascends
    assert not parts["log_z"].how.ascends
    assert not objective.is_a_score_of_fit
    assert state.noise is not noise


def test_a_frozen_module_is_no_learned_part():
    objective = NoiseContrastiveEstimation(Affine().requires_grad_(False))
    x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    state = objective.init(x, torch.Generator().manual_seed(0))
    assert set(learned_parts(objective, state, (0.9, 0.99))) == {"log_z"}
    assert objective.is_a_score_of_fit


def test_draws_without_a_gradient_cannot_be_trained():
    x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="Drawn is trained, so its draws must be differentiable"):
        NoiseContrastiveEstimation(Drawn()).init(x, torch.Generator())


@pytest.mark.statistical
def test_a_trained_noise_goes_to_the_data():
    """Climbing the loss, with the energy at its best: the hardest noise is the data itself."""
    generator = torch.Generator().manual_seed(0)
    objective = NoiseContrastiveEstimation(Affine())

    def rows(n):
        return 0.5 * torch.randn(n, 2, generator=generator)

    def energy(x):
        return 2 * x.square().sum(1)

    state = objective.init(rows(1000), generator)
    state.log_z.value.data.fill_(math.log(2 * math.pi / 4))
    optimizer = Adam(state.noise.parameters(), (0.9, 0.99))
    for _ in range(200):
        optimizer.zero_grad()
        objective(energy, rows(256), state, generator).value.backward()
        optimizer.step(0.05, ascend=True)
    assert state.noise.mean.abs().max() < 0.1
    assert (state.noise.log_scale.exp() - 0.5).abs().max() < 0.1


# Training.


def test_a_loss_relative_to_one_that_cannot_tell():
    for nu in (1, 4):
        objective = NoiseContrastiveEstimation(WIDE, noise_ratio=nu)
        x, generator = MIXTURE.sample(64, torch.Generator().manual_seed(0)), torch.Generator()
        state = objective.init(x, generator)
        state.log_z.value.data.zero_()
        loss = objective(lambda x: -WIDE.log_prob(x), x, state, generator)
        assert float(loss.value.detach()) == pytest.approx(float(loss.terms["trivial"]))


def test_log_z_is_learned_and_logged():
    run = basin.fit(
        basin.energies.MLP(2, hidden=(8,)),
        basin.datasets.StandardGaussian(2),
        NoiseContrastiveEstimation(),
        num_steps=60,
        batch_size=64,
        evaluate_every=20,
    )
    learned = [record["terms"]["log_z"] for record in run.history if "terms" in record]
    losses = [record["loss"] for record in run.history if "terms" in record]
    assert len(set(learned)) == len(learned)
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_two_blobs_get_their_weights():
    truth = basin.datasets.TwoBlobs()
    run = basin.fit(
        basin.energies.MLP(2), truth, NoiseContrastiveEstimation(), num_steps=1000, batch_size=512
    )
    assert basin.evaluation.mode_weights_of_energy(run.energy, truth).value < 0.03


class Half(NamedTuple):
    sample: object


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(noise="uniform"), "noise must be"),
        (dict(noise=Half(None)), "noise must have sample"),
        (dict(noise_ratio=0), "noise_ratio must be a positive whole number"),
        (dict(noise_scale=-1.0), "noise_scale must be positive"),
        (dict(noise=WIDE, noise_scale=2.0), "noise_scale must be left at 1"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        NoiseContrastiveEstimation(**settings)


def test_noise_of_another_shape_is_named():
    with pytest.raises(ValueError, match=r"noise.sample\(n, generator\) must have shape"):
        NoiseContrastiveEstimation(WIDE).init(torch.zeros(9, 3), torch.Generator())
