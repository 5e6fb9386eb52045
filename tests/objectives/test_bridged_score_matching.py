"""Bridged score matching: a mixture whose score is known, its one normaliser, and far blobs.

With p and m Gaussian and the model equal to m, q~ = m and
    J = a (tr(Q S Q) - 2 tr Q) + (1 - a)(-tr Q),       Q = m's precision, S = p's covariance.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import basin
from basin.core.gradients import score
from basin.energies import Gaussian, GaussianMixture
from basin.objectives.bridged_score_matching import (
    BridgedScoreMatching,
    GaussianBridge,
    bridged_score_matching,
    contrastive_log_z,
)
from basin.objectives.exact_score_matching import exact_score_matching
from helpers.quadratics import (
    COVARIANCE,
    OPTIMUM,
    PRECISION,
    Quadratic,
    gaussian_rows,
    implicit_loss,
    standard_errors,
)

WIDE = Gaussian([0.0, 0.0], 4 * torch.eye(2))
BRIDGE = GaussianBridge(WIDE)
SHARE = 0.7
LOG_ODDS = math.log(SHARE / (1 - SHARE))
N = 50_000


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


@pytest.mark.statistical
@pytest.mark.parametrize("num_probes", [None, 1])
def test_value_is_the_closed_form_where_the_model_is_the_bridge(num_probes):
    precision = torch.eye(2).double() / 4
    truth = SHARE * implicit_loss(precision) + (1 - SHARE) * implicit_loss(
        precision, 4 * torch.eye(2).double()
    )
    losses = bridged_score_matching(
        WIDE,
        gaussian_rows(N),
        bridge=BRIDGE,
        log_z=0.0,
        log_odds=LOG_ODDS,
        num_probes=num_probes,
        generator=seeded(),
    )
    assert standard_errors(losses, truth) < 3.9


TRUTH = GaussianMixture([[-1.0, 0.0], [1.5, 0.5]], 0.5 * torch.eye(2), [0.3, 0.7])
MODEL = basin.energies.MLP(2, hidden=(8,), confinement=3.0).double()
LOG_Z = 2.5


def mixed_score(log_density, x):
    """grad log of the mixture with the bridge, from a log density."""

    def energy(y):
        return -torch.logaddexp(math.log(SHARE) + log_density(y), math.log(1 - SHARE) - WIDE(y))

    return score(energy, x)


def divergence_and_losses(loss):
    """E_{p~}|grad log p~ - s~|^2 less E|grad log p~|^2, pair by pair, and the losses."""
    x = TRUTH.sample(N, seeded(0)).double()
    draws = BRIDGE.draw_like(x, seeded(2))  # the same in law as those of the loss

    def pairs(f):
        return SHARE * f(x) + (1 - SHARE) * f(draws)

    def difference(y):
        truth = mixed_score(lambda y: -TRUTH(y), y)
        model = mixed_score(lambda y: -MODEL(y) - LOG_Z, y)
        return (truth - model).square().sum(1) - truth.square().sum(1)

    return pairs(difference), loss(x)


def ours(x):
    return bridged_score_matching(
        MODEL, x, bridge=BRIDGE, log_z=LOG_Z, log_odds=LOG_ODDS, generator=seeded(2)
    )


def no_draws(x):
    """Mutant: the mixture's score at the data alone."""

    def mixed(y):
        return -torch.logaddexp(math.log(SHARE) - MODEL(y) - LOG_Z, math.log(1 - SHARE) - WIDE(y))

    return exact_score_matching(mixed, x)


def no_normaliser(x):
    """Mutant: log Z left out of the model."""
    return bridged_score_matching(
        MODEL, x, bridge=BRIDGE, log_z=0.0, log_odds=LOG_ODDS, generator=seeded(2)
    )


def shares_swapped(x):
    """Mutant: a and 1 - a exchanged."""
    return bridged_score_matching(
        MODEL, x, bridge=BRIDGE, log_z=LOG_Z, log_odds=-LOG_ODDS, generator=seeded(2)
    )


@pytest.mark.statistical
def test_it_is_the_fisher_divergence_of_the_mixtures_less_a_constant():
    divergence, losses = divergence_and_losses(ours)
    assert standard_errors(divergence - losses, 0.0) < 3.9


@pytest.mark.statistical
@pytest.mark.parametrize("mutant", [no_draws, no_normaliser, shares_swapped])
def test_mutants_are_another_divergence(mutant):
    divergence, losses = divergence_and_losses(mutant)
    assert standard_errors(divergence - losses, 0.0) > 3.9


def member(k):
    """-log of k p + (k - 1) r m, a member of the family with the score of p~."""
    ratio = (1 - SHARE) / SHARE

    def energy(x):
        if k == 1:
            return TRUTH(x)
        return -torch.logaddexp(math.log(k) - TRUTH(x), math.log((k - 1) * ratio) - WIDE(x))

    return energy


@pytest.mark.statistical
def test_the_score_forgets_the_normaliser_and_the_draws_tell_it():
    """Every member of the family has the same loss row by row; c = 0 belongs to k = 1 alone."""
    x = TRUTH.sample(N, seeded(0)).double()

    def loss(k):
        return bridged_score_matching(
            member(k), x[:500], bridge=BRIDGE, log_z=0.0, log_odds=LOG_ODDS, generator=seeded()
        )

    torch.testing.assert_close(loss(1.5), loss(1.0))
    draws = BRIDGE.draw_like(x, seeded(5))
    rows = torch.cat([x, draws])
    for k, is_zero in ((1.0, True), (1.5, False)):
        found = contrastive_log_z(-member(k)(rows) + WIDE(rows))
        # Its standard error at the root, by the delta method.
        part = torch.sigmoid(-member(k)(rows) + WIDE(rows) - found)
        slope = (part * (1 - part)).mean()
        error = (part[:N].var() + part[N:].var()).sqrt() / N**0.5 / (2 * slope)
        assert (found.abs() < 3.9 * error) == is_zero


def test_the_root_and_its_derivative():
    u = torch.randn(40, generator=seeded(), dtype=torch.float64, requires_grad=True)
    c = contrastive_log_z(u)
    assert torch.sigmoid(u - c).sum().item() == pytest.approx(20)
    assert torch.autograd.gradcheck(contrastive_log_z, u, eps=1e-5)
    (gradient,) = torch.autograd.grad(c, u)
    assert gradient.sum().item() == pytest.approx(1)  # a constant in u is a constant in c
    far = contrastive_log_z(torch.tensor([300.0, -300.0]))  # one pair, told apart at once
    assert far.item() == pytest.approx(0, abs=1e-3)


class Shifted(nn.Module):
    def __init__(self, energy, shift):
        super().__init__()
        self.energy, self.shift = energy, nn.Parameter(torch.tensor(shift).double())

    def forward(self, x):
        return self.energy(x) + self.shift


def test_a_constant_added_to_the_energy_changes_nothing():
    objective, x = BridgedScoreMatching(), gaussian_rows(64)
    state = objective.init(gaussian_rows(500), seeded())
    losses, gradients = [], []
    for shift in (0.0, 30.0):
        energy = Shifted(MODEL, shift)
        loss = objective(energy, x, state, seeded())
        losses.append(loss)
        gradients.append(torch.autograd.grad(loss.value, energy.shift)[0].abs().item())
    assert losses[0].value.item() == pytest.approx(losses[1].value.item(), rel=1e-9)
    assert (losses[0].terms["log_z"] - losses[1].terms["log_z"]).item() == pytest.approx(30)
    assert max(gradients) < 1e-9


def mean_gradient(precision, num_batches=60, batch=1024):
    objective = BridgedScoreMatching(num_probes=None)
    state = objective.init(gaussian_rows(20_000, seed=10_000), seeded())
    energy, generator = Quadratic(precision), seeded(3)
    gradients = []
    for index in range(num_batches):
        loss = objective(energy, gaussian_rows(batch, seed=index), state, generator)
        gradients.append(torch.autograd.grad(loss.value, energy.precision)[0].flatten())
    values = torch.stack(gradients)
    return values.mean(0), values.std(0) / num_batches**0.5


@pytest.mark.statistical
def test_the_optimum_is_the_precision_of_the_data():
    mean, error = mean_gradient(OPTIMUM)
    assert (mean.abs() < 3.9 * error).all()
    away, error = mean_gradient(1.2 * OPTIMUM)
    assert (away.abs() > 3.9 * error).any()


class TwoWeights(nn.Module):
    """Two far Gaussians at their places; only their weights are free."""

    def __init__(self, logit):
        super().__init__()
        self.logit = nn.Parameter(torch.tensor(logit).double())

    def forward(self, x):
        left, right = ((x - c).square().sum(1) / 0.18 for c in (-4.0, 4.0))
        log_weights = (nn.functional.logsigmoid(a) for a in (self.logit, -self.logit))
        parts = [w - part for w, part in zip(log_weights, (left, right), strict=True)]
        return -torch.logsumexp(torch.stack(parts), 0)


def learned_weight(loss_of, steps=300):
    """Weight of the left one after training on rows with 0.8 there, from one half.

    The mean over the second half of the steps, as one step's batch moves it.
    """
    energy = TwoWeights(0.0)
    optimizer = torch.optim.Adam(energy.parameters(), 0.1)
    weights = []
    for step in range(steps):
        generator = seeded(step)
        left = torch.rand(256, 1, generator=generator) < 0.8
        noise = torch.randn(256, 1, generator=generator, dtype=torch.float64)
        x = torch.where(left, -4.0, 4.0) + 0.3 * noise
        optimizer.zero_grad()
        loss_of(energy, x, generator).backward()
        optimizer.step()
        weights.append(torch.sigmoid(energy.logit).item())
    return sum(weights[steps // 2 :]) / (steps - steps // 2)


def test_it_sees_the_weights_of_far_modes_where_exact_score_matching_is_blind():
    objective = BridgedScoreMatching(num_probes=None)
    rows = torch.cat([torch.full((400, 1), -4.0), torch.full((100, 1), 4.0)]).double()
    rows = rows + 0.3 * torch.randn(500, 1, generator=seeded(), dtype=torch.float64)
    state = objective.init(rows, seeded())
    bridged = learned_weight(lambda e, x, g: objective(e, x, state, g).value)
    assert bridged == pytest.approx(0.8, abs=0.03)
    gradient_free = TwoWeights(0.0)
    blind = exact_score_matching(gradient_free, rows).mean()
    assert torch.autograd.grad(blind, gradient_free.logit)[0].abs() < 1e-12
    assert not objective.blindness(state)


def mode_error(objective, network, seed=0, num_steps=1200):
    truth = basin.datasets.TwoBlobs()
    run = basin.fit(network, truth, objective, num_steps=num_steps, batch_size=256, seed=seed)
    return basin.evaluation.mode_weights_of_energy(run.energy, truth).value


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "settings", [{}, {"hidden": (128, 128, 128), "confinement": 0.05}], ids=["small", "large"]
)
def test_two_blobs_by_quadrature(settings, seed):
    """A network from scratch: its weights are within 0.03 of 0.8 and 0.2."""
    network = basin.energies.MLP(2, seed=seed, **settings)
    assert mode_error(BridgedScoreMatching(), network, seed) < 0.03


@pytest.mark.slow
def test_exact_score_matching_misses_the_weights_of_two_blobs():
    assert mode_error(basin.objectives.ExactScoreMatching(), basin.energies.MLP(2)) > 0.03


@pytest.mark.statistical
def test_log_z_of_a_trained_energy_has_its_error():
    objective = BridgedScoreMatching()
    x = gaussian_rows(5000)
    state = objective.init(x, seeded())
    log_z, error = objective.log_z(Quadratic(OPTIMUM), x, state, seeded())
    truth = math.log(2 * math.pi) + 0.5 * float(torch.logdet(COVARIANCE))
    assert abs(log_z - truth) < 3.9 * error < 0.2
    # Another density than the data's: the two ways differ, and the error says so.
    log_z, error = objective.log_z(Quadratic(PRECISION), x, state, seeded())
    truth = math.log(2 * math.pi) - 0.5 * float(torch.logdet(PRECISION))
    assert abs(log_z - truth) < 3.9 * error


def test_the_bridge_is_the_wide_gaussian_of_the_rows():
    rows = gaussian_rows(20_000)
    plain = GaussianBridge.around(rows, 1.5).law.covariance
    assert torch.allclose(plain / 2.25, COVARIANCE, atol=0.05)
    blurred = GaussianBridge.around(rows, 1.5, sigma=2.0).law.covariance
    torch.testing.assert_close(blurred - plain, 9 * torch.eye(2).double())
    images = torch.randn(50, 1, 2, 3, generator=seeded())
    bridge = GaussianBridge.around(images, 1.0)
    draws = bridge.draw_like(images[:7], seeded())
    assert draws.shape == (7, 1, 2, 3)
    assert bridge.log_prob(draws).shape == (7,)


@pytest.mark.parametrize(
    "bad",
    [{"log_odds": 0.0}, {"log_odds": math.inf}, {"width": 0.0}, {"num_probes": 0}],
)
def test_bad_settings_are_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        BridgedScoreMatching(**bad)
