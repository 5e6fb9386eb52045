"""BAOAB on a Gaussian: its law at rest solved exactly, its law after k steps, and mutants."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import linalg

from basin.samplers import underdamped_langevin
from basin.samplers.underdamped_langevin import UnderdampedLangevin, UnderdampedState
from basin.sampling.chains import DivergenceError
from basin.sampling.curvature import StepSizeWarning
from basin.sampling.run import sample
from helpers.energies import DiagonalGaussian
from helpers.statistics import assert_different_law, assert_same_law, normal_cdf

NUM_CHAINS = 20_000
CASES = [(1.0, 0.3, 0.5), (4.0, 0.7, 1.0), (4.0, 0.9, 0.1), (0.25, 2.5, 3.0)]


def one_step(precision, step_size, friction, order="BAOAB"):
    """The step as a linear map of (x, v) with Gaussian noise: ``A`` and its covariance ``Q``."""
    kept = math.exp(-friction * step_size)
    parts = {
        "B": [[1.0, 0.0], [-precision * step_size / order.count("B"), 1.0]],
        "A": [[1.0, step_size / order.count("A")], [0.0, 1.0]],
        "O": [[1.0, 0.0], [0.0, kept]],
    }
    matrix = torch.eye(2, dtype=torch.float64)
    noise = torch.zeros(2, 2, dtype=torch.float64)
    for letter in order:
        part = torch.tensor(parts[letter], dtype=torch.float64)
        matrix, noise = part @ matrix, part @ noise @ part.T
        if letter == "O":
            noise[1, 1] += 1 - kept**2
    return matrix, noise


def law_at_rest(precision, step_size, friction, order="BAOAB"):
    """The covariance with C = A C A' + Q."""
    matrix, noise = one_step(precision, step_size, friction, order)
    return torch.from_numpy(linalg.solve_discrete_lyapunov(matrix.numpy(), noise.numpy()))


def run(kernel, precision, positions, velocities, num_steps, generator):
    energy = DiagonalGaussian([precision])
    state = kernel.init(energy, positions, generator)._replace(velocity=velocities)
    for _ in range(num_steps):
        state, _ = kernel.step(energy, state, generator)
    return state


def exact_start(covariance, generator):
    factor = torch.linalg.cholesky(covariance).float()
    both = torch.randn(NUM_CHAINS, 2, generator=generator) @ factor.T
    return both[:, :1], both[:, 1:]


@pytest.mark.parametrize(("precision", "step_size", "friction"), CASES)
def test_the_law_at_rest_is_the_one_of_the_docstring(precision, step_size, friction):
    """Position exact, velocity 1 - h^2 lambda / 4, uncorrelated."""
    stated = torch.diag(torch.tensor([1 / precision, 1 - step_size**2 * precision / 4]))
    torch.testing.assert_close(law_at_rest(precision, step_size, friction), stated.double())
    mutant = law_at_rest(precision, step_size, friction, "OBABO")  # exact in v, not in x
    assert float(mutant[0, 0]) == pytest.approx(
        1 / (precision * (1 - step_size**2 * precision / 4))
    )


@pytest.mark.statistical
@pytest.mark.parametrize(("precision", "step_size", "friction"), CASES)
def test_its_own_law_does_not_move(precision, step_size, friction, generator):
    covariance = law_at_rest(precision, step_size, friction)
    start = exact_start(covariance, generator)
    kernel = UnderdampedLangevin(step_size, friction)
    state = run(kernel, precision, *start, 10, generator)
    for values, variance in zip(state[:2], covariance.diagonal(), strict=True):
        assert_same_law(values[:, 0], normal_cdf(0.0, math.sqrt(variance)))


@pytest.mark.statistical
def test_law_after_k_steps_from_a_point(generator):
    """From (x0, v0) it is N(A^k (x0, v0), sum A^j Q A'^j): every coefficient has a say."""
    precision, step_size, friction, num_steps = 2.0, 0.4, 0.7, 3
    start = torch.tensor([3.0, -1.0], dtype=torch.float64)
    law = after(precision, step_size, friction, start, num_steps)
    kernel = UnderdampedLangevin(step_size, friction)
    positions, velocities = start.float().expand(NUM_CHAINS, 2).split(1, dim=1)
    state = run(kernel, precision, positions, velocities, num_steps, generator)
    for values, cdf in zip(state[:2], law, strict=True):
        assert_same_law(values[:, 0], cdf)
    for other in (
        UnderdampedLangevin(step_size, 1.1 * friction),
        UnderdampedLangevin(1.1 * step_size, friction),
    ):
        mutant = run(other, precision, positions, velocities, num_steps, generator)
        assert_different_law(mutant.velocity[:, 0], law[1])


def after(precision, step_size, friction, start, num_steps):
    matrix, noise = one_step(precision, step_size, friction)
    mean, covariance = start, torch.zeros(2, 2, dtype=torch.float64)
    for _ in range(num_steps):
        mean, covariance = matrix @ mean, matrix @ covariance @ matrix.T + noise
    deviations = covariance.diagonal().sqrt()
    return [normal_cdf(float(m), float(s)) for m, s in zip(mean, deviations, strict=True)]


@pytest.mark.statistical
@pytest.mark.parametrize("mutant", ["noise of the wrong size", "one half of the kick forgotten"])
def test_mutants_move_the_law(mutant, generator, monkeypatch):
    precision, step_size, friction = CASES[1]
    covariance = law_at_rest(precision, step_size, friction)
    start = exact_start(covariance, generator)
    if mutant == "noise of the wrong size":
        normal_like = underdamped_langevin.normal_like
        monkeypatch.setattr(
            underdamped_langevin, "normal_like", lambda v, g: 0.9 * normal_like(v, g)
        )
    else:
        score = underdamped_langevin.score
        monkeypatch.setattr(underdamped_langevin, "score", lambda e, x: score(e, x) / 2)
    state = run(UnderdampedLangevin(step_size, friction), precision, *start, 20, generator)
    assert_different_law(state.position[:, 0], normal_cdf(0.0, math.sqrt(covariance[0, 0])))


def test_one_score_a_step_and_it_is_that_of_the_position(generator):
    calls = []

    def counted(x):
        calls.append(len(x))
        return x.pow(4).sum(dim=1)

    kernel = UnderdampedLangevin()
    state = kernel.init(counted, torch.ones(3, 2), generator)
    for _ in range(10):
        state, _ = kernel.step(counted, state, generator)
    assert calls == [3] * 11
    torch.testing.assert_close(state.score, -4 * state.position.pow(3))


@pytest.mark.statistical
def test_at_infinite_friction_noises_are_shared_between_two_steps(generator):
    """From rest x_1 = x_0 + h^2/4 s + h/2 z_1, x_2 = x_1 + h^2/2 s + h/2 (z_1 + z_2)."""
    energy, h = DiagonalGaussian([1.0]), 0.2
    kernel = UnderdampedLangevin(h, friction=1e4)
    start = torch.full((NUM_CHAINS, 1), 2.0)
    state = kernel.init(energy, start, generator)._replace(velocity=torch.zeros(NUM_CHAINS, 1))
    state, _ = kernel.step(energy, state, generator)
    assert_same_law(state.position[:, 0], normal_cdf(2.0 * (1 - h**2 / 4), h / 2))
    state, _ = kernel.step(energy, state, generator)
    shrink = 1 - h**2 / 2
    mean = 2.0 * (1 - h**2 / 4) * shrink
    deviation = h / 2 * math.sqrt((shrink + 1) ** 2 + 1)
    assert_same_law(state.position[:, 0], normal_cdf(mean, deviation))


def test_beyond_the_bound_of_stability_it_is_told(generator):
    """Before the first step, and when the last chain has left."""
    with (
        pytest.warns(StepSizeWarning, match="bound of stability is 2/sqrt"),
        pytest.raises(DivergenceError, match="none of the 4 chains is finite any more"),
    ):
        sample(DiagonalGaussian([4.0]), UnderdampedLangevin(1.1), torch.ones(4, 1), num_steps=5_000)


def test_a_lost_chain_is_counted_once(generator):
    kernel, energy = UnderdampedLangevin(), DiagonalGaussian([1.0])
    state = kernel.init(energy, torch.zeros(2, 1), generator)
    broken = UnderdampedState(
        state.position, torch.tensor([[0.0], [math.inf]]), state.score, state.is_finite
    )
    broken, info = kernel.step(energy, broken, generator)
    assert info.is_divergent.tolist() == [False, True]
    _, info = kernel.step(energy, broken, generator)
    assert info.is_divergent.tolist() == [False, False]


@pytest.mark.parametrize("bad", [0.0, -0.1, float("nan"), "1"])
def test_refuses_bad_settings(bad):
    with pytest.raises(ValueError, match="step_size must be positive, got"):
        UnderdampedLangevin(bad)
    with pytest.raises(ValueError, match="friction must be positive, got"):
        UnderdampedLangevin(friction=bad)


@pytest.mark.statistical
def test_with_a_velocity_drawn_anew_it_is_langevin_of_a_step_of_its_own(generator):
    """Along a path or inside parallel tempering: epsilon = h^2 (1 + e^(-gamma h)) / 4, so the law
    at rest is too wide; the narrower one that BAOAB has on its own is the mutant."""
    precision, h, friction = 4.0, 0.7, 0.5
    epsilon = h**2 * (1 + math.exp(-friction * h)) / 4
    width = math.sqrt(1 / (precision * (1 - epsilon * precision / 2)))
    energy, kernel = DiagonalGaussian([precision]), UnderdampedLangevin(h, friction)
    x = width * torch.randn(NUM_CHAINS, 1, generator=generator)
    for _ in range(10):
        x = kernel.step(energy, kernel.init(energy, x, generator), generator)[0].position
    assert_same_law(x[:, 0], normal_cdf(0.0, width))
    assert_different_law(x[:, 0], normal_cdf(0.0, math.sqrt(1 / precision)))
