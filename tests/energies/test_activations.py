"""Each slope is the derivative of its value, and so is each curvature that autograd makes of it."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from basin.energies.networks.activations import ACTIVATIONS, activation_named

REFERENCE = {
    "silu": functional.silu,
    "softplus": functional.softplus,
    "gelu": functional.gelu,
    "tanh": torch.tanh,
    "relu": torch.relu,
}


@pytest.fixture
def a():
    return torch.linspace(-9, 9, 301, dtype=torch.float64)


def slope_by_autograd(function, a, create_graph=False):
    leaf = a.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(function(leaf).sum(), leaf, create_graph=create_graph)
    return (slope, leaf) if create_graph else slope


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_value_and_slope(name, a):
    activation = activation_named(name)
    value, slope = activation.value_and_slope(a)
    torch.testing.assert_close(value, REFERENCE[name](a), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(activation.value(a), value, rtol=1e-12, atol=1e-12)
    expected = slope_by_autograd(REFERENCE[name], a)
    torch.testing.assert_close(slope, expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(activation.slope(a), slope)
    with pytest.raises(AssertionError):  # the mutant: the slope half a unit away
        torch.testing.assert_close(activation.slope(a + 0.5), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [n for n, f in ACTIVATIONS.items() if f.is_smooth])
def test_curvature_flows_through_the_slope(name, a):
    found = slope_by_autograd(activation_named(name).slope, a)
    slope, leaf = slope_by_autograd(REFERENCE[name], a, create_graph=True)
    (expected,) = torch.autograd.grad(slope.sum(), leaf)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    value, slope, curvature = activation_named(name).jet(a)
    assert torch.equal(value, activation_named(name).value_and_slope(a)[0])
    assert torch.equal(slope, activation_named(name).slope(a))
    torch.testing.assert_close(curvature, expected, rtol=1e-10, atol=1e-10)
    with pytest.raises(AssertionError):  # the mutant: half the curvature
        torch.testing.assert_close(curvature / 2, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_far_out_nothing_overflows(name):
    far = torch.tensor([-1e4, -100.0, 100.0, 1e4])
    for result in activation_named(name).jet(far):
        assert bool(torch.isfinite(result).all())


def test_relu_is_not_smooth():
    assert [name for name, f in ACTIVATIONS.items() if not f.is_smooth] == ["relu"]


def test_an_unknown_one_is_named():
    with pytest.raises(ValueError, match="activation must be one of silu, softplus, gelu, tanh, r"):
        activation_named("swish")
