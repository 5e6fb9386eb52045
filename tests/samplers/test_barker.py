"""Barker leaves its target alone: exact start, 20,000 chains, and mutants that must be caught."""

from __future__ import annotations

import math

import pytest
import torch

from basin.samplers import barker
from basin.samplers.barker import Barker, barker_log_ratio, barker_move
from basin.sampling.run import sample
from helpers.curved_energies import Banana, Funnel, HalfLineGamma
from helpers.energies import AsymmetricMixture, DiagonalGaussian
from helpers.statistics import assert_different_law, assert_same_law, normal_cdf

NUM_CHAINS = 20_000


class StretchedGaussian(DiagonalGaussian):
    def __init__(self):
        super().__init__([1.0, 25.0], [1.0, -2.0])

    def draw(self, n, generator):
        return self.sample_base(n, generator)

    def cdf(self, x):
        return normal_cdf(1.0, 1.0)(x)


TARGETS = {
    "gaussian": (StretchedGaussian(), Barker(0.1)),
    "mixture": (AsymmetricMixture(), Barker(0.4)),
    "funnel": (Funnel(), Barker(0.4)),
    "banana": (Banana(), Barker(0.2)),
    "gamma": (HalfLineGamma(), Barker(1.0)),
}


def final_marginal(name, generator, num_steps=15):
    energy, kernel = TARGETS[name]
    start = energy.draw(NUM_CHAINS, generator)
    chains = sample(energy, kernel, start, num_steps=num_steps, keep="last")
    return chains.last[:, 0], chains.acceptance_rate


@pytest.mark.statistical
@pytest.mark.filterwarnings("ignore::basin.sampling.chains.DivergenceWarning")
@pytest.mark.parametrize("name", TARGETS)
def test_exact_start_stays_exact(name, generator):
    marginal, acceptance_rate = final_marginal(name, generator)
    assert_same_law(marginal, TARGETS[name][0].cdf)
    assert 0.3 < acceptance_rate < 0.97  # it moves, and it is corrected


MUTANTS = {
    "no reverse proposal": ("barker_log_ratio", lambda *_: torch.zeros(())),
    "proposal ratio reversed": ("barker_log_ratio", lambda *args: -barker_log_ratio(*args)),
    "direction of the new score in both": (
        "barker_log_ratio",
        lambda score, new, move: barker_log_ratio(new, new, move),
    ),
    "move downhill": ("barker_move", lambda score, *rest: barker_move(-score, *rest)),
}


@pytest.mark.statistical
@pytest.mark.filterwarnings("ignore::basin.sampling.chains.DivergenceWarning")
@pytest.mark.parametrize("mutant", MUTANTS)
@pytest.mark.parametrize("name", ["mixture", "banana", "gamma"])
def test_mutants_move_the_law(name, mutant, generator, monkeypatch):
    monkeypatch.setattr(barker, *MUTANTS[mutant])
    marginal, _ = final_marginal(name, generator, num_steps=30)
    assert_different_law(marginal, TARGETS[name][0].cdf)


def test_the_ratio_is_that_of_the_proposal_densities(generator):
    """log q with q(w) = prod 2 N(w_i; 0, 2 epsilon) sigmoid(w_i s_i), there and back."""
    s, s_new, w = torch.randn(3, 50, 4, generator=generator, dtype=torch.float64)

    def log_q(move, score):
        return (-move.square() / 0.4 + torch.sigmoid(move * score).log()).sum(dim=1)

    torch.testing.assert_close(barker_log_ratio(s, s_new, w), log_q(-w, s_new) - log_q(w, s))


@pytest.mark.statistical
def test_a_small_step_moves_like_langevin(generator):
    """Mean epsilon s and variance 2 epsilon a coordinate, up to order epsilon^2."""
    step_size, s = 1e-3, torch.full((400_000, 1), 3.0)
    move = barker_move(s, step_size, generator)
    deviation = float(move.mean() - step_size * 3.0) / float(move.std()) * math.sqrt(len(s))
    assert abs(deviation) < 3.9
    assert float(move.square().mean()) == pytest.approx(2 * step_size, rel=0.01)
    twice = (float(move.mean()) - 2 * step_size * 3.0) / float(move.std()) * math.sqrt(len(s))
    assert abs(twice) > 10  # the mutant: another convention for epsilon


def test_a_huge_score_does_not_lengthen_the_move(generator):
    s = torch.full((1000, 2), 1e30)
    move = barker_move(s, 0.5, generator)
    assert (move > 0).all()
    assert float(move.max()) < 6


def test_state_holds_energy_and_score_of_its_position(generator):
    energy, kernel = Banana(), Barker(0.2)
    state = kernel.init(energy, energy.draw(200, generator), generator)
    for _ in range(5):
        state, _ = kernel.step(energy, state, generator)
    fresh = kernel.init(energy, state.position, generator)
    torch.testing.assert_close(state.energy, fresh.energy)
    torch.testing.assert_close(state.score, fresh.score)


def test_a_wall_is_never_crossed_and_every_try_is_counted():
    with pytest.warns(UserWarning, match="transitions diverged"):
        chains = sample(HalfLineGamma(), Barker(1.0), torch.full((500, 1), 0.3), num_steps=20)
    assert (chains.positions > 0).all()
    assert chains.num_divergent == int(chains.info["is_divergent"].sum()) > 0
    assert not (chains.info["is_divergent"] & chains.info["is_accepted"]).any()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"step_size": 0.0}, "step_size must be positive, got 0.0"),
        ({"target_acceptance": 1.5}, "target_acceptance must lie between 0 and 1"),
        ({"target_acceptance": 0.0}, "target_acceptance must be positive"),
    ],
)
def test_refuses_bad_settings(arguments, words):
    with pytest.raises(ValueError, match=words):
        Barker(**arguments)
