"""Curvatures of an MLP in closed form are those that autograd finds, and so are their gradients."""

from __future__ import annotations

import pytest
import torch

from basin.core.curvature import score_and_curvatures, score_and_hessian_diagonal
from basin.energies import MLP
from basin.energies.networks import input_curvature
from basin.energies.networks.activations import ACTIVATIONS


def without_closed_form(energy):
    """The same energy, of which nothing is known but its values."""
    return lambda x: energy(x)


def made(activation, hidden=(5, 4, 3), dim=3, confinement=0.3):
    energy = MLP(dim, hidden, activation, confinement, seed=1).double()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, dim, generator=generator, dtype=torch.float64)
    v = torch.randn(2, 6, dim, generator=generator, dtype=torch.float64)
    return energy, x, v


@pytest.mark.parametrize("hidden", [(5,), (5, 4), (5, 4, 3)], ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_values_and_gradients_are_those_of_autograd(activation, hidden):
    energy, x, v = made(activation, hidden)
    losses = []
    for asked in (energy, without_closed_form(energy)):
        s, curvatures = score_and_curvatures(asked, x, v)
        losses.append((s, curvatures, s.square().sum() + (curvatures * v.sum(2)).sum()))
    for mine, theirs in zip(*losses, strict=True):
        torch.testing.assert_close(mine, theirs)
    gradients = [
        torch.autograd.grad(loss, list(energy.parameters()), materialize_grads=True)
        for *_, loss in losses
    ]
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_the_diagonal_is_that_of_the_hessian():
    energy, x, _ = made("silu")
    _, diagonal = score_and_hessian_diagonal(energy, x)
    for row, expected in zip(x, diagonal, strict=True):
        hessian = torch.autograd.functional.hessian(lambda y: energy(y[None]).sum(), row)
        torch.testing.assert_close(hessian.diagonal(), expected)


def test_a_mutant_whose_tangents_forget_a_slope_differs(monkeypatch):
    """t_l = W_l t_(l-1), as if the activation below were the identity."""
    energy, x, v = made("softplus")
    _, expected = score_and_curvatures(without_closed_form(energy), x, v)
    jet = energy._activation.jet

    class Flat:
        @staticmethod
        def jet(a):
            value, slope, bend = jet(a)
            return value, torch.ones_like(slope), bend

    gradient_and_curvatures = input_curvature.gradient_and_curvatures
    for activation, is_right in ((energy._activation, True), (Flat, False)):
        _, found = gradient_and_curvatures(x, energy.layers, energy.output.weight, activation, v)
        found = found + energy.confinement * v.square().sum(2)
        assert torch.allclose(found, expected) is is_right


def test_events_keep_their_shape():
    energy = MLP((2, 2), (4,)).double()
    x = torch.randn(5, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = score_and_hessian_diagonal(energy, x)
    assert all(part.shape == x.shape for part in found)
    torch.testing.assert_close(found, score_and_hessian_diagonal(without_closed_form(energy), x))
