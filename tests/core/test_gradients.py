"""Scores, products and traces against a quadratic with a known Hessian and a quartic with two."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import basin
from basin.core.gradients import (
    dual_score,
    energy_and_score,
    hessian_vector_product,
    hutchinson_laplacian,
    laplacian,
    score,
)

MATRIX = torch.tensor([[2.0, 0.7, -0.3], [0.7, 1.5, 0.4], [-0.3, 0.4, 3.0]], dtype=torch.float64)


def quadratic(x):
    return 0.5 * ((x @ MATRIX.to(x)) * x).sum(1)


def quartic(x):
    """Hessian diag(3 x_i^2) + 1 everywhere: sum x^4/4 + (sum x)^2/2."""
    return 0.25 * x.pow(4).sum(1) + 0.5 * x.sum(1).square()


def quartic_hessian(x):
    return torch.diag_embed(3 * x.square()) + 1


class Network(nn.Module):
    """A tiny smooth network with fixed weights and, on request, a closed-form score."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 12).reshape(3, 4))

    def forward(self, x):
        return torch.tanh(x @ self.weight.to(x)).sum(1)


class ClosedForm:
    """Its score is wrong on purpose: whoever uses it is seen to have used it."""

    def __call__(self, x):
        return x.square().sum(1)

    def score(self, x):
        return torch.full_like(x, 7.0)


@pytest.fixture
def x(generator):
    return torch.randn(6, 3, generator=generator, dtype=torch.float64)


def test_score_is_minus_the_gradient(x):
    torch.testing.assert_close(score(quadratic, x), -x @ MATRIX)
    with pytest.raises(AssertionError):  # the mutant: the gradient itself
        torch.testing.assert_close(score(quadratic, x), x @ MATRIX)


def test_it_is_the_function_at_the_top():
    assert basin.score is score


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize(
    "quantity",
    [
        lambda e, x: score(e, x),
        lambda e, x: energy_and_score(e, x)[1],
        lambda e, x: hessian_vector_product(e, x, torch.ones_like(x)),
        lambda e, x: laplacian(e, x),
        lambda e, x: hutchinson_laplacian(e, x, torch.Generator().manual_seed(0)),
        lambda e, x: dual_score(lambda y, s: e(y) / s, x, torch.ones(len(x)))[1],
    ],
)
def test_callable_in_every_mode_and_leaves_nothing_behind(mode, quantity, generator):
    energy = Network()
    outside = torch.randn(4, 3, generator=generator)
    expected = quantity(energy, outside)
    with mode():
        x = outside.clone()  # an inference tensor inside inference_mode
        kept = x.clone()
        value = quantity(energy, x)
        assert torch.equal(x, kept)
        assert x.grad is None
    torch.testing.assert_close(value, expected)
    assert not value.requires_grad
    assert energy.weight.grad is None


def test_a_leaf_of_the_caller_stays_as_it_was(x):
    x.requires_grad_(True)
    score(quadratic, x)
    score(quadratic, x, create_graph=True).sum().backward()
    torch.testing.assert_close(x.grad, -MATRIX.sum(1).expand(6, 3))


def test_closed_form_is_used(x):
    assert bool((score(ClosedForm(), x) == 7).all())
    plain = energy_and_score(lambda y: ClosedForm()(y), x)[1]
    torch.testing.assert_close(plain, -2 * x)


def test_closed_form_has_no_graph_unless_asked(x):
    energy = basin.energies.MLP(3, hidden=(4,)).double()
    assert not score(energy, x).requires_grad
    assert score(energy, x, create_graph=True).requires_grad


def test_create_graph_trains_the_weights(x):
    energy = Network().double()
    score(energy, x, create_graph=True).square().sum().backward()
    found = energy.weight.grad.clone()
    step = 1e-6
    with torch.no_grad():
        energy.weight[1, 2] += step
        up = score(energy, x).square().sum()
        energy.weight[1, 2] -= 2 * step
        down = score(energy, x).square().sum()
    torch.testing.assert_close(found[1, 2], (up - down) / (2 * step), rtol=1e-6, atol=1e-8)


def test_energy_and_score_agree_with_each_alone(x):
    energy, slope = energy_and_score(quartic, x)
    torch.testing.assert_close(energy, quartic(x))
    torch.testing.assert_close(slope, -x.pow(3) - x.sum(1, keepdim=True))


def test_a_constant_energy_has_no_score(x):
    constant = lambda y: torch.zeros(len(y), dtype=y.dtype)  # noqa: E731
    assert bool((score(constant, x) == 0).all())


@pytest.mark.parametrize("bad", [lambda x: x[:, :1], lambda x: x.sum(), lambda x: 3.0])
def test_a_wrong_shape_is_refused(bad, x):
    with pytest.raises((ValueError, TypeError), match="must return"):
        score(bad, x)


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (lambda x: torch.complex(x, x).sum(1), "got torch.complex128; return its real part"),
        (lambda x: x.sum(1).long(), "got torch.int64; compute them without rounding"),
        (lambda x: x.sum(1) > 0, "got torch.bool"),
        (lambda x: x.square().sum(1).detach(), "differentiable in x"),
        (lambda x: torch.as_tensor(x.detach().numpy().sum(1)), "differentiable in x"),
        (lambda x: Network().double()(x.detach()), "differentiable in x"),
    ],
)
@pytest.mark.parametrize(
    "use",
    [
        score,
        lambda energy, x: basin.sample(energy, basin.samplers.Langevin(0.1), x, num_steps=2),
        lambda energy, x: basin.sample(energy, basin.samplers.MALA(0.1), x, num_steps=2),
    ],
)
def test_energies_without_a_true_gradient_are_refused(use, bad, sentence, x):
    with pytest.raises(ValueError, match=sentence):
        use(bad, x)


def test_a_constant_of_learned_weights_has_no_score(x):
    network = Network().double()
    constant = lambda y: network.weight.sum().expand(len(y))  # noqa: E731
    assert bool((score(constant, x) == 0).all())


@pytest.mark.parametrize(
    ("points", "error", "sentence"),
    [
        (torch.ones(2, 3).long(), ValueError, r"x must hold real .* got torch.int64; use x.float"),
        (torch.ones(2, 3) * 1j, ValueError, "got torch.complex64"),
        ([[1.0, 2.0, 3.0]], TypeError, r"x must be a Tensor, .* take torch.as_tensor\(x\)"),
    ],
)
def test_points_of_another_kind_are_refused(points, error, sentence):
    for function in (score, energy_and_score):
        with pytest.raises(error, match=sentence):
            function(quadratic, points)


def test_hessian_vector_product(x, generator):
    v = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(hessian_vector_product(quadratic, x, v), v @ MATRIX)
    exact = torch.einsum("bij,bj->bi", quartic_hessian(x), v)
    torch.testing.assert_close(hessian_vector_product(quartic, x, v), exact)
    with pytest.raises(AssertionError):  # the mutant: the diagonal only
        torch.testing.assert_close(
            hessian_vector_product(lambda y: 0.25 * y.pow(4).sum(1), x, v), exact
        )


def test_hessian_vector_product_of_a_linear_energy_is_zero(x):
    assert bool((hessian_vector_product(lambda y: y.sum(1), x, x) == 0).all())


def test_hessian_vector_product_of_a_closed_form(x):
    energy = basin.energies.MLP(3, hidden=(8, 8)).double()
    found = hessian_vector_product(energy, x, x)
    torch.testing.assert_close(found, hessian_vector_product(lambda y: energy(y), x, x))


def test_laplacian_is_the_trace(x):
    torch.testing.assert_close(laplacian(quartic, x), 3 * x.square().sum(1) + 3)
    torch.testing.assert_close(laplacian(quadratic, x), MATRIX.trace().expand(6))
    with pytest.raises(AssertionError):  # the mutant: the sum of all entries
        torch.testing.assert_close(laplacian(quadratic, x), MATRIX.sum().expand(6))


def test_laplacian_of_images(generator):
    x = torch.randn(2, 1, 2, 2, generator=generator, dtype=torch.float64)
    found = laplacian(lambda y: y.flatten(1).pow(4).sum(1), x)
    torch.testing.assert_close(found, 12 * x.flatten(1).square().sum(1))


def test_laplacian_trains_the_weights(x):
    energy = Network().double()
    laplacian(energy, x, create_graph=True).sum().backward()
    assert bool(energy.weight.grad.abs().max() > 0)


@pytest.mark.statistical
def test_hutchinson_has_the_right_mean_and_variance(generator):
    """Variance 2 (||H||_F^2 - sum H_ii^2); the mutant has Gaussian probes, 2 ||H||_F^2."""
    n = 20_000
    x = torch.zeros(n, 3, dtype=torch.float64)
    draws = hutchinson_laplacian(quadratic, x, generator)
    off_diagonal = MATRIX.square().sum() - MATRIX.diagonal().square().sum()
    error = (2 * off_diagonal / n).sqrt()
    assert abs(draws.mean() - MATRIX.trace()) < 4 * error
    torch.testing.assert_close(draws.var(), 2 * off_diagonal, rtol=0.05, atol=0)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(draws.var(), 2 * MATRIX.square().sum(), rtol=0.05, atol=0)
    four = hutchinson_laplacian(quadratic, x, generator, num_probes=4)
    torch.testing.assert_close(four.var(), off_diagonal / 2, rtol=0.05, atol=0)


def test_hutchinson_is_exact_for_a_diagonal_hessian(x, generator):
    found = hutchinson_laplacian(lambda y: y.pow(4).sum(1), x, generator)
    torch.testing.assert_close(found, 12 * x.square().sum(1))


def test_hutchinson_needs_a_probe(x, generator):
    with pytest.raises(ValueError, match="num_probes must be a positive whole number, got 0"):
        hutchinson_laplacian(quadratic, x, generator, num_probes=0)


def blurred_gaussian(x, sigma):
    """-log N(0, (1 + sigma^2) I) up to a constant that does not depend on sigma."""
    variance = 1 + torch.as_tensor(sigma).square()
    return x.square().sum(1) / (2 * variance) + 0.5 * x.shape[1] * variance.log()


def test_dual_score_is_the_derivative_in_log_sigma(x):
    sigma = torch.linspace(0.1, 3, 6, dtype=torch.float64)
    in_space, in_noise = dual_score(blurred_gaussian, x, sigma)
    variance = 1 + sigma.square()
    torch.testing.assert_close(in_space, -x / variance[:, None])
    squares = x.square().sum(1)
    expected = sigma.square() / variance * (squares / variance - 3)
    torch.testing.assert_close(in_noise, expected)
    with pytest.raises(AssertionError):  # the mutant: d/d sigma, not d/d log sigma
        torch.testing.assert_close(in_noise, expected / sigma)


@pytest.mark.parametrize("wants_grad", [False, True])
def test_dual_score_matches_autograd_on_log_sigma(x, wants_grad):
    energy = Network().double()
    noisy = lambda y, s: energy(y / (1 + s[:, None])) * s.sin()  # noqa: E731
    log_sigma = torch.linspace(-2, 1, 6, dtype=torch.float64).requires_grad_(True)
    (expected,) = torch.autograd.grad(-noisy(x, log_sigma.exp()).sum(), log_sigma)
    sigma = log_sigma.detach().exp().requires_grad_(wants_grad)
    torch.testing.assert_close(dual_score(noisy, x, sigma)[1], expected)
    _, in_noise = dual_score(noisy, x, sigma, create_graph=True)
    torch.testing.assert_close(in_noise.detach(), expected)
    in_noise.square().sum().backward()
    assert energy.weight.grad is not None


def test_dual_score_uses_the_closed_form(x):
    class Closed:
        def __call__(self, x, sigma):
            return x.sum(1)

        def dual_score(self, x, sigma):
            return torch.full_like(x, 5.0), torch.full_like(sigma, 6.0)

    in_space, in_noise = dual_score(Closed(), x, torch.ones(6, dtype=torch.float64))
    assert bool((in_space == 5).all())
    assert bool((in_noise == 6).all())
