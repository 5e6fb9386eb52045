"""Warm-up finds the target acceptance, then the kernel is frozen."""

from __future__ import annotations

import pytest
import torch

from basin.samplers.langevin import Langevin
from basin.samplers.mala import MALA
from basin.sampling.adapt import StepSizeAdaptation, is_adaptable
from basin.sampling.run import sample
from helpers.energies import AsymmetricMixture, DiagonalGaussian
from helpers.statistics import assert_same_law, normal_cdf

BADLY_SCALED = DiagonalGaussian([1.0, 100.0, 10_000.0])


@pytest.mark.parametrize("start", [1e-6, 0.1, 10.0])
@pytest.mark.parametrize("target", [0.574, 0.8])
def test_reaches_the_target_acceptance_on_a_badly_scaled_gaussian(start, target, generator):
    x0 = torch.randn(200, 3, generator=generator)
    kernel = MALA(start, target)
    chains = sample(BADLY_SCALED, kernel, x0, num_steps=200, num_warmup=300)
    assert chains.acceptance_rate == pytest.approx(target, abs=0.05)
    assert chains.kernel.step_size != start
    assert kernel == MALA(start, target)  # the caller's kernel is as it was
    assert chains.kernel.target_acceptance == target


def test_reaches_it_with_one_chain():
    chains = sample(
        DiagonalGaussian([1.0, 100.0]), MALA(1.0), torch.zeros(1, 2), num_steps=2000, num_warmup=500
    )
    assert chains.acceptance_rate == pytest.approx(0.574, abs=0.08)


def test_without_warm_up_the_kernel_is_used_as_it_is():
    kernel = MALA(0.3)
    chains = sample(AsymmetricMixture(), kernel, torch.zeros(5, 2), num_steps=10)
    assert chains.kernel == kernel


def test_the_step_is_frozen_after_warm_up():
    """Going on by hand with the reported kernel gives the same draws: nothing adapts any more."""
    x0 = torch.zeros(20, 3)
    generator = torch.Generator().manual_seed(4)
    warm = sample(BADLY_SCALED, MALA(), x0, num_steps=1, num_warmup=50, seed=generator)
    after = sample(BADLY_SCALED, warm.kernel, warm.last, num_steps=10, seed=generator)
    whole = sample(BADLY_SCALED, MALA(), x0, num_steps=11, num_warmup=50, seed=4)
    assert whole.kernel == warm.kernel
    assert torch.allclose(whole.positions[:, 1:], after.positions, atol=1e-6)


@pytest.mark.statistical
def test_exact_start_after_adaptation(generator):
    scale = BADLY_SCALED.precision.rsqrt().float()
    x0 = scale * torch.randn(20_000, 3, generator=generator)
    chains = sample(BADLY_SCALED, MALA(), x0, num_steps=10, num_warmup=30, keep="last")
    for i in range(3):
        assert_same_law(chains.last[:, i], normal_cdf(0.0, float(scale[i])))


def test_a_kernel_without_target_only_burns_in():
    assert is_adaptable(MALA())
    assert not is_adaptable(Langevin())
    energy, x0 = DiagonalGaussian([1.0]), torch.full((500, 1), 20.0)
    chains = sample(energy, Langevin(0.1), x0, num_steps=1, num_warmup=100)
    assert chains.kernel == Langevin(0.1)
    assert abs(float(chains.last.mean())) < 0.3


def test_the_rule_is_pure():
    adaptation, kernel = StepSizeAdaptation(0.574), MALA(0.1)
    state = adaptation.init(kernel)
    info = type("Info", (), {"acceptance_probability": torch.tensor([0.9, 0.7])})
    first, second = (adaptation.update(kernel, state, info) for _ in range(2))
    assert first == second
    assert first[0].step_size > 0.1
