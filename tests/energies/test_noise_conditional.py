"""The noise-conditional energy: closed-form derivatives, and the Gaussian that it starts from."""

from __future__ import annotations

import pytest
import torch

from basin.core.gradients import dual_score, score
from basin.energies.networks.noise_conditional import NoiseConditional


def fitted(activation="silu", dtype=torch.float64, num_components=1):
    generator = torch.Generator().manual_seed(0)
    energy = NoiseConditional(
        3, hidden=(16, 8), activation=activation, num_components=num_components
    ).to(dtype)
    mixing = torch.randn(3, 3, generator=generator, dtype=dtype)
    energy.fit_base(torch.randn(100, 3, generator=generator, dtype=dtype) @ mixing + 2)
    return energy


def points(n=7, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    x = 3 * torch.randn(n, 3, generator=generator, dtype=dtype)
    return x, 0.1 + 2 * torch.rand(n, generator=generator, dtype=dtype)


@pytest.mark.parametrize("activation", ["silu", "softplus", "gelu", "tanh"])
def test_both_derivatives_in_closed_form_are_those_of_autograd(activation):
    energy = fitted(activation=activation, num_components=4)
    x, sigma = points()
    closed = dual_score(energy, x, sigma)
    by_autograd = dual_score(lambda y, s: energy(y, s), x, sigma)
    for first, second in zip(closed, by_autograd, strict=True):
        assert torch.allclose(first, second, rtol=1e-11, atol=1e-11)
    assert torch.allclose(energy.score(x, sigma), closed[0], rtol=1e-12)


@pytest.mark.parametrize("num_components", [1, 4])
def test_parameter_gradients_of_a_loss_on_both_are_those_of_autograd(num_components):
    energy = fitted(num_components=num_components)
    x, sigma = points()

    def gradients(function):
        in_space, in_noise = dual_score(function, x, sigma, create_graph=True)
        loss = in_space.square().sum() + (in_noise - 1).square().sum()
        return torch.autograd.grad(loss, list(energy.parameters()))

    pairs = zip(gradients(energy), gradients(lambda y, s: energy(y, s)), strict=True)
    assert all(torch.allclose(first, second, rtol=1e-9, atol=1e-9) for first, second in pairs)


def test_a_dropped_chain_rule_term_is_caught():
    """Mutant: d/d log sigma of the level features alone."""
    energy = fitted()
    x, sigma = points()
    features = energy._features(x, sigma)
    _, in_level = energy._feature_gradients(features)
    mutant = -(in_level * features.level_slopes).sum(1)
    assert not torch.allclose(mutant, dual_score(energy, x, sigma)[1], rtol=1e-2, atol=1e-2)


def test_without_its_network_it_is_the_blurred_gaussian():
    energy = fitted()
    with torch.no_grad():
        energy.output.weight.zero_()
    x, _ = points()
    for sigma in (0.1, 1.0, 30.0):
        mean, covariance = energy.base_law(sigma)
        gaussian = torch.distributions.MultivariateNormal(mean, covariance)
        assert torch.allclose(-energy(x, sigma), gaussian.log_prob(x), rtol=1e-10)


def test_images_start_from_a_mixture_and_rows_from_one_gaussian():
    assert NoiseConditional(10).base.num_components == 1
    assert NoiseConditional((1, 8, 8)).base.num_components == 20
    assert NoiseConditional((28, 28), hidden=(4,)).base.num_components == 6
    assert NoiseConditional((3, 50, 50), hidden=(4,)).base.num_components == 1
    assert NoiseConditional(10, num_components=5).base.num_components == 5


def test_without_its_network_an_image_is_the_blurred_mixture():
    rows = torch.randn(100, 3, generator=torch.Generator().manual_seed(2)).double()
    energy = fitted(num_components=4)
    energy.fit_base(torch.cat([rows, rows + 8]))
    with torch.no_grad():
        energy.output.weight.zero_()
    x, sigma = points()
    torch.testing.assert_close(energy(x, sigma), energy.base(x, sigma))
    assert energy.base.weights.count_nonzero() == 4


def test_the_base_law_has_the_moments_of_the_rows_and_of_its_draws():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(500, 3, generator=generator) @ torch.diag(torch.tensor([3.0, 1.0, 0.1]))
    energy = NoiseConditional(3, hidden=(4,))
    energy.fit_base(rows)
    mean, covariance = energy.base_law(0.5)
    assert torch.allclose(mean, rows.mean(0), atol=1e-5)
    floor = 0.25 + torch.cov(rows.T).diagonal().mean() / 500
    assert torch.allclose(covariance, torch.cov(rows.T) + floor * torch.eye(3), atol=1e-4)
    draws = energy.sample_base(50_000, generator, 0.5)
    assert torch.allclose(torch.cov(draws.T), covariance, atol=0.2)


def test_constant_coordinates_are_no_trouble():
    """Dead pixels: no variance, and at level sigma just N(., sigma^2)."""
    energy = NoiseConditional(3, hidden=(4,))
    rows = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    rows[:, 1] = 0.5
    energy.fit_base(rows)
    x = rows[:5].requires_grad_(True)
    assert torch.isfinite(energy(x, 0.05)).all()
    assert torch.isfinite(score(energy.at(0.05), x)).all()


def test_sigma_is_a_number_or_one_a_row():
    energy = fitted()
    x, _ = points()
    assert torch.allclose(energy(x, 0.3), energy(x, torch.full((len(x),), 0.3).double()))
    assert torch.allclose(energy.at(0.3)(x), energy(x, 0.3))


def test_images_keep_their_shape():
    energy = NoiseConditional((1, 2, 2), hidden=(4,))
    x = torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    assert energy.score(x, 0.5).shape == x.shape
    assert energy.sample_base(3, torch.Generator().manual_seed(0), 1.0).shape == x.shape


def test_width_follows_the_dimension_unless_given():
    assert NoiseConditional(2).hidden == (128, 128, 128)
    assert NoiseConditional((1, 8, 8)).hidden == (256, 256, 256)
    assert NoiseConditional(2, hidden=(5,)).hidden == (5,)


def test_no_parameter_is_invisible_to_the_scores():
    energy = fitted()
    in_space, in_noise = energy.dual_score(*points())
    (in_space.sum() + in_noise.sum()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in energy.parameters())


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"dim": 0}, "dim must be a positive"),
        ({"dim": 2, "hidden": (0,)}, "hidden must be a positive"),
        ({"dim": 2, "activation": "relu"}, "activation must be smooth"),
        ({"dim": 2, "activation": "sin"}, "activation must be one of"),
        ({"dim": 2, "detail": (-1.0,)}, "detail must be positive"),
    ],
)
def test_bad_settings_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        NoiseConditional(**kwargs)


def test_rows_of_another_dimension_are_refused():
    with pytest.raises(ValueError, match="NoiseConditional takes x of shape"):
        NoiseConditional(2)(torch.zeros(4, 3), 0.1)
    with pytest.raises(ValueError, match="two rows"):
        NoiseConditional(2).fit_base(torch.zeros(1, 2))


@pytest.mark.parametrize(
    ("sigma", "message"),
    [
        (0.0, "sigma must be positive, got 0"),
        (-1.0, "sigma must be positive, got -1"),
        (torch.ones(3), r"sigma must be a number or one for each of the 5 rows.*\(3,\)"),
        (torch.ones(5, 1), r"sigma must be a number or one for each of the 5 rows.*\(5, 1\)"),
    ],
)
def test_noise_levels_that_cannot_be_are_refused(sigma, message):
    energy = NoiseConditional(2, hidden=(4,))
    for function in (energy, energy.score):
        with pytest.raises(ValueError, match=message):
            function(torch.zeros(5, 2), sigma)
