"""AtNoiseLevel and Standardised: wrappers that must change nothing but the point of view."""

from __future__ import annotations

import math

import pytest
import torch

import basin
from basin.core.gradients import dual_score, energy_and_score
from basin.energies import MLP, AtNoiseLevel, Gaussian, NoiseConditional, Standardised

SHIFT = [10.0, -3.0]
SCALE = [5.0, 0.1]


@pytest.fixture
def x(generator):
    noise = torch.randn(30, 2, generator=generator, dtype=torch.float64)
    return torch.tensor(SHIFT) + torch.tensor(SCALE) * noise


def noisy(y, sigma):
    """-log N(0, (1 + sigma^2) I) in two dimensions."""
    variance = 1 + torch.as_tensor(sigma, dtype=y.dtype).square()
    return y.square().sum(1) / (2 * variance) + (2 * math.pi * variance).log()


class Noisy:
    """The same as an object with ``at``."""

    event_shape = (2,)

    def __call__(self, y, sigma):
        return noisy(y, sigma)

    def at(self, sigma):
        return AtNoiseLevel(self, sigma)


def test_standardised_gaussian_is_the_gaussian_in_the_users_units(x):
    inner = Gaussian([0.0, 0.0], [[1.0, 0.4], [0.4, 1.0]])
    scale = torch.tensor(SCALE, dtype=torch.float64)
    truth = Gaussian(SHIFT, inner.covariance * scale[:, None] * scale)
    energy = Standardised(inner, SHIFT, SCALE)
    torch.testing.assert_close(energy(x), truth(x))
    torch.testing.assert_close(energy.score(x), truth.score(x))
    with pytest.raises(AssertionError):  # the mutant: the log-determinant forgotten
        torch.testing.assert_close(energy(x) - energy.log_scale, truth(x))
    with pytest.raises(AssertionError):  # the mutant: its sign
        torch.testing.assert_close(energy(x) - 2 * energy.log_scale, truth(x))


def test_it_integrates_to_one():
    energy = Standardised(Gaussian([0.0], [[1.0]]), 2.0, 0.3)
    grid = torch.linspace(-1, 5, 4001, dtype=torch.float64)[:, None]
    assert abs(torch.trapezoid(torch.exp(-energy(grid)), dx=6 / 4000).item() - 1) < 1e-12


def test_log_scale_counts_every_coordinate(generator):
    assert math.isclose(Standardised(noisy, SHIFT, SCALE).log_scale.item(), math.log(0.5))
    assert math.isclose(Standardised(noisy, SHIFT, 0.1).log_scale.item(), 2 * math.log(0.1))
    image = Standardised(MLP((1, 2, 3), hidden=(4,)), 7.0, 4.0)
    assert math.isclose(image.log_scale.item(), 6 * math.log(4.0))
    y = torch.randn(5, 1, 2, 3, generator=generator)
    torch.testing.assert_close(image(y), image.energy((y - 7) / 4) + 6 * math.log(4.0))


def test_standardise_and_restore(x):
    energy = Standardised(noisy, SHIFT, SCALE)
    u = energy.standardise(x)
    torch.testing.assert_close(u, (x - torch.tensor(SHIFT)) / torch.tensor(SCALE).double())
    torch.testing.assert_close(energy.restore(u), x)


@pytest.mark.parametrize(
    "inner", [MLP(2, hidden=(8,)).double(), lambda u: u.pow(4).sum(1)], ids=["closed", "plain"]
)
def test_score_equals_autograd(inner, x):
    energy = Standardised(inner, SHIFT, SCALE)
    expected = energy_and_score(lambda y: energy(y), x)[1]
    torch.testing.assert_close(basin.score(energy, x), expected)
    with torch.inference_mode():
        torch.testing.assert_close(basin.score(energy, x.clone()), expected)
    if isinstance(inner, MLP):
        basin.score(energy, x, create_graph=True).square().sum().backward()
        assert inner.output.weight.grad is not None
        inner.zero_grad()


def test_noise_levels_pass_through(x):
    energy = Standardised(Noisy(), SHIFT, SCALE)
    sigma = torch.full((30,), 0.5, dtype=torch.float64)
    torch.testing.assert_close(energy(x, 0.5), energy.at(0.5)(x))
    torch.testing.assert_close(energy.at(0.5).score(x), energy.score(x, 0.5))
    in_space, in_noise = dual_score(energy, x, sigma)
    torch.testing.assert_close(in_space, energy.score(x, 0.5))
    torch.testing.assert_close(in_noise, dual_score(noisy, energy.standardise(x), sigma)[1])
    plain = dual_score(lambda y, s: energy(y, s), x, sigma)
    torch.testing.assert_close(plain, (in_space, in_noise))


def test_a_noise_conditional_network_inside(x):
    network = NoiseConditional(2, hidden=(8,)).double()
    energy = Standardised(network, SHIFT, SCALE)
    sigma = torch.linspace(0.1, 2, 30, dtype=torch.float64)
    closed = dual_score(energy, x, sigma)
    plain = dual_score(lambda y, s: energy(y, s), x, sigma)
    torch.testing.assert_close(closed, plain)
    torch.testing.assert_close(energy.score(x, sigma), plain[0])
    found = dual_score(energy, x, sigma, create_graph=True)
    (found[0].square().sum() + found[1].square().sum()).backward()
    assert network.output.weight.grad is not None


def test_at_noise_level(x):
    energy = AtNoiseLevel(noisy, 2.0)
    assert energy.sigma == 2.0
    assert energy.energy is noisy
    torch.testing.assert_close(energy(x), noisy(x, 2.0))
    torch.testing.assert_close(basin.score(energy, x), -x / 5)
    with pytest.raises(AssertionError):  # the mutant: another level
        torch.testing.assert_close(basin.score(AtNoiseLevel(noisy, 1.0), x), -x / 5)


def test_at_noise_level_takes_the_closed_form_and_shares_weights(x, monkeypatch):
    network = NoiseConditional(2, hidden=(8,)).double()
    energy = network.at(0.3)
    expected = energy_and_score(lambda y: energy(y), x)[1]
    torch.testing.assert_close(basin.score(energy, x), expected)
    assert {id(p) for p in energy.parameters()} == {id(p) for p in network.parameters()}
    assert len(energy.state_dict()) == len(network.state_dict())
    monkeypatch.setattr(torch.autograd, "grad", None)
    torch.testing.assert_close(basin.score(energy, x), expected)


@pytest.mark.statistical
def test_base_law_in_the_users_units(generator):
    energy = Standardised(NoiseConditional(2, hidden=(4,)), SHIFT, SCALE).at(2.0)
    draws = energy.sample_base(20_000, generator)
    sd = torch.tensor(SCALE) * math.sqrt(5)
    assert bool(((draws.mean(0) - torch.tensor(SHIFT)).abs() < 4 * sd / math.sqrt(20_000)).all())
    torch.testing.assert_close(draws.std(0), sd, rtol=0.03, atol=0)


def test_no_base_law(generator):
    for energy in (Standardised(noisy, SHIFT, SCALE), AtNoiseLevel(noisy, 1.0)):
        with pytest.raises(ValueError, match="give the starting points x0"):
            energy.sample_base(3, generator)


def test_precision_of_large_shifts(x):
    """Shift and scale are kept in float64: a year's fraction survives a float64 row."""
    energy = Standardised(Gaussian([0.0], [[1.0]]), [1_700_000_000.123], [0.5])
    u = energy.standardise(torch.tensor([[1_700_000_000.623]], dtype=torch.float64))
    assert abs(u.item() - 1.0) < 1e-5
    assert energy(torch.zeros(1, 1)).dtype == torch.float32


@pytest.mark.parametrize(
    ("shift", "scale", "match"),
    [
        ([0.0, 0.0], [1.0, 0.0], "scale must be positive, got 0.0"),
        (0.0, -1.0, "scale must be positive, got -1.0"),
        (float("nan"), 1.0, "shift must be finite"),
        (0.0, float("inf"), "scale must be finite"),
        ([0.0, 0.0], [1.0, 1.0, 1.0], "of one shape"),
    ],
)
def test_units_are_checked(shift, scale, match):
    with pytest.raises(ValueError, match=match):
        Standardised(noisy, shift, scale)


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan")])
def test_sigma_is_checked(sigma):
    with pytest.raises(ValueError, match="sigma must be positive"):
        AtNoiseLevel(noisy, sigma)


def test_other_columns_are_refused(generator):
    energy = Standardised(MLP(2), SHIFT, SCALE)
    with pytest.raises(ValueError, match="the columns it was fitted on, got"):
        energy(torch.randn(4, 3, generator=generator))
