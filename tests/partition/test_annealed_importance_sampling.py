"""Annealed importance sampling: unbiased forward and backward, and combined.

On N(0, 1) to N(3, 0.5^2) with four temperatures and one move each, so that the walks are far from
equilibrium and only the weights can be right.
"""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from basin.energies import Gaussian, RestrictedBoltzmannMachine
from basin.energies.composed.tempered import Tempered as TemperedEnergy
from basin.partition.annealed_importance_sampling import (
    annealed_importance_sampling,
    both_directions,
    forward_annealing,
    reverse_annealing,
)
from basin.partition.annealing import AnnealingSchedule
from basin.partition.log_z import LogZNotEstimated
from basin.paths import Geometric, Joined, JointGeometric, Noised
from basin.samplers import MALA, BlockGibbs, Langevin
from basin.schedules import Geometric as GeometricSchedule
from helpers.energies import quartic_energy
from helpers.known_densities import IsotropicMixture
from helpers.statistics import GridLaw

NUM_CHAINS = 20_000
BASE = Gaussian([0.0], [[1.0]])
SCHEDULE = AnnealingSchedule.even(MALA(step_size=0.3), 4)


def quartic(x):
    """Two wells of unequal depth; log Z by the trapezium rule."""
    return quartic_energy(x)


LAW = GridLaw(quartic_energy, -4, 4)
LOG_Z = float(
    torch.logsumexp(-quartic_energy(LAW.points.unsqueeze(1)), 0) + math.log(8 / (20_001 - 1))
)


def standard_errors(log_weights, log_truth):
    """Of the mean weight from the truth."""
    ratio = (log_weights - log_truth).exp()
    return float((ratio.mean() - 1) / ratio.std()) * math.sqrt(len(ratio))


class Moves(MALA):
    """A mutant kernel that accepts everything."""

    def step(self, energy, state, generator):
        moved, info = super().step(energy, state, generator)
        return moved._replace(position=state.position * 0.7), info


@pytest.mark.statistical
def test_forward_weights_have_the_mean_z_and_reverse_ones_its_inverse(generator):
    path = Geometric(BASE, quartic)
    up = forward_annealing(path, SCHEDULE, NUM_CHAINS, generator)
    assert abs(standard_errors(up.log_weights, LOG_Z)) < 3.9
    draws = LAW.draw(NUM_CHAINS, generator).float()
    down = reverse_annealing(path, SCHEDULE, draws, generator)
    assert abs(standard_errors(down.log_weights, -LOG_Z)) < 3.9
    assert not up.is_reverse
    assert down.is_reverse


@pytest.mark.statistical
def test_a_kernel_that_moves_the_law_is_seen(generator):
    """The mutant."""
    schedule = AnnealingSchedule.even(Moves(step_size=0.3), 4)
    up = forward_annealing(Geometric(BASE, quartic), schedule, NUM_CHAINS, generator)
    assert abs(standard_errors(up.log_weights, LOG_Z)) > 10


@pytest.mark.statistical
def test_the_estimates_bracket_log_z_in_expectation(generator):
    """4,000 runs of four walks: mean of log estimates below log Z forward, above it backward."""
    path = Geometric(BASE, quartic)
    up = forward_annealing(path, SCHEDULE, 4000 * 4, generator).log_weights.view(4000, 4)
    draws = LAW.draw(4000 * 4, generator).float()
    down = reverse_annealing(path, SCHEDULE, draws, generator).log_weights.view(4000, 4)
    low = torch.logsumexp(up, 1) - math.log(4) - LOG_Z
    high = -(torch.logsumexp(down, 1) - math.log(4)) - LOG_Z
    assert float(low.mean() / low.std()) * math.sqrt(4000) < -3.9
    assert float(high.mean() / high.std()) * math.sqrt(4000) > 3.9


@pytest.mark.statistical
def test_both_directions_cover_and_are_narrower_than_either(generator):
    path = Geometric(BASE, quartic)
    up = forward_annealing(path, SCHEDULE, 200 * 100, generator)
    down = reverse_annealing(path, SCHEDULE, LAW.draw(200 * 100, generator).float(), generator)
    held, widths = 0, []
    for part in range(200):
        rows = slice(100 * part, 100 * (part + 1))
        forward, reverse = (
            dataclasses.replace(walks, log_weights=walks.log_weights[rows]) for walks in (up, down)
        )
        found = both_directions(path, forward, reverse)
        held += found.lower <= LOG_Z <= found.upper
        widths.append((found.error, forward.log_z(minimum_effective_sample_size=1).error))
    assert held >= 177
    both, alone = torch.tensor(widths).mean(0)
    assert both < alone


def test_the_pilot_makes_a_schedule_that_is_good_enough(generator):
    found = annealed_importance_sampling(quartic, MALA(), base=BASE, generator=generator)
    assert found.kind == "interval"
    assert found.lower < LOG_Z < found.upper
    assert found.error < 0.3
    assert "forward" in found.method


def test_reverse_draws_of_something_else_are_refused(generator):
    path = Geometric(BASE, quartic)
    up = forward_annealing(path, SCHEDULE, 2000, generator)
    wrong = reverse_annealing(path, SCHEDULE, torch.full((2000, 1), 3.0), generator)
    with pytest.raises(LogZNotEstimated, match=r"forward and reverse walks must agree.*longer"):
        both_directions(path, up, wrong)


def test_a_base_far_from_the_target_is_refused_and_told_what_to_raise(generator):
    far = Gaussian([40.0, 40.0], 0.01 * torch.eye(2))
    with pytest.raises(LogZNotEstimated, match="raise num_times"):
        annealed_importance_sampling(
            far,
            MALA(),
            base=Gaussian([0.0, 0.0], torch.eye(2)),
            schedule=AnnealingSchedule.even(MALA(), 3),
            num_chains=100,
            generator=generator,
        )


def test_down_the_noise_levels_from_a_base_that_does_not_fit(generator):
    """A mixture blurred at every level: log Z = -0.7 at each; the base is a wide Gaussian."""
    truth = IsotropicMixture([[-4.0, 0.0], [4.0, 0.0]], [0.8, 0.2], 0.3)

    class Noisy:
        def at(self, sigma):
            density = truth.blurred(sigma)
            return lambda x: 0.7 - density.log_prob(x)

    path = Noised(Noisy(), GeometricSchedule(10.0, 0.1))
    found = annealed_importance_sampling(
        path,
        MALA(),
        base=Gaussian([0.0, 0.0], 120 * torch.eye(2)),
        num_chains=200,
        num_times=400,
        generator=generator,
    )
    assert found.lower < -0.7 < found.upper
    assert found.error < 0.4


@pytest.mark.statistical
def test_a_restricted_boltzmann_machine_against_enumeration(generator):
    machine = RestrictedBoltzmannMachine(12, num_hidden=8, seed=3)
    with torch.no_grad():
        machine.weight.mul_(4)
        machine.visible_bias.normal_(generator=generator)
    path = JointGeometric(machine)
    schedule = AnnealingSchedule.even(BlockGibbs(), 20)
    up = forward_annealing(path, schedule, 5000, generator)
    assert abs(standard_errors(up.log_weights, machine.log_z)) < 3.9
    draws = machine.sample(5000, generator)
    down = reverse_annealing(path, schedule, draws, generator)
    assert abs(standard_errors(down.log_weights, -machine.log_z)) < 3.9
    found = both_directions(path, up, down)
    assert found.lower < machine.log_z < found.upper


def test_same_seed_same_answer_and_inputs_untouched():
    draws = LAW.draw(50, torch.Generator().manual_seed(1)).float()
    before = draws.clone()
    first, again, other = (
        annealed_importance_sampling(
            quartic,
            MALA(),
            base=BASE,
            num_chains=50,
            schedule=SCHEDULE,
            target_draws=draws,
            generator=torch.Generator().manual_seed(seed),
        )
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other
    assert torch.equal(draws, before)


def test_wrong_arguments_say_what_is_wrong(generator):
    with pytest.raises(ValueError, match="base must be given for an energy"):
        annealed_importance_sampling(quartic, MALA(), generator=generator)
    with pytest.raises(ValueError, match=r"kernel must leave exp\(-E\) alone.*take MALA"):
        annealed_importance_sampling(quartic, Langevin(), base=BASE, generator=generator)
    with pytest.raises(ValueError, match="base must have sample"):
        annealed_importance_sampling(quartic, MALA(), base=quartic, generator=generator)
    with pytest.raises(ValueError, match="num_chains must be a positive whole number, got 0"):
        annealed_importance_sampling(quartic, MALA(), base=BASE, num_chains=0, generator=generator)
    with pytest.raises(ValueError, match="energies must be finite or \\+inf along the path"):
        annealed_importance_sampling(
            lambda x: x[:, 0] * math.nan,
            MALA(),
            base=BASE,
            schedule=SCHEDULE,
            generator=generator,
        )
    with pytest.raises(ValueError, match="times must rise from 0 to 1"):
        dataclasses.replace(SCHEDULE, stages=SCHEDULE.stages[1:])


def test_a_support_with_an_edge(generator):
    """exp(-x) on x > 0, started from N(0, 1): half of the chains have no weight; Z = 1."""

    def half_line(x):
        return torch.where(x[:, 0] > 0, x[:, 0], torch.full_like(x[:, 0], math.inf))

    up = forward_annealing(Geometric(BASE, half_line), SCHEDULE, NUM_CHAINS, generator)
    assert 0.4 < float(torch.isneginf(up.log_weights).double().mean()) < 0.6
    assert abs(standard_errors(up.log_weights, 0.0)) < 3.9


def test_paths_that_are_joined_meet(generator):
    hot = TemperedEnergy(quartic, 4.0)
    path = Joined(Geometric(BASE, hot), Geometric(hot, quartic))
    schedule = AnnealingSchedule.even(MALA(step_size=0.3), 10)
    up = forward_annealing(path, schedule, NUM_CHAINS, generator)
    assert abs(standard_errors(up.log_weights, LOG_Z)) < 3.9
