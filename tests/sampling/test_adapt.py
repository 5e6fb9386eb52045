"""Warm-up finds the target acceptance, then the kernel is frozen."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from basin.mcmc.metric import DenseMetric, DiagonalMetric, IdentityMetric
from basin.mcmc.metropolis import select
from basin.samplers.hmc import HMC
from basin.samplers.langevin import Langevin
from basin.samplers.mala import MALA
from basin.samplers.nuts import NUTS
from basin.samplers.parallel_tempering import ParallelTempering
from basin.samplers.reflected import Reflected
from basin.sampling import adapt
from basin.sampling.adapt import (
    StepSizeAdaptation,
    adaptable_part,
    first_step_size,
    is_adaptable,
)
from basin.sampling.run import sample
from helpers.energies import AsymmetricMixture, DiagonalGaussian
from helpers.exact_start import TARGETS, exact_start
from helpers.statistics import assert_different_law, assert_same_law, normal_cdf

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


# --- the metric ----------------------------------------------------------------------------------

NUM_CHAINS = 50
COVARIANCE = torch.tensor([[1.0, 1.9, 0.0], [1.9, 4.0, 0.0], [0.0, 0.0, 0.01]])


class Correlated:
    """N(0, COVARIANCE), of condition number 490 and with a correlation of 0.95."""

    precision = torch.linalg.inv(COVARIANCE.double()).float()

    def __call__(self, x):
        return 0.5 * ((x @ self.precision) * x).sum(1)

    def draw(self, n, generator):
        factor = torch.linalg.cholesky(COVARIANCE)
        return torch.randn(n, 3, generator=generator) @ factor.T


def relative_errors(metric):
    """Of the learned metric: how far L' (covariance)^-1 L is from I, the largest eigenvalue."""
    factor = metric.spread(torch.eye(3)).mT.double()
    whitened = factor.mT @ torch.linalg.solve(COVARIANCE.double(), factor)
    return float((torch.linalg.eigvalsh(whitened) - 1).abs().max())


@pytest.mark.parametrize("kernel", [HMC, pytest.param(NUTS, marks=pytest.mark.slow), MALA])
def test_a_dense_metric_finds_the_covariance(kernel, generator):
    """From a start outside the target; the last window's 2,500 draws give it to 20 %."""
    x0 = 5 * torch.randn(NUM_CHAINS, 3, generator=generator)
    kernel = kernel(inverse_mass=DenseMetric())
    chains = sample(Correlated(), kernel, x0, num_steps=50, num_warmup=200, seed=generator)
    assert relative_errors(chains.kernel.inverse_mass) < 0.2
    acceptance = float(chains.info["acceptance_probability"].mean())
    assert acceptance == pytest.approx(kernel.target_acceptance, abs=0.07)
    assert chains.kernel.step_size > 0.3  # in standard deviations: the metric fits
    assert kernel.inverse_mass == DenseMetric()  # the caller's is as it was


def test_a_diagonal_metric_finds_the_variances(generator):
    x0 = Correlated().draw(NUM_CHAINS, generator)
    kernel = HMC(num_leapfrog_steps=5, inverse_mass=DiagonalMetric())
    chains = sample(Correlated(), kernel, x0, num_steps=1, num_warmup=300, seed=generator)
    ratio = chains.kernel.inverse_mass.variances / COVARIANCE.diag()
    assert torch.allclose(ratio, torch.ones(3), atol=0.15)


def test_the_identity_is_kept(generator):
    x0 = Correlated().draw(10, generator)
    kernel = HMC(0.01, inverse_mass=IdentityMetric())
    chains = sample(Correlated(), kernel, x0, num_steps=1, num_warmup=60, seed=generator)
    assert chains.kernel.inverse_mass == IdentityMetric()
    assert chains.kernel.step_size < 0.2  # the smallest standard deviation, 0.1, sets it


def log_scale_energy(u):
    """Of log sigma, given 400 residuals of mean square one: 1e6 times as steep at -4 as at 0."""
    return (400 * u + 200 * (-2 * u).exp()).sum(dim=1)


@pytest.mark.parametrize("kernel", [HMC(num_leapfrog_steps=5), NUTS(), MALA()])
def test_a_few_chains_that_start_far_out_are_not_left_behind(kernel, generator, monkeypatch):
    """Two of twenty, whose rejections a mean over all chains would take for the target's share."""
    x0 = torch.zeros(20, 1, dtype=torch.float64)
    x0[:2] = -4.0

    def is_left_behind():
        options = {"num_steps": 50, "num_warmup": 150, "seed": 3, "on_divergence": "count"}
        return bool((sample(log_scale_energy, kernel, x0, **options).last < -1).any())

    assert not is_left_behind()
    if isinstance(kernel, HMC):  # the mutant
        monkeypatch.setattr(adapt, "_HOPELESS_STEPS", 10**9)
        assert is_left_behind()


@pytest.mark.statistical
def test_exact_start_after_the_metric_was_learned(generator):
    """A kernel that adapted to the draws and was frozen leaves fresh exact draws exact."""
    energy = Correlated()
    x0 = energy.draw(NUM_CHAINS, generator)
    for kernel in (HMC(inverse_mass=DenseMetric()), MALA(inverse_mass=DenseMetric())):
        warm = sample(energy, kernel, x0, num_steps=1, num_warmup=200, seed=generator).kernel
        start = energy.draw(20_000, generator)
        last = sample(energy, warm, start, num_steps=5, seed=generator, keep="last").last
        for i in range(3):
            assert_same_law(last[:, i], normal_cdf(0.0, float(COVARIANCE[i, i].sqrt())))


def test_the_metric_pays(generator):
    """MALA moves ten times as far along the long axis with the metric as without (the mutant)."""
    x0 = Correlated().draw(NUM_CHAINS, generator)
    moved = {}
    for metric in (DenseMetric(), IdentityMetric()):
        kernel = MALA(inverse_mass=metric)
        options = {"num_steps": 20, "num_warmup": 300, "seed": generator}
        positions = sample(Correlated(), kernel, x0, **options).positions[..., 1]
        moved[metric.is_learned] = float((positions[:, 1:] - positions[:, :-1]).abs().mean())
    assert moved[True] > 10 * moved[False]


@pytest.mark.parametrize("kernel", [HMC(), NUTS(), MALA(inverse_mass=DenseMetric())])
@pytest.mark.parametrize("factor", [1e-4, 1.0, 1e4])
def test_the_first_step_is_where_acceptance_crosses_the_target(kernel, factor, generator):
    """On N(0, I) with 1,000 chains: accepted at half of it or less, rejected at twice or more."""
    energy = DiagonalGaussian([1.0, 1.0, 1.0, 1.0])
    state = kernel.init(energy, torch.randn(1000, 4, generator=generator), generator)
    start = dataclasses.replace(kernel, step_size=factor * kernel.step_size)
    found = first_step_size(energy, start, state, generator)
    shortest = kernel.shortest() if hasattr(kernel, "shortest") else kernel

    def acceptance(step_size):
        probe = dataclasses.replace(shortest, step_size=step_size)
        return float(probe.step(energy, state, generator)[1].acceptance_probability.mean())

    assert acceptance(found / 2.5) > kernel.target_acceptance > acceptance(2.5 * found)


def test_a_flat_energy_ends_the_search():
    def flat(x):
        return 0.0 * x.sum(1)

    kernel = MALA(inverse_mass=DenseMetric())
    generator = torch.Generator().manual_seed(0)
    state = kernel.init(flat, torch.zeros(2, 1), generator)
    assert 1 < first_step_size(flat, kernel, state, generator) < 1e20


# --- a kernel inside another one -----------------------------------------------------------------


@pytest.mark.parametrize("around", [Reflected, lambda kernel: Reflected(ParallelTempering(kernel))])
def test_the_kernel_inside_is_adapted_by_what_is_handed_on(around):
    """Far from the walls, and with hot replicas that have the same scale, the step is that of the
    kernel alone, up to the noise of one warm-up."""
    energy = DiagonalGaussian([1.0, 25.0], [40.0, 40.0])
    x0 = 40 + torch.randn(60, 2, generator=torch.Generator().manual_seed(2))
    alone = sample(energy, MALA(10.0), x0, num_steps=1, num_warmup=60).kernel
    chains = sample(energy, around(MALA(10.0)), x0, num_steps=30, num_warmup=60)
    inside = adaptable_part(chains.kernel)
    assert type(chains.kernel) is Reflected
    assert inside.step_size == pytest.approx(alone.step_size, rel=0.5)
    assert 0.4 < chains.acceptance_rate < 0.75


def test_the_metric_of_the_kernel_inside_is_learned():
    energy = DiagonalGaussian([1.0, 10_000.0], [40.0, 40.0])
    x0 = 40 + torch.tensor([1.0, 0.01]) * torch.randn(
        60, 2, generator=torch.Generator().manual_seed(2)
    )
    kernel = Reflected(HMC(num_leapfrog_steps=3))
    inside = adaptable_part(sample(energy, kernel, x0, num_steps=1, num_warmup=80).kernel)
    ratio = float(inside.inverse_mass.variances[0] / inside.inverse_mass.variances[1])
    assert 2_000 < ratio < 50_000


def test_a_kernel_inside_another_one_that_has_nothing_to_adapt_burns_in():
    kernel = Reflected(Langevin(0.1))
    chains = sample(DiagonalGaussian([1.0]), kernel, torch.ones(20, 1), num_steps=1, num_warmup=9)
    assert adaptable_part(kernel) is None
    assert chains.kernel == kernel


class ByPlace(MALA):
    """The mutant of what is frozen: a step that goes on depending on where a chain is."""

    def step(self, energy, state, generator):
        is_near = state.position.abs()[:, 0] < 1.0
        short, long = (MALA(step).step(energy, state, generator) for step in (0.02, 1.0))
        mixed = (select(is_near, *both) for both in zip(short[0], long[0], strict=True))
        return type(state)(*mixed), short[1]


@pytest.mark.statistical
def test_exact_start_after_adaptation_through_a_wrapper(generator):
    target, start = TARGETS["gamma"], exact_start("gamma", generator)
    run = {"num_steps": 8, "keep": "last", "on_divergence": "count"}
    chains = sample(target.energy, Reflected(MALA()), start, num_warmup=15, **run)
    assert chains.kernel != Reflected(MALA())
    assert_same_law(chains.last[:, 0], target.cdf)
    mutant = sample(target.energy, Reflected(ByPlace()), start, **run)
    assert_different_law(mutant.last[:, 0], target.cdf)
