"""NUTS leaves its target alone: exact start, 20,000 chains, and mutants that must be caught."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from basin.mcmc.metric import DenseMetric, DiagonalMetric, IdentityMetric
from basin.samplers import nuts
from basin.samplers.nuts import NUTS
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
    "log-gamma": 0.5,
}
METRICS = (IdentityMetric(), DiagonalMetric([2.0, 0.5]), DenseMetric([[2.0, 0.6], [0.6, 0.5]]))

# On the half line each try to cross the wall is a divergence, and in the neck of a funnel some are.
pytestmark = pytest.mark.filterwarnings("ignore::basin.sampling.chains.DivergenceWarning")


def final_marginal(name, generator, num_steps=6, **settings):
    kernel = NUTS(STEPS[name], **{"max_depth": 6} | settings)
    start = exact_start(name, generator)
    energy = TARGETS[name].energy
    return sample(energy, kernel, start, num_steps=num_steps, seed=generator, keep="last")


@pytest.mark.statistical
@pytest.mark.parametrize("name", TARGETS)
def test_exact_start_stays_exact(name, generator):
    chains = final_marginal(name, generator)
    assert_same_law(chains.last[:, 0], TARGETS[name].cdf)
    assert len(chains.info["tree_depth"].unique()) > 2  # paths of unlike lengths


@pytest.mark.statistical
@pytest.mark.parametrize("inverse_mass", METRICS, ids=lambda metric: type(metric).__name__)
@pytest.mark.parametrize("name", ["mixture", "funnel", "banana"])
def test_any_metric_leaves_the_law_alone(name, inverse_mass, generator):
    chains = final_marginal(name, generator, num_steps=3, inverse_mass=inverse_mass)
    assert_same_law(chains.last[:, 0], TARGETS[name].cdf)


@pytest.mark.statistical
@pytest.mark.parametrize("max_depth", [1, 2, 3])
def test_paths_that_end_before_they_turn_leave_it_alone_too(max_depth, generator):
    chains = final_marginal("mixture", generator, max_depth=max_depth)
    assert_same_law(chains.last[:, 0], TARGETS["mixture"].cdf)
    assert int(chains.info["tree_depth"].max()) == max_depth


def blind(blocks):
    return torch.zeros(len(blocks.last), dtype=torch.bool)


def always(new, old):
    return torch.ones_like(new)


MUTANTS = {
    "no kinetic energy": (nuts, "hamiltonian", lambda point: point.state.energy),
    "no U-turn check within a doubling": (nuts.Blocks, "has_turned", blind),
    "progression without the ratio": (nuts, "_progression", always),
    "points drawn without weights": (nuts, "_log_weight", torch.zeros_like),
}


@pytest.mark.statistical
@pytest.mark.parametrize("mutant", MUTANTS)
@pytest.mark.parametrize("name", ["mixture", "funnel", "gamma"])
def test_mutants_move_the_law(name, mutant, generator, monkeypatch):
    monkeypatch.setattr(*MUTANTS[mutant])
    chains = final_marginal(name, generator, num_steps=10)
    assert_different_law(chains.last[:, 0], TARGETS[name].cdf)


@pytest.mark.statistical
def test_the_hamiltonian_of_the_draws_has_its_law(generator):
    """On N(0, I) in two dimensions H ~ Gamma(2); the mutant tells E alone, which is Gamma(1)."""
    start = torch.randn(NUM_CHAINS, 2, generator=generator)
    energy = DiagonalGaussian([1.0, 1.0])
    chains = sample(energy, NUTS(1.0), start, num_steps=3, seed=generator, keep="last")
    assert_same_law(chains.info["energy"][:, 0], stats.gamma(2).cdf)
    assert_different_law(energy(chains.last), stats.gamma(2).cdf)


# --- what it counts ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mixture", "funnel"])
def test_chains_that_have_stopped_are_evaluated_no_more(name, generator):
    """The rows that the energy saw are the gradients that the chains count."""
    rows = []

    def counted(x):
        rows.append(len(x))
        return TARGETS[name].energy(x)

    start = exact_start(name, generator)[:7]  # of so few, any that stops leaves at once
    chains = sample(counted, NUTS(0.3), start, num_steps=10, seed=generator)
    assert sum(rows) == 7 + int(chains.info["num_gradient_evaluations"].sum())


def test_when_chains_leave_the_batch_changes_nothing(generator, monkeypatch):
    start = exact_start("funnel", generator)[:100]
    draws = []
    for threshold in (1, 8, 10**9):
        monkeypatch.setattr(nuts, "_WORTH_LEAVING", threshold)
        draws.append(sample(TARGETS["funnel"].energy, NUTS(0.3), start, num_steps=5, seed=3))
    for other in draws[1:]:
        assert torch.equal(draws[0].positions, other.positions)
        for name, value in draws[0].info.items():
            assert torch.equal(value, other.info[name]), name


def test_depth_and_gradients_belong_together(generator):
    """2^depth - 1 gradients were kept, and at most as many again of a doubling forgotten."""
    chains = sample(AsymmetricMixture(), NUTS(0.2), exact_start("mixture", generator), num_steps=1)
    depth, gradients = chains.info["tree_depth"], chains.info["num_gradient_evaluations"]
    assert (gradients >= 2**depth - 1).all()
    assert (gradients <= 2 ** (depth + 1) - 1).all()


def test_an_unstable_step_diverges_at_once_and_stays():
    energy, kernel = DiagonalGaussian([1.0]), NUTS(1000.0)
    chains = sample(energy, kernel, torch.full((5, 1), 3.0), num_steps=4)
    assert chains.num_divergent == 20
    assert (chains.positions == 3.0).all()
    assert chains.info["num_gradient_evaluations"].eq(1).all()
    assert chains.info["tree_depth"].eq(0).all()


def test_a_domain_with_a_wall_keeps_its_step_finite_and_its_chains_moving():
    """Where a peer's warm-up ends with a step of NaN and 0 of 5,000 chains that move."""
    x0 = torch.full((50, 1), 0.5)
    chains = sample(TARGETS["gamma"].energy, NUTS(), x0, num_steps=20, num_warmup=50)
    assert 0 < chains.kernel.step_size < 10
    assert (chains.positions > 0).all()
    assert (chains.last != 0.5).all()
    assert (chains.positions[:, 1:] != chains.positions[:, :-1]).any(dim=1).all()


def test_state_holds_energy_and_score_of_its_position(generator):
    energy, kernel = AsymmetricMixture(), NUTS(1.0)
    state = kernel.init(energy, AsymmetricMixture().draw(200, generator), generator)
    for _ in range(5):
        state, _ = kernel.step(energy, state, generator)
    fresh = kernel.init(energy, state.position, generator)
    assert torch.allclose(state.energy, fresh.energy)
    assert torch.allclose(state.score, fresh.score)


def test_events_of_any_shape():
    def energy(x):
        return 0.5 * x.square().flatten(1).sum(dim=1) if x.ndim > 1 else 0.5 * x.square()

    for shape in ((), (3,), (1, 4, 4)):
        chains = sample(energy, NUTS(), torch.zeros(10, *shape), num_steps=3, num_warmup=30)
        assert chains.positions.shape == (10, 3, *shape)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"max_depth": 0}, "max_depth must be a positive whole number, got 0"),
        ({"target_acceptance": 0.0}, "target_acceptance must be positive"),
        ({"target_acceptance": 1.5}, "target_acceptance must lie between 0 and 1"),
    ],
)
def test_refuses_bad_settings(arguments, words):
    with pytest.raises(ValueError, match=words):
        NUTS(**arguments)
