"""Leapfrog: reversible, of second order, keeps volume, and is the plain one in whitened space."""

from __future__ import annotations

import math

import pytest
import torch

from basin.mcmc.gradient_state import gradient_state
from basin.mcmc.leapfrog import PhasePoint, hamiltonian, has_diverged, leapfrog
from basin.mcmc.metric import DenseMetric, DiagonalMetric, IdentityMetric
from helpers.curved_energies import Banana
from helpers.energies import DiagonalGaussian

METRICS = (IdentityMetric(), DiagonalMetric([2.0, 0.5]), DenseMetric([[2.0, 0.6], [0.6, 0.5]]))
by_metric = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: type(metric).__name__)


def start(energy, generator, n=50):
    x, q = (torch.randn(n, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    return PhasePoint(gradient_state(energy, x), q)


@by_metric
def test_turned_round_it_leads_back(metric, generator):
    energy = Banana()
    here = start(energy, generator)
    there = leapfrog(energy, here, 0.05, metric, 20)
    back = leapfrog(energy, there._replace(momentum=-there.momentum), 0.05, metric, 20)
    torch.testing.assert_close(back.state.position, here.state.position, atol=1e-9, rtol=0)
    torch.testing.assert_close(-back.momentum, here.momentum, atol=1e-9, rtol=0)
    backwards = leapfrog(energy, there, -0.05, metric, 20)  # a negative step is the same way
    torch.testing.assert_close(backwards.state.position, back.state.position)
    assert (there.state.position - here.state.position).abs().max() > 0.1


def euler(energy, point, step_size, metric, num_steps):
    """The mutant: whole kicks in place of half ones at the ends."""
    for _ in range(num_steps):
        q = point.momentum + step_size * metric.pull(point.state.score)
        x = point.state.position + step_size * metric.spread(q)
        point = PhasePoint(gradient_state(energy, x), q)
    return point


def error_at_time_one(method, num_steps, generator):
    """On N(0, I), where x turns into q and q into -x."""
    energy = DiagonalGaussian([1.0, 1.0])
    here = start(energy, generator)
    there = method(energy, here, 1 / num_steps, IdentityMetric(), num_steps)
    truth = math.cos(1.0) * here.state.position + math.sin(1.0) * here.momentum
    return float((there.state.position - truth).abs().max())


@pytest.mark.parametrize(("method", "order"), [(leapfrog, 2), (euler, 1)])
def test_the_error_falls_with_the_square_of_the_step(method, order):
    coarse, fine = (
        error_at_time_one(method, n, torch.Generator().manual_seed(0)) for n in (50, 100)
    )
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.05)


@by_metric
def test_it_keeps_volume(metric, generator):
    """The determinant of the Jacobian in (x, q), by central differences, is one."""
    energy, width = Banana(), 1e-5
    here = start(energy, generator, n=1)
    z = torch.cat([here.state.position[0], here.momentum[0]])
    moved = torch.cat([z + width * torch.eye(4), z - width * torch.eye(4)])
    points = PhasePoint(gradient_state(energy, moved[:, :2]), moved[:, 2:])
    there = leapfrog(energy, points, 0.2, metric, 3)
    ends = torch.cat([there.state.position, there.momentum], dim=1)
    jacobian = (ends[:4] - ends[4:]) / (2 * width)
    assert float(torch.linalg.det(jacobian)) == pytest.approx(1.0, abs=1e-6)
    assert not torch.allclose(jacobian, torch.eye(4, dtype=torch.float64), atol=0.1)


@by_metric
def test_a_metric_is_the_plain_path_in_whitened_coordinates(metric, generator):
    """x = L y: the path of E(L y) with M = I is that of E with M^-1 = L L'."""
    energy = Banana()
    here = start(energy, generator)
    factor = metric.spread(torch.eye(2, dtype=torch.float64)).mT
    y = torch.linalg.solve(factor, here.state.position.mT).mT

    def whitened(y):
        return energy(y @ factor.mT)

    plain = PhasePoint(gradient_state(whitened, y), here.momentum)
    plain = leapfrog(whitened, plain, 0.1, IdentityMetric(), 7)
    there = leapfrog(energy, here, 0.1, metric, 7)
    torch.testing.assert_close(there.state.position, plain.state.position @ factor.mT)
    torch.testing.assert_close(there.momentum, plain.momentum)
    torch.testing.assert_close(hamiltonian(there), hamiltonian(plain))


def test_steps_that_meet_are_single_steps_one_after_another(generator):
    energy, metric = Banana(), METRICS[2]
    here = start(energy, generator)
    step_size = 0.05 * (1 + torch.rand(50, generator=generator, dtype=torch.float64))
    at_once, one_by_one = leapfrog(energy, here, step_size, metric, 5), here
    for _ in range(5):
        one_by_one = leapfrog(energy, one_by_one, step_size, metric)
    torch.testing.assert_close(at_once, one_by_one)


def test_divergence_is_a_thousand_nats_or_what_is_not_finite():
    errors = torch.tensor([0.0, -5000.0, 999.0, 1001.0, math.inf, -math.inf, math.nan])
    assert has_diverged(errors).tolist() == [False, False, False, True, True, True, True]
