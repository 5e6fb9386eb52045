"""Sequential Monte Carlo: unbiased along a fixed schedule, honest with one that it chooses."""

from __future__ import annotations

import importlib
import math

import pytest
import torch

from basin.energies import Gaussian, GaussianMixture
from basin.partition.annealing import AnnealingSchedule
from basin.partition.log_z import LogZNotEstimated
from basin.partition.sequential_monte_carlo import (
    anneal_particles,
    choose_schedule,
    sequential_monte_carlo,
    systematic_resampling,
)
from basin.partition.weights import log_z_of_weights
from basin.samplers import MALA
from helpers.energies import AsymmetricMixture, quartic_energy
from helpers.statistics import GridLaw, assert_different_law, assert_same_law

BASE = Gaussian([0.0], [[4.0]])
LAW = GridLaw(quartic_energy, -4, 4)
LOG_Z = float(
    torch.logsumexp(-quartic_energy(LAW.points.unsqueeze(1)), 0) + math.log(8 / (20_001 - 1))
)
SCHEDULE = AnnealingSchedule.even(MALA(step_size=0.3), 5)


def island_errors(num_particles, num_islands, schedule, generator) -> float:
    """Mean of Ẑ_r / Z - 1 over islands, in standard errors."""
    particles = anneal_particles(
        quartic_energy,
        MALA(),
        base=BASE,
        num_particles=num_particles,
        num_islands=num_islands,
        schedule=schedule,
        generator=generator,
    )
    ratio = (particles.log_z_at[-1] - LOG_Z).exp()
    return float((ratio.mean() - 1) / ratio.std()) * math.sqrt(num_islands)


@pytest.mark.statistical
def test_z_is_unbiased_along_a_fixed_schedule(generator):
    """2,000 islands of 8 particles, resampled often: the mean is Z, however few particles."""
    assert abs(island_errors(16_000, 2000, SCHEDULE, generator)) < 3.9


@pytest.mark.statistical
def test_resampling_without_keeping_the_mass_is_seen(generator, monkeypatch):
    """The mutant."""
    module = importlib.import_module("basin.partition.sequential_monte_carlo")
    right = module._resampled

    def forgets(x, log_weights, log_z, generator):
        return *right(x, log_weights, log_z, generator)[:2], log_z

    monkeypatch.setattr(module, "_resampled", forgets)
    assert abs(island_errors(16_000, 2000, SCHEDULE, generator)) > 10


@pytest.mark.statistical
def test_systematic_resampling_draws_each_as_often_as_it_should(generator):
    weights = torch.tensor([0.05, 0.4, 0.0, 0.25, 0.3], dtype=torch.float64)
    drawn = systematic_resampling(weights.log().expand(4000, 5), generator)
    counts = (drawn[:, :, None] == torch.arange(5)).sum(1).double()
    expected = 5 * weights
    assert bool((counts >= expected.floor()).all())
    assert bool((counts <= expected.ceil()).all())
    errors = (counts.mean(0) - expected).abs() / (counts.std(0) + 1e-12) * math.sqrt(4000)
    assert float(errors[counts.std(0) > 0].max()) < 3.9


@pytest.mark.statistical
def test_draws_follow_the_target_and_those_without_weights_do_not(generator):
    """KS on one draw for each of many islands, which are independent."""
    target = AsymmetricMixture()
    particles = anneal_particles(
        target,
        MALA(),
        base=Gaussian([0.0, 0.0], 9 * torch.eye(2)),
        num_particles=2000 * 16,
        num_islands=2000,
        schedule=AnnealingSchedule.even(MALA(step_size=0.3), 12, num_moves=3),
        generator=generator,
    )
    cloud = particles.positions.view(2000, 16, 2)
    chosen = torch.multinomial(
        torch.softmax(particles.log_weights.view(2000, 16), 1), 1, generator=generator
    )[:, 0]
    # an island's draw has the target's law up to its mass: give each the weight of its own
    mass = torch.softmax(particles.log_z_at[-1], 0)
    picked = systematic_resampling(mass.log(), generator)
    draws = cloud[torch.arange(2000), chosen][picked][:, 0].unique()
    assert_same_law(draws, target.cdf)
    start = 3 * torch.randn(2000, generator=generator)
    assert_different_law(start, target.cdf)


@pytest.mark.statistical
def test_the_interval_covers(generator):
    """200 repetitions of 8 islands, all in one run; fewer than 177 have p < 1e-4."""
    schedule = choose_schedule(quartic_energy, MALA(), base=BASE, generator=generator)
    particles = anneal_particles(
        quartic_energy,
        MALA(),
        base=BASE,
        num_particles=200 * 128,
        num_islands=200 * 8,
        schedule=schedule,
        generator=generator,
    )
    held = 0
    for islands in particles.log_z_at[-1].split(8):
        found = log_z_of_weights(
            islands, method="test", raise_what="n", minimum_effective_sample_size=4
        )
        held += found.lower <= LOG_Z <= found.upper
    assert held >= 177


def test_temperatures_and_steps_are_chosen(generator):
    """Each step of t leaves 95% of the particles, and MALA is kept near its best acceptance."""
    particles = anneal_particles(
        Gaussian([3.0, 0.0], [[1.0, 0.9], [0.9, 1.0]]),
        MALA(step_size=1e-3),
        base=Gaussian([0.0, 0.0], 9 * torch.eye(2)),
        generator=generator,
    )
    found = particles.log_z()
    assert found.lower < 0 < found.upper
    assert len(particles.schedule.stages) > 5
    assert all(0.4 < rate < 0.75 for rate in particles.acceptance[2:])
    assert particles.effective_sample_size > 300


def test_separated_modes_keep_their_weights(generator):
    """Two modes 8 standard deviations apart: no chain crosses at t = 1, the path does."""
    target = GaussianMixture([[-4.0, 0.0], [4.0, 0.0]], torch.eye(2), [0.8, 0.2])
    particles = anneal_particles(
        target, MALA(), base=Gaussian([0.0, 0.0], 25 * torch.eye(2)), generator=generator
    )
    found = particles.log_z()
    assert found.lower < 0 < found.upper
    draws = particles.draws(2000, generator)
    assert abs(float((draws[:, 0] > 0).double().mean()) - 0.2) < 0.08


def test_the_estimate_at_each_stage_is_that_of_its_energy(generator):
    """On the way from N(0, 4) to N(0, 1) log Z of E_t is known at every t."""
    target = Gaussian([0.0], [[1.0]])
    particles = anneal_particles(target, MALA(), base=BASE, generator=generator)
    for stage, t in enumerate(particles.schedule.times[1:], start=1):
        variance = 1 / ((1 - t) / 4 + t)
        # E_t = x^2 / (2 variance) + (1 - t)/2 log(8 pi) + t/2 log(2 pi)
        truth = 0.5 * math.log(variance) - 0.5 * (1 - t) * math.log(4)
        assert abs(particles.log_z(stage).log_z - truth) < 4 * 0.02


def test_islands_that_disagree_are_refused(generator):
    far = Gaussian([60.0], [[0.01]])
    with pytest.raises(LogZNotEstimated, match=r"of 16 weights.*raise num_particles or num_moves"):
        sequential_monte_carlo(
            far,
            MALA(),
            base=BASE,
            num_particles=64,
            schedule=AnnealingSchedule.even(MALA(step_size=0.01), 6),
            generator=generator,
        )


def test_a_target_without_overlap_is_refused(generator):
    def nowhere(x):
        return torch.full_like(x[:, 0], math.inf)

    with pytest.raises(LogZNotEstimated, match=r"no particle has density.*overlaps the target"):
        sequential_monte_carlo(
            nowhere, MALA(), base=BASE, num_particles=64, schedule=SCHEDULE, generator=generator
        )


def test_same_seed_same_bits_and_float64(generator):
    def run(seed):
        return anneal_particles(
            quartic_energy,
            MALA(),
            base=BASE,
            num_particles=64,
            generator=torch.Generator().manual_seed(seed),
        )

    first, again, other = run(0), run(0), run(1)
    assert torch.equal(first.positions, again.positions)
    assert torch.equal(first.log_z_at, again.log_z_at)
    assert not torch.equal(first.positions, other.positions)
    assert first.log_weights.dtype == torch.float64


def test_wrong_arguments_say_what_is_wrong(generator):
    for options, message in (
        ({"num_particles": 100, "num_islands": 16}, "num_particles must be a multiple"),
        ({"num_particles": 8, "num_islands": 2}, "got 8 on 2"),
        ({"conditional_ess": 1.5}, "conditional_ess must lie between 0 and 1, got 1.5"),
    ):
        with pytest.raises(ValueError, match=message):
            anneal_particles(quartic_energy, MALA(), base=BASE, generator=generator, **options)
