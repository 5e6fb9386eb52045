"""The kernel Stein loss against its closed form on Gaussians.

For x, y ~ N(0, S) and the score s(x) = -Px, with D = S^-1 - P and the Gaussian kernel of width h,

    J = E[k(x, y) x'D'D y] = c tr(D'D C),
    where k times the two densities is c times a Gaussian whose precision is
    [[S^-1 + I/h^2, -I/h^2], [-I/h^2, S^-1 + I/h^2]], and C its block between x and y.

The inverse multiquadric kernel is a mixture of Gaussian ones:
    (1 + r^2/h^2)^(-1/2) = 2/sqrt(pi) int_0^inf exp(-v^2) exp(-v^2 r^2/h^2) dv.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import basin
from basin.core.kernels import gaussian_kernel, stein_row_means
from basin.objectives.kernel_stein import KernelStein, kernel_stein

COVARIANCE = torch.tensor([[2.0, 0.6], [0.6, 0.5]]).double()
PRECISION = torch.tensor([[0.9, 0.1], [0.1, 1.4]]).double()
H = 0.8
BATCH = 16


class Quadratic(nn.Module):
    """E(x) = x'Px/2, P symmetric."""

    def __init__(self, precision):
        super().__init__()
        self.precision = nn.Parameter(precision.clone())

    def forward(self, x):
        symmetric = (self.precision + self.precision.T) / 2
        return 0.5 * ((x @ symmetric) * x).sum(1)


def gaussian_rows(n, seed):
    z = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return z @ torch.linalg.cholesky(COVARIANCE).T


def closed_form(precision, h=H):
    inverse, eye = torch.linalg.inv(COVARIANCE), torch.eye(2).double()
    gap = inverse - (precision + precision.T) / 2
    own, across = inverse + eye / h**2, -eye / h**2
    joint = torch.linalg.inv(torch.cat([torch.cat([own, across]), torch.cat([across, own])], 1))
    factor = torch.linalg.det(joint).sqrt() / torch.linalg.det(COVARIANCE)
    return factor * torch.trace(gap @ gap @ joint[:2, 2:])


def closed_form_imq(precision, h=H):
    """Trapezoids in v, whose integrand is smooth and even: exact to rounding."""
    v = torch.linspace(0, 6, 121, dtype=torch.float64)
    values = [torch.exp(-(u**2)) * closed_form(precision, h / (u * math.sqrt(2))) for u in v[1:]]
    at_zero = torch.zeros((), dtype=torch.float64)  # a flat kernel: E d = 0
    return torch.trapezoid(torch.stack([at_zero, *values]), v) * 2 / math.sqrt(math.pi)


CLOSED_FORMS = {"gaussian": closed_form, "imq": closed_form_imq}


def loss_and_gradient(function, precision, num_batches=600):
    """Means over fresh batches of value and parameter gradient, with standard errors."""
    energy = Quadratic(precision)
    found = []
    for x in gaussian_rows(BATCH * num_batches, seed=0).split(BATCH):
        value = function(energy, x).mean()
        (gradient,) = torch.autograd.grad(value, energy.precision)
        found.append(torch.cat([value.detach().reshape(1), gradient.flatten()]))
    values = torch.stack(found)
    return values.mean(0), values.std(0) / num_batches**0.5


def exact(kernel, precision):
    precision = precision.clone().requires_grad_(True)
    value = CLOSED_FORMS[kernel](precision)
    (gradient,) = torch.autograd.grad(value, precision)
    return torch.cat([value.detach().reshape(1), gradient.flatten()])


def deviations(function, kernel, precision=PRECISION):
    mean, error = loss_and_gradient(function, precision)
    return (mean - exact(kernel, precision)).abs() / error


@pytest.mark.statistical
@pytest.mark.parametrize("kernel", CLOSED_FORMS)
def test_value_and_gradient_are_the_closed_form(kernel):
    def loss(energy, x):
        return kernel_stein(energy, x, bandwidths=(H,), kernel=kernel)

    assert (deviations(loss, kernel) < 3.9).all()


def wrong_sign(energy, x):
    """Mutant: the score +dE/dx, which flips the middle terms of u."""
    return kernel_stein(lambda x: -energy(x), x, bandwidths=(H,), kernel="gaussian")


def without_trace(energy, x):
    """Mutant: tr grad grad' k dropped."""
    full = kernel_stein(energy, x, bandwidths=(H,), kernel="gaussian")
    trivial = stein_row_means(x, x, gaussian_kernel, (H,), with_diagonal=False)[1]
    return full - trivial


def with_diagonal(energy, x):
    """Mutant: the pairs of a row with itself taken into the unbiased mean."""
    return kernel_stein(energy, x, bandwidths=(H,), kernel="gaussian", statistic="v")


@pytest.mark.statistical
@pytest.mark.parametrize("mutant", [wrong_sign, without_trace, with_diagonal])
def test_mutants_miss_the_closed_form(mutant):
    assert (deviations(mutant, "gaussian") > 3.9).any()


@pytest.mark.statistical
def test_the_v_statistic_adds_the_diagonal_over_n():
    """E V = (1 - 1/n) J + E u(x, x)/n,   E u(x, x) = tr(PSP) + d/h^2 for the Gaussian kernel."""
    mean, error = loss_and_gradient(with_diagonal, PRECISION)
    own = torch.trace(PRECISION @ COVARIANCE @ PRECISION) + 2 / H**2
    truth = (1 - 1 / BATCH) * closed_form(PRECISION) + own / BATCH
    assert (mean[0] - truth).abs() < 3.9 * error[0]


@pytest.mark.statistical
def test_the_optimum_is_the_precision_of_the_data():
    optimum = torch.linalg.inv(COVARIANCE)
    assert exact("gaussian", optimum).abs().max() < 1e-12

    def loss(energy, x):
        return kernel_stein(energy, x, bandwidths=(H,), kernel="gaussian")

    mean, error = loss_and_gradient(loss, optimum)
    assert (mean.abs() < 3.9 * error).all()
    away, error = loss_and_gradient(loss, 1.3 * optimum)
    assert (away.abs() > 3.9 * error).any()


def test_several_bandwidths_are_averaged():
    x, energy = gaussian_rows(50, seed=1), Quadratic(PRECISION)
    both, first, second = (
        kernel_stein(energy, x, bandwidths=lengths) for lengths in ((0.3, 2.0), (0.3,), (2.0,))
    )
    assert torch.allclose(both, (first + second) / 2, atol=1e-12)


def test_the_loss_is_the_pure_function_and_relative_to_the_score_zero():
    x, generator = gaussian_rows(64, seed=1), torch.Generator().manual_seed(0)
    objective = KernelStein()
    state = objective.init(gaussian_rows(300, seed=2), generator)
    flat = Quadratic(torch.zeros(2, 2).double())
    loss = objective(flat, x, state, generator)
    assert float(loss.value.detach()) == pytest.approx(float(loss.terms["trivial"]))
    loss = objective(Quadratic(PRECISION), x, state, generator)
    rows = kernel_stein(
        Quadratic(PRECISION), x, bandwidths=state.bandwidths, kernel=objective.kernel
    )
    assert float(loss.value.detach()) == pytest.approx(float(rows.mean().detach()))
    assert set(loss.terms) <= set(objective.meanings)


def test_images_are_rows_and_where_they_lie_does_not_matter():
    x = gaussian_rows(20, seed=1)
    flat = kernel_stein(lambda x: x.flatten(1).square().sum(1), x, bandwidths=(H,))
    image = x.reshape(20, 1, 2, 1)
    same = kernel_stein(lambda x: x.flatten(1).square().sum(1), image, bandwidths=(H,))
    assert torch.equal(flat, same)
    far = kernel_stein(lambda x: (x - 100).square().sum(1), x + 100, bandwidths=(H,))
    assert torch.allclose(flat, far, atol=1e-9)


@pytest.mark.parametrize(("bandwidth", "share"), [("median", 0.5), ("auto", 0.02)])
def test_the_bandwidth_is_a_quantile_of_the_distances_and_explained(bandwidth, share):
    rows = gaussian_rows(500, seed=3)
    objective = KernelStein(bandwidth=bandwidth, multiples=(0.5, 2.0))
    state = objective.init(rows, torch.Generator().manual_seed(0))
    small, large = state.bandwidths
    assert large == pytest.approx(4 * small)
    found = float((torch.pdist(rows) <= 2 * small).double().mean())
    assert found == pytest.approx(share, abs=1e-4)
    assert f"{share:.0%}" in objective.explain(state)
    assert "weights" in objective.blindness(state)


def test_a_given_bandwidth_is_used_as_it_is():
    objective = KernelStein(bandwidth=0.3)
    state = objective.init(gaussian_rows(10, seed=0), torch.Generator())
    assert state == ((0.3,), "")
    assert objective.noise_level(state) is None


def test_it_trains():
    run = basin.fit(
        basin.energies.MLP(2, hidden=(16,)),
        basin.datasets.StandardGaussian(2),
        KernelStein(bandwidth="median"),
        num_steps=60,
        batch_size=64,
        learning_rate=0.03,
        warmup_steps=0,
        evaluate_every=30,
    )
    losses = [record["relative_loss"] for record in run.history]
    assert losses[-1] < 0.5 * losses[0]


def test_bad_arguments_are_named():
    x, energy = gaussian_rows(10, seed=0), Quadratic(PRECISION)
    with pytest.raises(ValueError, match="kernel must be one of"):
        KernelStein(kernel="rbf")
    with pytest.raises(ValueError, match="statistic must be one of"):
        KernelStein(statistic="w")
    with pytest.raises(
        ValueError, match="bandwidth must be positive or one of median, auto, got 'mean'"
    ):
        KernelStein(bandwidth="mean")
    with pytest.raises(ValueError, match="bandwidth must be positive"):
        KernelStein(bandwidth=0.0)
    with pytest.raises(ValueError, match="multiples must name at least one"):
        KernelStein(multiples=())
    with pytest.raises(ValueError, match="two rows or more for the U-statistic, got 1"):
        kernel_stein(energy, x[:1], bandwidths=(1.0,))
