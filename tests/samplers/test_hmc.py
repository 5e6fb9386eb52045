"""HMC leaves its target alone: exact start, 20,000 chains, and mutants that must be caught."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from basin.mcmc.metric import DenseMetric, DiagonalMetric, IdentityMetric
from basin.mcmc.metropolis import Acceptance
from basin.samplers import hmc
from basin.samplers.hmc import HMC
from basin.sampling.run import sample
from helpers.energies import AsymmetricMixture, DiagonalGaussian
from helpers.exact_start import NUM_CHAINS, TARGETS, exact_start
from helpers.statistics import assert_different_law, assert_same_law

STEPS = {
    "gaussian": 0.3,
    "mixture": 1.2,
    "funnel": 0.5,
    "banana": 0.25,
    "gamma": 0.8,
    "log-gamma": 1.0,
}
METRICS = (IdentityMetric(), DiagonalMetric([2.0, 0.5]), DenseMetric([[2.0, 0.6], [0.6, 0.5]]))

# On the half line each try to cross the wall is a divergence, and in the neck of a funnel some are.
pytestmark = pytest.mark.filterwarnings("ignore::basin.sampling.chains.DivergenceWarning")


def final_marginal(name, generator, num_steps=10, **settings):
    kernel = HMC(STEPS[name], num_leapfrog_steps=4, **settings)
    start = exact_start(name, generator)
    energy = TARGETS[name].energy
    chains = sample(energy, kernel, start, num_steps=num_steps, seed=generator, keep="last")
    return chains.last[:, 0], chains.acceptance_rate


@pytest.mark.statistical
@pytest.mark.parametrize("name", TARGETS)
def test_exact_start_stays_exact(name, generator):
    marginal, acceptance_rate = final_marginal(name, generator)
    assert_same_law(marginal, TARGETS[name].cdf)
    assert 0.3 < acceptance_rate < 0.97  # it moves, and it is corrected


@pytest.mark.statistical
@pytest.mark.parametrize("inverse_mass", METRICS, ids=lambda metric: type(metric).__name__)
@pytest.mark.parametrize("name", ["mixture", "funnel", "banana"])
def test_any_metric_leaves_the_law_alone(name, inverse_mass, generator):
    marginal, _ = final_marginal(name, generator, inverse_mass=inverse_mass)
    assert_same_law(marginal, TARGETS[name].cdf)


@pytest.mark.statistical
def test_without_jitter_too(generator):
    assert_same_law(final_marginal("mixture", generator, jitter=0.0)[0], TARGETS["mixture"].cdf)


def accept_all(log_acceptance, generator):
    decision = _metropolis(log_acceptance, generator)
    return Acceptance(
        ~decision.is_divergent, decision.acceptance_probability, decision.is_divergent
    )


_metropolis = hmc.metropolis
MUTANTS = {
    "no accept step": ("metropolis", accept_all),
    "ratio reversed": ("metropolis", lambda ratio, generator: _metropolis(-ratio, generator)),
    "no kinetic energy": ("hamiltonian", lambda point: point.state.energy),
}


@pytest.mark.statistical
@pytest.mark.parametrize("mutant", MUTANTS)
@pytest.mark.parametrize("name", ["mixture", "funnel", "banana", "gamma", "log-gamma"])
def test_mutants_move_the_law(name, mutant, generator, monkeypatch):
    monkeypatch.setattr(hmc, *MUTANTS[mutant])
    assert_different_law(final_marginal(name, generator)[0], TARGETS[name].cdf)


@pytest.mark.statistical
def test_the_hamiltonian_of_the_draws_has_its_law(generator):
    """On N(0, I) in two dimensions H ~ Gamma(2); the mutant tells E alone, which is Gamma(1)."""
    start = torch.randn(NUM_CHAINS, 2, generator=generator)
    energy = DiagonalGaussian([1.0, 1.0])
    chains = sample(energy, HMC(1.0, 3), start, num_steps=3, seed=generator, keep="last")
    assert_same_law(chains.info["energy"][:, 0], stats.gamma(2).cdf)
    assert_different_law(energy(chains.last), stats.gamma(2).cdf)


def test_it_costs_one_gradient_a_leapfrog_step(generator):
    calls = []

    def counted(x):
        calls.append(len(x))
        return 0.5 * x.square().sum(dim=1)

    chains = sample(counted, HMC(0.1, 7), torch.zeros(3, 2), num_steps=10)
    assert calls == [3] * 71  # one at the start
    assert chains.info["num_gradient_evaluations"].eq(7).all()


def test_state_holds_energy_and_score_of_its_position(generator):
    energy, kernel = AsymmetricMixture(), HMC(1.0, 3)
    state = kernel.init(energy, AsymmetricMixture().draw(200, generator), generator)
    for _ in range(5):
        state, _ = kernel.step(energy, state, generator)
    fresh = kernel.init(energy, state.position, generator)
    assert torch.allclose(state.energy, fresh.energy)
    assert torch.allclose(state.score, fresh.score)


def test_an_end_that_lost_the_path_is_divergent_and_rejected(generator):
    """A quartic at a step far above its stability: finite numbers, an error above 1000 nats."""

    def quartic(x):
        return x.square().square().sum(dim=1)

    kernel = HMC(0.5, 2, inverse_mass=IdentityMetric())
    state = kernel.init(quartic, torch.tensor([[0.1], [6.0]], dtype=torch.float64), generator)
    moved, info = kernel.step(quartic, state, generator)
    assert info.is_divergent.tolist() == [False, True]
    assert torch.equal(moved.position[1], state.position[1])
    assert not info.is_accepted[1]


def test_a_wall_is_never_crossed_and_every_try_is_counted():
    chains = sample(TARGETS["gamma"].energy, HMC(0.5, 3), torch.full((500, 1), 0.3), num_steps=20)
    assert (chains.positions > 0).all()
    assert chains.num_divergent == int(chains.info["is_divergent"].sum()) > 0
    assert not (chains.info["is_divergent"] & chains.info["is_accepted"]).any()


def test_events_of_any_shape():
    def energy(x):
        return 0.5 * x.square().flatten(1).sum(dim=1) if x.ndim > 1 else 0.5 * x.square()

    for shape in ((), (3,), (1, 4, 4)):
        for metric in (DiagonalMetric(), DenseMetric()):
            kernel = HMC(0.3, 3, inverse_mass=metric)
            x0 = torch.zeros(20, *shape)
            chains = sample(energy, kernel, x0, num_steps=4, num_warmup=40)
            assert chains.positions.shape == (20, 4, *shape)
            assert chains.kernel.inverse_mass != metric  # it has been learned


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_leapfrog_steps": 0}, "num_leapfrog_steps must be a positive whole number, got 0"),
        ({"target_acceptance": 1.5}, "target_acceptance must lie between 0 and 1"),
        ({"jitter": 1.0}, "jitter must be below 1, got 1.0"),
        ({"jitter": -0.1}, "jitter must be zero or positive, got -0.1"),
    ],
)
def test_refuses_bad_settings(arguments, words):
    with pytest.raises(ValueError, match=words):
        HMC(**arguments)


def test_refuses_a_metric_for_other_events():
    for metric in (DiagonalMetric([1.0, 2.0]), DenseMetric([[1.0, 0.0], [0.0, 1.0]])):
        with pytest.raises(ValueError, match="x must have"):
            sample(DiagonalGaussian([1.0]), HMC(inverse_mass=metric), 3, num_steps=1)
