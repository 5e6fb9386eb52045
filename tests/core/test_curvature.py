"""Score, curvatures and Hessian diagonals against a quartic whose Hessian is known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import basin
from basin.core import curvature
from basin.core.curvature import score_and_curvatures, score_and_hessian_diagonal
from basin.core.gradients import hessian_vector_product, score


def quartic(x):
    """Hessian diag(3 x_i^2) + 1 everywhere: sum x^4/4 + (sum x)^2/2."""
    return 0.25 * x.flatten(1).pow(4).sum(1) + 0.5 * x.flatten(1).sum(1).square()


def quartic_hessian(x):
    return torch.diag_embed(3 * x.flatten(1).square()) + 1


@pytest.fixture
def x(generator):
    return torch.randn(6, 3, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("num_directions", [1, 3, 4, 9])  # one by one, and batched
def test_curvatures_are_quadratic_forms_of_the_hessian(x, num_directions, generator):
    v = torch.randn(num_directions, *x.shape, generator=generator, dtype=x.dtype)
    s, curvatures = score_and_curvatures(quartic, x, v)
    expected = torch.einsum("kbi,bij,kbj->kb", v, quartic_hessian(x), v)
    torch.testing.assert_close(curvatures, expected)
    torch.testing.assert_close(s, score(quartic, x))


@pytest.mark.parametrize("dimension", [1, 3, 8])
def test_diagonal_of_the_hessian(dimension, generator):
    x = torch.randn(6, dimension, generator=generator, dtype=torch.float64)
    _, diagonal = score_and_hessian_diagonal(quartic, x)
    torch.testing.assert_close(diagonal, quartic_hessian(x).diagonal(dim1=1, dim2=2))
    with pytest.raises(AssertionError):  # the mutant: the sign of the score's derivative
        torch.testing.assert_close(-diagonal, quartic_hessian(x).diagonal(dim1=1, dim2=2))


def test_events_of_any_shape_give_results_of_that_shape(generator):
    x = torch.randn(4, 1, 3, 2, generator=generator, dtype=torch.float64)
    s, diagonal = score_and_hessian_diagonal(quartic, x)
    assert s.shape == diagonal.shape == x.shape
    expected = quartic_hessian(x).diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(diagonal.flatten(1), expected)


@pytest.mark.parametrize("dimension", [2, 6])
def test_parameters_get_the_gradient_of_the_closed_form_score(dimension, generator):
    """The graph goes through the energy, the closed-form score is another road to the same."""
    energy = basin.energies.MLP(dimension, hidden=(5,)).double()
    x = torch.randn(7, dimension, generator=generator, dtype=torch.float64)
    s, diagonal = score_and_hessian_diagonal(energy, x)
    found = torch.autograd.grad(s.square().sum() + diagonal.sum(), list(energy.parameters()))
    value = score(energy, x, create_graph=True).square().sum()
    for i in range(dimension):
        unit = torch.zeros_like(x)
        unit[:, i] = 1
        value = value + hessian_vector_product(energy, x, unit, create_graph=True)[:, i].sum()
    for a, b in zip(found, torch.autograd.grad(value, list(energy.parameters())), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_works_in_any_mode_and_leaves_no_trace(x, mode):
    with mode():
        _, diagonal = score_and_hessian_diagonal(quartic, x)
    torch.testing.assert_close(diagonal.detach(), quartic_hessian(x).diagonal(dim1=1, dim2=2))
    leaf = x.clone().requires_grad_(True)
    s, _ = score_and_hessian_diagonal(quartic, leaf)
    assert leaf.grad is None
    assert not s.requires_grad or torch.autograd.grad(s.sum(), leaf, allow_unused=True)[0] is None


@pytest.mark.parametrize("dimension", [2, 6])
def test_a_linear_energy_has_no_curvature(dimension, generator):
    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.slope = nn.Parameter(torch.ones(dimension))

        def forward(self, x):
            return x @ self.slope

    x = torch.randn(4, dimension, generator=generator)
    s, diagonal = score_and_hessian_diagonal(Linear(), x)
    assert torch.equal(s, -torch.ones_like(x))
    assert torch.equal(diagonal, torch.zeros_like(x))


def test_what_cannot_be_batched_is_done_one_by_one(x, monkeypatch):
    """The same numbers, where torch has no batched form of an operation."""
    real = torch.autograd.grad

    def grad(*arguments, is_grads_batched=False, **options):
        if is_grads_batched:
            raise RuntimeError("vmap: cannot do this")
        return real(*arguments, **options)

    v = torch.ones(6, *x.shape, dtype=x.dtype)
    _, batched = score_and_curvatures(quartic, x, v)
    monkeypatch.setattr(curvature.torch.autograd, "grad", grad)
    _, one_by_one = score_and_curvatures(quartic, x, v)
    torch.testing.assert_close(batched, one_by_one)


def test_blocks_of_products_are_put_together_in_order(monkeypatch, generator):
    """Nine unit vectors in blocks of four, four and one."""
    x = torch.randn(6, 9, generator=generator, dtype=torch.float64)
    monkeypatch.setattr(curvature, "_BLOCK_ROWS", 24)
    _, diagonal = score_and_hessian_diagonal(quartic, x)
    torch.testing.assert_close(diagonal, quartic_hessian(x).diagonal(dim1=1, dim2=2))
