"""Improved contrastive divergence against its closed forms on Gaussians.

E(x) = L x^2 / 2, x' ~ N(0, v) one step before the end, a = 1 - epsilon L:
    q = N(0, w), w = a^2 v + 2 epsilon,   KL(q || exp(-E*)/Z) = L* w / 2 - log(w) / 2 + const
    dKL/dL = (L* / 2 - 1 / 2w) dw/dL,     dw/dL = -2 epsilon a v       (L* = L held fixed)
    Hinton's KL(p || p_L) - KL(q || p_L) has the derivative (V - w) / 2 - dKL/dL; the paper's loss
    the gradient (V - w) / 2 + dKL/dL.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import basin
from basin.core.conditions import Given
from basin.core.describe import build, describe
from basin.objectives.improved_contrastive_divergence import (
    ImprovedContrastiveDivergence,
    neighbour_entropy,
    sampler_divergence,
)
from basin.samplers import MALA, Langevin

PRECISION, STEP, BEFORE = 2.0, 0.1, 3.0
FACTOR = 1 - STEP * PRECISION
AFTER = FACTOR**2 * BEFORE + 2 * STEP
SLOPE = -2 * STEP * FACTOR * BEFORE  # dw/dL
TRUTH = (PRECISION / 2 - 1 / (2 * AFTER)) * SLOPE


class Parabola(nn.Module):
    """E(x) = L x^2 / 2."""

    def __init__(self, precision=PRECISION):
        super().__init__()
        self.precision = nn.Parameter(torch.tensor(float(precision), dtype=torch.float64))

    def forward(self, x):
        return 0.5 * self.precision * x.square().sum(1)


def normal(n, dim, seed, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n, dim, generator=generator, dtype=torch.float64)


def after_one_step(energy, before, seed):
    noise = normal(len(before), before.shape[1], seed)
    return (1 - STEP * energy.precision) * before + math.sqrt(2 * STEP) * noise


# --- the KL term ---------------------------------------------------------------------------------


def through_the_energy_too(energy, x, others):
    """Mutant: the parameters of E are not held fixed."""
    return energy(x) - neighbour_entropy(x, others)


def without_the_entropy(energy, x, others):
    return sampler_divergence(energy, x, others) + neighbour_entropy(x, others)


def other_sign(energy, x, others):
    """Mutant: Hinton's derivative to the letter."""
    return -sampler_divergence(energy, x, others)


def deviation(function, num_batches=40, batch=500):
    """Of the mean gradient from the closed form, in standard errors."""
    energy = Parabola()
    gradients = []
    for index in range(num_batches):
        x = after_one_step(energy, normal(batch, 1, 3 * index, BEFORE**0.5), 3 * index + 1)
        others = normal(batch, 1, 3 * index + 2, AFTER**0.5)
        value = function(energy, x, others).mean()
        gradients.append(torch.autograd.grad(value, energy.precision)[0])
    values = torch.stack(gradients)
    return float((values.mean() - TRUTH).abs() / (values.std() / num_batches**0.5))


@pytest.mark.statistical
def test_the_gradient_through_the_sampler_is_that_of_the_kl_divergence():
    assert deviation(sampler_divergence) < 3.9


@pytest.mark.statistical
@pytest.mark.parametrize("mutant", [through_the_energy_too, without_the_entropy, other_sign])
def test_mutants_miss_it(mutant):
    assert deviation(mutant) > 3.9


@pytest.mark.statistical
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_the_value_is_kl_less_log_z(dim):
    """For q = N(0, w) and L: L d w / 2 - d log(2 pi e w) / 2."""
    w, n = 0.6, 3000
    value = sampler_divergence(
        Parabola(), normal(n, dim, 0, w**0.5), normal(n, dim, 1, w**0.5)
    ).detach()
    truth = dim * (PRECISION * w / 2 - 0.5 * math.log(2 * math.pi * math.e * w))
    # Neighbours at a distance bias the estimate upwards, at a rate n^(-2/d): little up to five.
    assert float(value.mean()) == pytest.approx(truth, abs=0.04 * dim)


def test_the_entropy_scales_with_the_dimension():
    """H(c x) = H(x) + d log c: the paper's estimate without its d misses this."""
    x, others = normal(500, 3, 0), normal(500, 3, 1)
    shift = neighbour_entropy(10 * x, 10 * others) - neighbour_entropy(x, others)
    assert torch.allclose(shift, torch.full_like(shift, 3 * math.log(10)))


def test_few_others_and_a_chain_on_top_of_one_stay_finite():
    x = normal(5, 2, 0).requires_grad_(True)
    for others in (x.detach()[:1], x.detach()):
        entropy = neighbour_entropy(x, others)
        assert entropy.isfinite().all()
        (gradient,) = torch.autograd.grad(entropy.sum(), x)
        assert gradient.isfinite().all()


# --- the objective -------------------------------------------------------------------------------


def objective_of(**changes):
    settings = dict(kernel=Langevin(STEP), num_steps=1, augmentation=0.0, sigma=0.0)
    settings |= dict(num_chains=1000, buffer_size=2000, reinitialise=1.0, width=1.0)
    settings |= dict(restart_at_data=0.0, energy_l2=0.0)
    return ImprovedContrastiveDivergence(**(settings | changes))


def mean_gradient(objective, num_calls=80):
    """New starts N(0, v) at every call and one step: q and v are known."""
    generator = torch.Generator().manual_seed(100_000)
    first = normal(2000, 1, 1, BEFORE**0.5)
    first = (first - first.mean()) * (BEFORE / first.var(correction=0)).sqrt()
    state, energy = objective.init(first, generator), Parabola()
    # The other chains are draws of q, as they would be after a visit.
    state = state._replace(buffer=normal(2000, 1, 2, AFTER**0.5))
    gradients = []
    for index in range(num_calls):
        loss = objective(energy, normal(1000, 1, 10 + index), state, generator)
        gradients.append(torch.autograd.grad(loss.value, energy.precision)[0])
    values = torch.stack(gradients)
    return float(values.mean()), float(values.std() / num_calls**0.5)


@pytest.mark.statistical
@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_whole_gradient_is_contrast_plus_weight_times_kl(weight):
    mean, error = mean_gradient(objective_of(kl_weight=weight))
    truth = (1 - AFTER) / 2 + weight * TRUTH
    assert abs(mean - truth) < 3.9 * error
    assert abs(mean - ((1 - AFTER) / 2 + (1 - weight) * TRUTH)) > 3.9 * error


def test_all_steps_may_be_differentiated_through():
    energy, generator = Parabola(), torch.Generator().manual_seed(0)
    for num in (1, 4):
        objective = objective_of(num_steps=4, num_differentiated=num, num_chains=8)
        state = objective.init(normal(50, 1, 0), generator)
        loss = objective(energy, normal(10, 1, 1), state, generator)
        loss.value.backward()
        assert energy.precision.grad.isfinite()
        assert not loss.state.buffer.requires_grad


def test_an_augmentation_of_ones_own_moves_the_chains_before_the_steps():
    objective = objective_of(augmentation=lambda x, generator: x + 100, num_chains=8)
    generator = torch.Generator().manual_seed(0)
    state = objective.init(normal(50, 1, 0), generator)
    after = objective(Parabola(), normal(10, 1, 1), state, generator).state.buffer
    assert int((after > 50).sum()) == 8


def test_the_old_state_stays_and_a_batch_of_one_is_enough():
    objective = ImprovedContrastiveDivergence(buffer_size=2)
    generator = torch.Generator().manual_seed(0)
    state = objective.init(normal(50, 2, 0), generator)
    before = state.buffer.clone()
    loss = objective(Parabola(), normal(1, 2, 1), state, generator)
    assert torch.isfinite(loss.value)
    assert torch.equal(state.buffer, before)
    assert int((loss.state.buffer != before).any(1).sum()) == 1


def test_facts_terms_and_description():
    objective = ImprovedContrastiveDivergence()
    generator = torch.Generator().manual_seed(0)
    state = objective.init(normal(50, 2, 0), generator)
    loss = objective(Parabola(), normal(20, 2, 1), state, generator)
    assert set(loss.terms) == set(objective.meanings)
    assert objective.alarm({name: float(term) for name, term in loss.terms.items()}) == ""
    assert "far mode" in objective.blindness(state)
    assert objective.calmer().kernel.step_size == objective.kernel.step_size / 2
    assert build(describe(objective), [basin.objectives, basin.samplers]) == objective


def test_conditions_are_refused():
    objective, generator = objective_of(), torch.Generator().manual_seed(0)
    energy = Given(lambda x, c: x.sum(1), torch.zeros(10))
    with pytest.raises(ValueError, match="without conditions"):
        objective(energy, normal(10, 1, 0), objective.init(normal(9, 1, 0), generator), generator)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kernel": MALA(0.1)}, "kernel must be Langevin"),
        ({"num_steps": 2, "num_differentiated": 3}, "at most num_steps = 2, got 3"),
        ({"num_differentiated": 0}, "num_differentiated must be"),
        ({"kl_weight": -1.0}, "kl_weight must be"),
        ({"augmentation": -0.1}, "augmentation must be"),
        ({"buffer_size": 1}, "at least 2"),
        ({"reinitialise": -0.1}, "reinitialise must lie"),
        ({"width": 0.0}, "width must be"),
    ],
)
def test_bad_settings_are_named(settings, words):
    with pytest.raises(ValueError, match=words):
        ImprovedContrastiveDivergence(**settings)
