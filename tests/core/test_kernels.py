"""Kernels against autograd's derivatives, and the Stein kernel against its definition."""

from __future__ import annotations

import pytest
import torch

from basin.core.kernels import (
    RADIAL_KERNELS,
    distance_quantile,
    gaussian_kernel,
    radial_mean,
    squared_distances,
    stein_kernel,
    stein_row_means,
)

BANDWIDTHS = (0.7, 2.0)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(params=RADIAL_KERNELS, ids=str)
def kernel(request):
    return RADIAL_KERNELS[request.param]


def test_slope_and_curvature_are_the_derivatives(kernel):
    squared = torch.linspace(0, 9, 7, dtype=torch.float64).requires_grad_(True)
    phi = radial_mean(kernel, squared, BANDWIDTHS)
    (slope,) = torch.autograd.grad(phi.value.sum(), squared, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), squared)
    assert torch.allclose(phi.slope, slope, atol=1e-14)
    assert torch.allclose(phi.curvature, curvature, atol=1e-14)


def by_definition(x, score_x, y, score_y, kernel, sign=1):
    """u(x, y) with every derivative of k by autograd, for one pair; ``sign`` -1 is a mutant."""
    x, y = x.clone().requires_grad_(True), y.clone().requires_grad_(True)
    k = radial_mean(kernel, (x - y).square().sum(), BANDWIDTHS).value
    in_x, in_y = torch.autograd.grad(k, (x, y), create_graph=True)
    trace = sum(torch.autograd.grad(in_x[i], y, retain_graph=True)[0][i] for i in range(len(x)))
    value = score_x @ score_y * k + sign * (score_x @ in_y + score_y @ in_x) + trace
    return float(value.detach())


def test_the_stein_kernel_is_its_definition(kernel):
    x, y, score_x, score_y = (normal(4, 3, seed=seed) for seed in range(4))
    found = stein_kernel(x, score_x, y, score_y, kernel, BANDWIDTHS)
    for i in range(4):
        for j in range(4):
            pair = x[i], score_x[i], y[j], score_y[j], kernel
            assert float(found[i, j]) == pytest.approx(by_definition(*pair), abs=1e-12)
            assert float(found[i, j]) != pytest.approx(by_definition(*pair, sign=-1), abs=1e-3)


@pytest.mark.statistical
def test_its_mean_is_zero_under_the_density_of_the_score(kernel):
    """E_p u(x, y) = 0 for each y; not so for another density's score."""
    x, y = normal(200_000, 2), normal(3, 2, seed=1)
    for factor, is_right in ((1.0, True), (0.8, False)):
        u = stein_kernel(x, -factor * x, y, -factor * y, kernel, BANDWIDTHS)
        deviation = u.mean(0).abs() / (u.std(0) / len(x) ** 0.5)
        assert bool((deviation < 3.9).all()) == is_right


@pytest.mark.parametrize("with_diagonal", [False, True])
def test_row_means_are_those_of_the_matrix_with_their_gradient(kernel, with_diagonal):
    x, score = normal(300, 3), normal(300, 3, seed=1).requires_grad_(True)
    matrix = stein_kernel(x, score, x, score, kernel, BANDWIDTHS)
    zero = torch.zeros_like(x)
    of_zero = stein_kernel(x, zero, x, zero, kernel, BANDWIDTHS)
    if with_diagonal:
        truth, trivial = matrix.mean(1), of_zero.mean(1)
    else:
        truth = (matrix.sum(1) - matrix.diagonal()) / 299
        trivial = (of_zero.sum(1) - of_zero.diagonal()) / 299
    found = stein_row_means(x, score, kernel, BANDWIDTHS, with_diagonal=with_diagonal)
    assert torch.allclose(found[0], truth, atol=1e-12)
    assert torch.allclose(found[1], trivial, atol=1e-12)
    weights = normal(300, seed=2)
    gradients = [torch.autograd.grad(weights @ rows, score)[0] for rows in (found[0], truth)]
    assert torch.allclose(*gradients, atol=1e-12)


def test_the_stein_kernel_is_positive_semidefinite(kernel):
    x, score = normal(60, 2), normal(60, 2, seed=1)
    matrix = stein_kernel(x, score, x, score, kernel, BANDWIDTHS)
    assert torch.linalg.eigvalsh(matrix).min() > -1e-10


def test_distances_and_their_quantiles():
    x, y = normal(30, 4), normal(20, 4, seed=1)
    assert torch.allclose(squared_distances(x, y), torch.cdist(x, y).square(), atol=1e-12)
    generator = torch.Generator().manual_seed(0)
    distances = torch.pdist(x)
    assert distance_quantile(x + 5, generator) == pytest.approx(float(distances.median()))
    tenth = distance_quantile(x, generator, quantile=0.1)
    assert float((distances <= tenth + 1e-12).double().mean()) == pytest.approx(0.1, abs=1 / 400)


def test_a_far_pair_counts_under_heavy_tails_alone():
    far = torch.tensor(1e4)
    assert float(gaussian_kernel(far, 1.0).value) == 0
    assert float(RADIAL_KERNELS["imq"](far, 1.0).value) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("x", [torch.zeros(1, 2), torch.ones(10, 2)])
def test_no_median_without_distances(x):
    with pytest.raises(ValueError, match="median distance"):
        distance_quantile(x, torch.Generator())
