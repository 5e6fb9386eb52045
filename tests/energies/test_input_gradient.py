"""The hand-written backward pass against autograd, to the second order."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from basin.energies import ACTIVATIONS, MLP
from basin.energies.networks.input_gradient import (
    hidden_backward,
    hidden_forward,
    input_gradient,
)

SMOOTH = [name for name, f in ACTIVATIONS.items() if f.is_smooth]


def network(hidden, activation):
    return MLP(3, hidden=hidden, activation=activation).double()


def by_hand(energy, x):
    return input_gradient(x, energy.layers, energy.output.weight, energy._activation)


def by_autograd(energy, x):
    leaf = x if x.requires_grad else x.clone().requires_grad_(True)
    return torch.autograd.grad(energy(leaf).sum(), leaf, create_graph=True)[0]


@pytest.fixture
def x(generator):
    return torch.randn(6, 3, generator=generator, dtype=torch.float64)


@pytest.fixture
def probe(generator):
    return torch.randn(6, 3, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize("hidden", [(5,), (5, 4), (4, 6, 5)])
@pytest.mark.parametrize("wants_x", [False, True])
def test_first_and_second_order(activation, hidden, wants_x, x, probe):
    energy = network(hidden, activation)
    x.requires_grad_(wants_x)
    inputs = [*energy.parameters(), *([x] if wants_x else [])]

    def orders(gradient):
        loss = (gradient * probe).sin().sum()
        first = torch.autograd.grad(loss, inputs, create_graph=True)
        total = sum(g.square().sum() for g in first)
        return [gradient, *first, *torch.autograd.grad(total, inputs)]

    found, expected = orders(by_hand(energy, x)), orders(by_autograd(energy, x))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("hidden", [(5,), (5, 4), (4, 6, 5)])
def test_plain_and_hand_written_agree_in_every_mode(hidden, x, probe):
    energy = network(hidden, "silu")
    parameters = list(energy.parameters())
    hand = by_hand(energy, x)
    _, slopes = hidden_forward(x, energy.layers, energy._activation)
    plain = hidden_backward(energy.output.weight, energy.layers, slopes)
    for one, other in zip(
        torch.autograd.grad((hand * probe).sum(), parameters),
        torch.autograd.grad((plain * probe).sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(one, other)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert torch.equal(by_hand(energy, x.clone()), hand)


def test_frozen_weights_and_a_retained_graph(x, probe):
    energy = network((5, 4), "silu")
    energy.layers[0].requires_grad_(False)
    loss = (by_hand(energy, x) * probe).sum()
    loss.backward(retain_graph=True)
    once = energy.output.weight.grad.clone()
    loss.backward()
    torch.testing.assert_close(energy.output.weight.grad, 2 * once)
    assert energy.layers[0].weight.grad is None


def test_weights_changed_in_between_are_noticed(x, probe):
    energy = network((5, 4), "silu")
    loss = (by_hand(energy, x) * probe).sum()
    with torch.no_grad():
        energy.layers[1].weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("broken", ["slope", "curvature"])
def test_mutants_fail(broken, x, probe):
    energy = network((5, 4), "silu")
    parameters = list(energy.parameters())
    expected = torch.autograd.grad((by_autograd(energy, x) * probe).sum(), parameters)
    jet = energy._activation.jet

    def mutant(a):
        value, slope, curvature = jet(a)
        return (value, slope + 0.01, curvature) if broken == "slope" else (value, slope, -curvature)

    energy._activation = dataclasses.replace(energy._activation, jet=mutant)
    found = torch.autograd.grad((by_hand(energy, x) * probe).sum(), parameters)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(found, expected)


def test_mixed_precision_takes_the_plain_way(x):
    energy = MLP(3, hidden=(8, 8))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        score = energy.score(x.float())
    score.float().square().sum().backward()
    assert energy.output.weight.grad is not None
