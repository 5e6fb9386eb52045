"""MALA leaves its target alone: exact start, 20,000 chains, and mutants that must be caught."""

from __future__ import annotations

import math

import pytest
import torch

from basin.samplers import mala
from basin.samplers.mala import MALA
from basin.sampling.run import sample
from helpers.energies import (
    AsymmetricMixture,
    DiagonalGaussian,
    log_gamma_energy,
    quartic_energy,
)
from helpers.statistics import GridLaw, assert_different_law, assert_same_law, normal_cdf

NUM_CHAINS = 20_000
LOG_GAMMA = GridLaw(log_gamma_energy, -12.0, 5.0)
QUARTIC = GridLaw(quartic_energy, -4.0, 4.0)


def gaussian_start(generator):
    noise = torch.randn(NUM_CHAINS, 2, generator=generator)
    return noise / torch.tensor([1.0, 25.0]).sqrt() + torch.tensor([1.0, -2.0])


TARGETS = {
    "gaussian": (
        DiagonalGaussian([1.0, 25.0], [1.0, -2.0]),
        gaussian_start,
        normal_cdf(1.0, 1.0),
        MALA(0.05),
    ),
    "mixture": (
        AsymmetricMixture(),
        lambda generator: AsymmetricMixture().draw(NUM_CHAINS, generator),
        AsymmetricMixture().cdf,
        MALA(0.3),
    ),
    "log-gamma": (
        log_gamma_energy,
        lambda generator: LOG_GAMMA.draw(NUM_CHAINS, generator),
        LOG_GAMMA.cdf,
        MALA(0.4),
    ),
    "quartic": (
        quartic_energy,
        lambda generator: QUARTIC.draw(NUM_CHAINS, generator),
        QUARTIC.cdf,
        MALA(0.1),
    ),
}


def final_marginal(name, generator, num_steps=15):
    energy, start, _, kernel = TARGETS[name]
    chains = sample(energy, kernel, start(generator), num_steps=num_steps, keep="last")
    return chains.last[:, 0], chains.acceptance_rate


@pytest.mark.statistical
@pytest.mark.parametrize("name", TARGETS)
def test_exact_start_stays_exact(name, generator):
    marginal, acceptance_rate = final_marginal(name, generator)
    assert_same_law(marginal, TARGETS[name][2])
    assert 0.3 < acceptance_rate < 0.97  # it moves, and it is corrected


MUTANTS = {
    "no reverse proposal": ("langevin_log_ratio", lambda *_: torch.zeros(())),
    "proposal ratio reversed": (
        "langevin_log_ratio",
        lambda *args: -_langevin_log_ratio(*args),
    ),
    "ratio of the whole reversed": (
        "metropolis",
        lambda ratio, generator: _metropolis(-ratio, generator),
    ),
}
_langevin_log_ratio, _metropolis = mala.langevin_log_ratio, mala.metropolis


@pytest.mark.statistical
@pytest.mark.filterwarnings("ignore::basin.sampling.chains.DivergenceWarning")
@pytest.mark.parametrize("mutant", MUTANTS)
@pytest.mark.parametrize("name", ["mixture", "log-gamma", "quartic"])
def test_mutants_move_the_law(name, mutant, generator, monkeypatch):
    monkeypatch.setattr(mala, *MUTANTS[mutant])
    marginal, _ = final_marginal(name, generator, num_steps=30)
    assert_different_law(marginal, TARGETS[name][2])


def test_one_energy_call_a_step(generator):
    calls = []

    def counted(x):
        calls.append(len(x))
        return 0.5 * x.square().sum(dim=1)

    sample(counted, MALA(0.1), torch.zeros(3, 2), num_steps=10)
    assert calls == [3] * 11  # one at the start, one for each proposal


def test_state_holds_energy_and_score_of_its_position(generator):
    energy, kernel = AsymmetricMixture(), MALA(0.5)
    state = kernel.init(energy, AsymmetricMixture().draw(200, generator), generator)
    for _ in range(5):
        state, _ = kernel.step(energy, state, generator)
    fresh = kernel.init(energy, state.position, generator)
    assert torch.allclose(state.energy, fresh.energy)
    assert torch.allclose(state.score, fresh.score)


def test_a_wall_is_never_crossed_and_every_try_is_counted(generator):
    def half_line(x):
        return torch.where(x > 0, x, math.nan).sum(dim=1)

    chains = sample_quietly(half_line, MALA(0.5), torch.full((500, 1), 0.3))
    assert (chains.positions > 0).all()
    assert chains.num_divergent == int(chains.info["is_divergent"].sum()) > 0
    assert not (chains.info["is_divergent"] & chains.info["is_accepted"]).any()


def sample_quietly(energy, kernel, x0):
    with pytest.warns(UserWarning, match="transitions diverged"):
        return sample(energy, kernel, x0, num_steps=20)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"step_size": 0.0}, "step_size must be positive, got 0.0"),
        ({"step_size": float("nan")}, "step_size must be positive"),
        ({"target_acceptance": 1.5}, "target_acceptance must lie between 0 and 1"),
        ({"target_acceptance": 0.0}, "target_acceptance must be positive"),
    ],
)
def test_refuses_bad_settings(arguments, words):
    with pytest.raises(ValueError, match=words):
        MALA(**arguments)
