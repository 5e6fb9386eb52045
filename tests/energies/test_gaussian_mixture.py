from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from basin.core.gradients import energy_and_score
from basin.energies import Gaussian, GaussianMixture
from helpers.statistics import THRESHOLD

MEANS = [[-3.0, 0.0], [2.0, 1.0], [0.0, 4.0]]
COVARIANCES = [[[1.0, 0.5], [0.5, 1.0]], [[0.2, 0.0], [0.0, 2.0]], [[0.3, -0.1], [-0.1, 0.4]]]
WEIGHTS = [0.5, 0.3, 0.2]


@pytest.fixture
def energy():
    return GaussianMixture(MEANS, COVARIANCES, WEIGHTS)


@pytest.fixture
def x(generator):
    return 3 * torch.randn(60, 2, generator=generator, dtype=torch.float64)


def density(x, weights=WEIGHTS):
    parts = zip(weights, MEANS, COVARIANCES, strict=True)
    return sum(w * stats.multivariate_normal(m, c).pdf(x.numpy()) for w, m, c in parts)


def test_energy_is_minus_the_log_density(energy, x):
    expected = -torch.as_tensor(np.log(density(x)))
    torch.testing.assert_close(energy(x), expected, rtol=1e-10, atol=1e-10)
    mutant = GaussianMixture(MEANS, COVARIANCES)  # equal weights
    with pytest.raises(AssertionError):
        torch.testing.assert_close(mutant(x), expected, rtol=1e-10, atol=1e-10)
    assert energy.log_z == 0


def test_score_is_its_closed_form(energy, x):
    torch.testing.assert_close(energy.score(x), energy_and_score(energy, x)[1])
    far = 1e3 * x  # where every component's density underflows
    torch.testing.assert_close(energy.score(far), energy_and_score(energy, far)[1])
    assert bool(torch.isfinite(energy(far)).all())


def test_one_component_is_a_gaussian(x):
    mixture = GaussianMixture(MEANS[:1], COVARIANCES[:1], [1.0])
    gaussian = Gaussian(MEANS[0], COVARIANCES[0])
    torch.testing.assert_close(mixture(x), gaussian(x))
    torch.testing.assert_close(mixture.score(x), gaussian.score(x))


def test_responsibilities(energy, x):
    shares = energy.responsibilities(x)
    assert shares.shape == (60, 3)
    torch.testing.assert_close(shares.sum(1), torch.ones(60, dtype=torch.float64))
    assert shares[:, 0][x[:, 0] < -6].min() > 0.99


def test_one_covariance_serves_all(x):
    one = GaussianMixture(MEANS, COVARIANCES[0], WEIGHTS)
    many = GaussianMixture(MEANS, [COVARIANCES[0]] * 3, WEIGHTS)
    torch.testing.assert_close(one(x), many(x))


def test_a_weight_of_zero_is_no_component(x):
    two = GaussianMixture(MEANS[:2], COVARIANCES[:2], [0.4, 0.6])
    three = GaussianMixture(MEANS, COVARIANCES, [0.4, 0.6, 0.0])
    torch.testing.assert_close(three(x), two(x))
    torch.testing.assert_close(three.score(x), two.score(x))


@pytest.mark.statistical
def test_draws_follow_the_law(energy, generator):
    draws = energy.sample(20_000, generator).double()

    def p_value(weights):
        def cdf(t):
            return sum(
                w * stats.norm(m[0], c[0][0] ** 0.5).cdf(t)
                for w, m, c in zip(weights, MEANS, COVARIANCES, strict=True)
            )

        return stats.kstest(draws[:, 0].numpy(), cdf).pvalue

    assert p_value(WEIGHTS) > THRESHOLD
    assert p_value([0.45, 0.35, 0.2]) < THRESHOLD  # the mutant


def test_the_type_of_x_and_the_seed(energy, x):
    assert energy(x.float()).dtype == energy.score(x.float()).dtype == torch.float32
    assert energy.float().sample(3, torch.Generator().manual_seed(0)).shape == (3, 2)
    draw = lambda seed: energy.sample(5, torch.Generator().manual_seed(seed))  # noqa: E731
    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_loaded_buffers_carry_what_follows_from_them(energy, x):
    assert sorted(energy.state_dict()) == ["covariances", "means", "weights"]
    other = GaussianMixture([[0.0, 0.0]] * 3, torch.eye(2))
    other.load_state_dict(energy.state_dict())
    torch.testing.assert_close(other(x), energy(x))
    torch.testing.assert_close(other.score(x), energy.score(x))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"means": [0.0, 1.0]}, r"means must have shape \(components, d\)"),
        ({"covariances": torch.eye(3)}, r"covariances must have shape \(3, 2, 2\) or \(2, 2\)"),
        ({"covariances": -torch.eye(2)}, "covariances must be positive definite"),
        ({"covariances": [[1.0, 0.3], [0.0, 1.0]]}, "covariances must be symmetric"),
        ({"weights": [0.5, 0.5]}, r"weights must have shape \(3,\)"),
        ({"weights": [0.5, 0.3, 0.3]}, r"add to 1, got \[0.5, 0.3, 0.3\] \(sum 1.1\)"),
        ({"weights": [1.5, -0.3, -0.2]}, "zero or positive and add to 1"),
        ({"weights": [float("nan"), 0.5, 0.5]}, "zero or positive and add to 1"),
    ],
)
def test_parameters_that_are_no_mixture(change, match):
    good = {"means": MEANS, "covariances": COVARIANCES, "weights": WEIGHTS}
    with pytest.raises(ValueError, match=match):
        GaussianMixture(**{**good, **change})
