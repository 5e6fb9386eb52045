from __future__ import annotations

import copy
import math

import pytest
import torch
from scipy import stats

import basin
from basin.core.gradients import energy_and_score, laplacian
from basin.energies import Gaussian
from helpers.statistics import THRESHOLD

MEAN = [1.0, -2.0, 0.5]
COVARIANCE = [[2.0, 0.6, 0.0], [0.6, 1.0, -0.3], [0.0, -0.3, 0.5]]


@pytest.fixture
def energy():
    return Gaussian(MEAN, COVARIANCE)


@pytest.fixture
def x(generator):
    return 2 * torch.randn(50, 3, generator=generator, dtype=torch.float64)


def test_energy_is_minus_the_log_density(energy, x):
    expected = -torch.as_tensor(stats.multivariate_normal(MEAN, COVARIANCE).logpdf(x.numpy()))
    torch.testing.assert_close(energy(x), expected, rtol=1e-12, atol=1e-12)
    with pytest.raises(AssertionError):  # the mutant: the normaliser left out
        torch.testing.assert_close(energy(x) - energy(energy.mean[None]), expected)
    assert energy.log_z == 0


def test_it_integrates_to_one():
    energy = Gaussian([0.3], [[0.49]])
    grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)[:, None]
    assert abs(torch.trapezoid(torch.exp(-energy(grid)), dx=16 / 4000).item() - 1) < 1e-12


def test_score_is_its_closed_form(energy, x):
    torch.testing.assert_close(energy.score(x), energy_and_score(energy, x)[1])
    trace = torch.linalg.inv(torch.tensor(COVARIANCE, dtype=torch.float64)).trace()
    torch.testing.assert_close(laplacian(energy, x), trace.expand(50))


@pytest.mark.statistical
def test_draws_follow_the_law(energy, generator):
    draws = energy.sample(20_000, generator).double()

    def p_value(precision):
        centred = draws - torch.tensor(MEAN)
        distance = (centred * (centred @ precision)).sum(1)
        return stats.kstest(distance.numpy(), stats.chi2(3).cdf).pvalue

    covariance = torch.tensor(COVARIANCE, dtype=torch.float64)
    assert p_value(torch.linalg.inv(covariance)) > THRESHOLD
    assert p_value(torch.linalg.inv(covariance.diagonal().diag())) < THRESHOLD  # the mutant
    error = covariance.diagonal().sqrt() / math.sqrt(20_000)
    assert bool(((draws.mean(0) - torch.tensor(MEAN)).abs() < 4 * error).all())


def test_same_seed_same_draws(energy):
    draw = lambda seed: energy.sample(5, torch.Generator().manual_seed(seed))  # noqa: E731
    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    assert draw(1).dtype == torch.float32
    assert torch.equal(draw(1), energy.sample_base(5, torch.Generator().manual_seed(1)))


def test_the_type_of_x_is_kept(energy, x):
    assert energy(x.float()).dtype == torch.float32
    torch.testing.assert_close(energy(x.float()), energy(x).float())
    assert basin.score(energy, x.float()).dtype == torch.float32


def test_buffers_move_and_save(energy, x):
    assert sorted(energy.state_dict()) == ["covariance", "mean"]
    assert list(energy.parameters()) == []


def test_loaded_buffers_carry_what_follows_from_them(energy, x):
    other = Gaussian([0.0, 0.0, 0.0], torch.eye(3))
    other.load_state_dict(energy.state_dict())
    torch.testing.assert_close(other(x), energy(x))
    torch.testing.assert_close(other.score(x), energy.score(x))
    copied = copy.deepcopy(other)
    copied.load_state_dict(Gaussian([0.0, 0.0, 0.0], torch.eye(3)).state_dict())
    torch.testing.assert_close(other(x), energy(x))
    torch.testing.assert_close(copied.score(x), -x)
    assert energy.float().score(x).dtype == torch.float64
    assert energy.sample(3, torch.Generator().manual_seed(0)).shape == (3, 3)


@pytest.mark.parametrize(
    ("mean", "covariance", "match"),
    [
        ([[0.0]], [[1.0]], r"mean must have shape \(d,\)"),
        ([], [[]], r"mean must have shape \(d,\)"),
        ([0.0, 0.0], [[1.0]], r"covariance must have shape \(2, 2\)"),
        ([0.0, 0.0], [[1.0, 0.5], [0.4, 1.0]], "covariance must be symmetric"),
        ([0.0, 0.0], [[1.0, 2.0], [2.0, 1.0]], "positive definite, got a smallest eigenvalue of -"),
        ([0.0, 0.0], [[1.0, 1.0], [1.0, 1.0]], "covariance must be positive definite"),
        ([float("nan"), 0.0], [[1.0, 0.0], [0.0, 1.0]], "mean must be finite"),
        ([0.0], [[float("inf")]], "covariance must be finite"),
    ],
)
def test_parameters_that_are_no_gaussian(mean, covariance, match):
    with pytest.raises(ValueError, match=match):
        Gaussian(mean, covariance)


def test_a_wrong_dimension(energy):
    with pytest.raises(ValueError, match=r"x must have shape \(batch, 3\), got \(4, 2\)"):
        energy(torch.zeros(4, 2))
