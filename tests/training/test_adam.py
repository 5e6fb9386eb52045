"""Adam with explicit state takes the steps of ``torch.optim.Adam``, to the bit."""

from __future__ import annotations

import pytest
import torch

from basin.training.adam import Adam, adam_update, clipped


def parameters(seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(4, 3), (4,), (1, 4)]
    return [torch.nn.Parameter(torch.randn(s, generator=generator)) for s in shapes]


def gradients(parameters, step):
    generator = torch.Generator().manual_seed(100 + step)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def run(num_steps, betas=(0.9, 0.99)):
    mine = parameters()
    optimizer = Adam(mine, betas)
    for step in range(num_steps):
        gradients(mine, step)
        optimizer.step(0.01 * (step + 1))
    return mine, optimizer


def test_steps_are_those_of_torch():
    theirs = parameters()
    reference = torch.optim.Adam(theirs, betas=(0.9, 0.99), fused=True)
    for step in range(5):
        gradients(theirs, step)
        reference.param_groups[0]["lr"] = 0.01 * (step + 1)
        reference.step()
    mine, _ = run(5)
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
    mutant, _ = run(5, betas=(0.9, 0.999))
    assert not all(torch.equal(a, b) for a, b in zip(mutant, theirs, strict=True))


def test_a_restored_optimiser_goes_on_to_the_same_bits():
    whole, _ = run(5)
    part, saved = run(3)
    tensors = {name: value.clone() for name, value in saved.tensors().items()}
    again = Adam(part, (0.9, 0.99))
    again.restore(tensors)
    for step in (3, 4):
        gradients(part, step)
        again.step(0.01 * (step + 1))
    assert all(torch.equal(a, b) for a, b in zip(part, whole, strict=True))


def test_the_gradient_is_clipped_to_its_norm():
    mine = parameters()
    gradients(mine, 0)
    before = torch.cat([p.grad.flatten() for p in mine])
    optimizer = Adam(mine, (0.9, 0.99))
    assert optimizer.clip_gradient(None) == pytest.approx(float(before.norm()))
    assert optimizer.clip_gradient(0.5) == pytest.approx(float(before.norm()))
    after = torch.cat([p.grad.flatten() for p in mine])
    assert torch.allclose(after, before * 0.5 / before.norm())
    assert optimizer.clip_gradient(0.6) == pytest.approx(0.5)


def test_a_parameter_without_gradient_is_left_alone():
    mine = parameters()
    gradients(mine, 0)
    mine[1].grad = None
    before = mine[1].detach().clone()
    Adam(mine, (0.9, 0.99)).step(0.1)
    assert torch.equal(mine[1], before)


def test_a_gradient_that_lies_otherwise_in_memory_is_the_same_gradient():
    """The fused kernel never looks at strides: without care, a transposed one moved other weights
    (seen when a compiled graph returned it)."""
    mine, turned = parameters(), parameters()
    for weights in (mine, turned):
        gradients(weights, 0)
    turned[0].grad = turned[0].grad.t().contiguous().t()
    assert turned[0].grad.stride() != turned[0].stride()
    for weights in (mine, turned):
        Adam(weights, (0.9, 0.99)).step(0.1)
    assert all(torch.equal(a, b) for a, b in zip(mine, turned, strict=True))


def by_formula(num_steps, betas=(0.9, 0.99), *, count_of=lambda step: step + 1.0):
    """The weights after steps of :func:`adam_update`, as :func:`run` takes them."""
    weights = parameters()
    state = [(w.detach(), torch.zeros_like(w), torch.zeros_like(w)) for w in weights]
    for step in range(num_steps):
        gradients(weights, step)
        numbers = torch.tensor(count_of(step)), torch.tensor(0.01 * (step + 1)), betas
        pairs = zip(state, weights, strict=True)
        state = [adam_update(x, w.grad, m, v, *numbers) for (x, m, v), w in pairs]
    return [w for w, _, _ in state]


def test_the_formula_takes_the_steps_of_the_kernel():
    expected, _ = run(5)
    for found, weight in zip(by_formula(5), expected, strict=True):
        torch.testing.assert_close(found, weight.detach(), rtol=1e-6, atol=1e-7)
    mutant = by_formula(5, count_of=lambda step: step + 2.0)
    pairs = zip(mutant, expected, strict=True)
    assert not any(torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in pairs)


def test_the_formula_is_as_exact_as_its_numbers():
    """In float64 to sixteen digits, whose count of steps is float32."""
    weight = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer, zero = Adam([weight], (0.9, 0.999)), torch.zeros(3, dtype=torch.float64)
    found = weight.detach().clone(), zero, zero
    for step in range(1, 6):
        weight.grad = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64) / step
        optimizer.step(0.01)
        rate = torch.tensor(0.01, dtype=torch.float64)
        found = adam_update(
            found[0], weight.grad, *found[1:], torch.tensor(float(step)), rate, (0.9, 0.999)
        )
    torch.testing.assert_close(found[0], weight.detach(), rtol=1e-14, atol=0)


@pytest.mark.parametrize("betas", [(0.0, 0.999), (0.9, 0.9999)])
def test_the_first_step_is_the_rate_to_the_last_digits(betas):
    """``1 - b2`` in float32 has three digits left where b2 is nearly one, taken as a difference."""
    zero, one, rate = torch.zeros(1), torch.tensor(1.0), torch.tensor(0.125)
    weight, _, _ = adam_update(zero, torch.ones(1), zero, zero, one, rate, betas)
    assert float(weight) == pytest.approx(-0.125, rel=1e-6)


@pytest.mark.parametrize("limit", [0.5, 1e9, float("inf")])
def test_the_formula_clips_as_the_optimiser_does(limit):
    mine = parameters()
    gradients(mine, 0)
    found, norm = clipped([p.grad for p in mine], torch.tensor(limit))
    assert float(norm) == pytest.approx(Adam(mine, (0.9, 0.99)).clip_gradient(limit), rel=1e-6)
    for gradient, parameter in zip(found, mine, strict=True):
        torch.testing.assert_close(gradient, parameter.grad)


def test_no_gradient_has_norm_zero():
    assert clipped([], torch.tensor(1.0)) == ([], torch.tensor(0.0))
