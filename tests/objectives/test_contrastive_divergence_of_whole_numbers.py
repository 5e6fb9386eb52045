"""Contrastive divergence, plain and persistent, on whole numbers: gradients by enumeration.

Data of law p, k steps of a kernel with transition matrix T on the model:
    J = E_p[E] - E_{p T^k}[E],      dJ/dtheta = E_p[dE] - E_{p T^k}[dE]      (draws are constants)
At rest, T^k -> 1 p_model, it is the gradient of the negative log-likelihood. All sums are over all
states, with T built from loops that share no code with the kernels.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy import stats

import basin
from basin.core.describe import build, describe
from basin.core.discrete import draw_states, energies_of_all_states, independent_coordinates, states
from basin.datasets import IsingLattice
from basin.energies import BoltzmannMachine, Ising, Potts, RestrictedBoltzmannMachine
from basin.evaluation import kl_to_truth
from basin.objectives import (
    ContrastiveDivergence,
    EnergyPenalty,
    PersistentContrastiveDivergence,
    RecoveryLikelihood,
    ShortRunMaximumLikelihood,
    contrastive_divergence,
)
from basin.samplers import BlockGibbs, Gibbs, GibbsWithGradients, Langevin
from helpers.statistics import THRESHOLD

NUM_ROWS, NUM_BATCHES = 40_000, 40
COUPLINGS = torch.tensor([[0.0, 1.8, -1.0], [1.8, 0.0, 1.2], [-1.0, 1.2, 0.0]])  # chains mix slowly


def rbm():
    """Two modes of unequal weight."""
    energy = RestrictedBoltzmannMachine(3, num_hidden=2).double()
    weight = torch.tensor([[4.0, 4.0, 2.0], [2.0, -4.0, 4.0]]).double()
    with torch.no_grad():
        energy.weight.copy_(weight)
        energy.visible_bias.copy_(torch.tensor([0.3, -0.4, 0.2]) - weight.sum(0) / 2)
        energy.hidden_bias.copy_(torch.tensor([0.2, -0.3]) - weight.sum(1) / 2)
    return energy


MODELS = {
    "ising": lambda: Ising(3, COUPLINGS, [0.3, -0.4, 0.2]).double(),
    "potts": lambda: Potts(3, 3, 2 * COUPLINGS, [[0.5, 0.0], [-0.3, 0.2], [0.1, 0.4]]).double(),
    "rbm": rbm,
}


def every(energy):
    k = energy.num_states
    return states(0, k**3, 3, k).double()


def data_law(energy):
    """Any law that is not the model's."""
    generator = torch.Generator().manual_seed(11)
    drawn = torch.randn(len(every(energy)), generator=generator, dtype=torch.float64)
    return torch.softmax(drawn, 0)


def model_law(energy):
    return torch.softmax(-energies_of_all_states(energy, (3,), energy.num_states), 0)


def gibbs_matrix(energy):
    """A systematic sweep, from the probabilities of rows that differ in one coordinate."""
    rows = [tuple(row) for row in every(energy).int().tolist()]
    p = dict(zip(rows, model_law(energy).tolist(), strict=True))
    sweep = torch.eye(len(rows), dtype=torch.float64)
    for i in range(3):
        part = torch.zeros(len(rows), len(rows), dtype=torch.float64)
        for a, x in enumerate(rows):
            among = [(*x[:i], v, *x[i + 1 :]) for v in range(energy.num_states)]
            for y in among:
                part[a, rows.index(y)] = p[y] / sum(p[z] for z in among)
        sweep = sweep @ part
    return sweep


def block_matrix(energy):
    """p(h | x) p(y | h), summed over h, by the joint weights exp(b'x + c'h + h'W x)."""
    w, b, c = (p.detach() for p in (energy.weight, energy.visible_bias, energy.hidden_bias))
    hidden = torch.tensor(list(itertools.product([0.0, 1.0], repeat=2))).double()
    x = every(energy)
    joint = (x @ b)[:, None] + (hidden @ c)[None] + x @ w.T @ hidden.T
    return torch.softmax(joint, 1) @ torch.softmax(joint, 0).T


def mean_gradient(energy, law):
    """E_law[dE/dtheta], flat."""
    gradients = torch.autograd.grad((law * energy(every(energy))).sum(), [*energy.parameters()])
    return torch.cat([g.flatten() for g in gradients])


def found_gradient(objective, energy, law, warm_up=0, num_batches=NUM_BATCHES):
    """Mean over batches of draws of ``law``, and its standard error, flat."""
    generator = torch.Generator().manual_seed(100_000)
    batch = NUM_ROWS // NUM_BATCHES

    def rows(n):
        drawn = draw_states(-law.log(), n, (3,), energy.num_states, generator)
        return drawn.double()

    state = objective.init(rows(batch), generator)
    for _ in range(warm_up):
        state = objective(energy, rows(batch), state, generator).state
    found = []
    for _ in range(num_batches):
        loss = objective(energy, rows(batch), state, generator)
        state = loss.state
        gradients = torch.autograd.grad(loss.value, [*energy.parameters()])
        found.append(torch.cat([g.flatten() for g in gradients]))
    values = torch.stack(found)
    return values.mean(0), values.std(0) / num_batches**0.5


def p_value(found, truth, num_batches=NUM_BATCHES):
    """Of the parameter that is farthest off, by Student's t, times their number."""
    mean, error = found
    t = float(((mean - truth).abs() / error.clamp_min(1e-12)).max())
    return 2 * len(mean) * float(stats.t.sf(t, num_batches - 1))


def cd(kernel, num_steps=1, **settings):
    return ContrastiveDivergence(kernel, num_steps, num_chains=None, **settings)


@pytest.mark.statistical
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("num_steps", [1, 2])
def test_the_gradient_of_cd_k_with_gibbs_is_the_sum_over_states(name, num_steps):
    energy = MODELS[name]()
    law, matrix = data_law(energy), gibbs_matrix(energy)
    after = law @ torch.matrix_power(matrix, num_steps)
    truth = mean_gradient(energy, law) - mean_gradient(energy, after)
    kernel = Gibbs(energy.num_states, "systematic")
    found = found_gradient(cd(kernel, num_steps), energy, law)
    assert p_value(found, truth) > THRESHOLD
    at_rest = mean_gradient(energy, law) - mean_gradient(energy, model_law(energy))
    other = law @ torch.matrix_power(matrix, 3 - num_steps)
    assert p_value(found, mean_gradient(energy, law) - mean_gradient(energy, other)) < THRESHOLD
    if num_steps == 1:
        assert p_value(found, at_rest) < THRESHOLD  # CD-1 is not maximum likelihood


@pytest.mark.statistical
def test_the_gradient_of_cd_k_with_block_gibbs_is_the_sum_over_states():
    energy = rbm()
    law = data_law(energy)
    found = found_gradient(cd(BlockGibbs()), energy, law)
    before = mean_gradient(energy, law)
    assert p_value(found, before - mean_gradient(energy, law @ block_matrix(energy))) > THRESHOLD
    assert p_value(found, before - mean_gradient(energy, law @ gibbs_matrix(energy))) < THRESHOLD


@pytest.mark.statistical
@pytest.mark.parametrize("name", ["ising", "potts"])
def test_long_chains_give_the_gradient_of_the_likelihood(name):
    energy = MODELS[name]()
    law = data_law(energy)
    truth = mean_gradient(energy, law) - mean_gradient(energy, model_law(energy))
    kernel = GibbsWithGradients(energy.num_states)
    long, short = (found_gradient(cd(kernel, k), energy, law, num_batches=16) for k in (60, 2))
    assert p_value(long, truth, 16) > THRESHOLD
    assert p_value(short, truth, 16) < THRESHOLD  # still on the way
    at_truth = found_gradient(cd(Gibbs(energy.num_states)), energy, model_law(energy))
    assert p_value(at_truth, 0 * truth) > THRESHOLD  # of the model's own rows


@pytest.mark.statistical
@pytest.mark.parametrize("name", MODELS)
def test_persistent_chains_come_to_rest_at_the_model(name):
    energy = MODELS[name]()
    law = data_law(energy)
    settings = dict(num_steps=1, num_chains=1000, buffer_size=1000, reinitialise=0.0)
    pcd = PersistentContrastiveDivergence(Gibbs(energy.num_states), restart_at_data=0.0, **settings)
    truth = mean_gradient(energy, law) - mean_gradient(energy, model_law(energy))
    assert p_value(found_gradient(pcd, energy, law, warm_up=20), truth) > THRESHOLD
    restarted = PersistentContrastiveDivergence(
        Gibbs(energy.num_states), restart_at_data=1.0, **settings
    )
    assert p_value(found_gradient(restarted, energy, law, warm_up=2), truth) < THRESHOLD


def test_the_pure_function_takes_the_same_kernels():
    energy = rbm()
    x = draw_states(-data_law(energy).log(), 500, (3,), 2, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    loss = contrastive_divergence(
        energy, x.double(), kernel=BlockGibbs(), num_steps=1, generator=generator
    )
    assert loss.shape == (500,)
    assert loss.requires_grad


# --- end to end ----------------------------------------------------------------------------------

LATTICE = IsingLattice(side=2, coupling=0.5)
FAST = dict(num_steps=300, batch_size=256, learning_rate=0.05, warmup_steps=10, ema_decay=0.98)


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("energy", "objective"),
    [
        pytest.param(lambda: BoltzmannMachine(4), ContrastiveDivergence(Gibbs(), 1), id="cd gibbs"),
        pytest.param(
            lambda: RestrictedBoltzmannMachine(4, num_hidden=6),
            PersistentContrastiveDivergence(BlockGibbs(), 2, num_chains=256),
            id="pcd block gibbs",
        ),
        pytest.param(
            lambda: Ising(4),
            ContrastiveDivergence(GibbsWithGradients(), 6),
            id="cd gradients",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda: Potts(4, 2),
            PersistentContrastiveDivergence(Gibbs(), 1, num_chains=256),
            id="pcd gibbs",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_training_comes_close_to_the_truth(energy, objective):
    before = float(kl_to_truth(energy(), LATTICE))
    run = basin.fit(energy(), LATTICE, objective, **FAST)
    assert run.num_states == 2
    assert run.sigma is None
    assert run.log_z.kind == "exact"
    assert float(kl_to_truth(run.energy, LATTICE)) < 0.05 < 0.2 * before
    assert sorted(run.sample(100, seed=0).unique().tolist()) == [0.0, 1.0]


def test_a_resumed_run_has_the_same_bits(tmp_path):
    objective = PersistentContrastiveDivergence(BlockGibbs(), 1, num_chains=16, buffer_size=32)
    settings = dict(num_steps=6, batch_size=16, checkpoint_every=3)
    runs = [
        basin.fit(
            RestrictedBoltzmannMachine(4, 3), LATTICE, objective, out=tmp_path / name, **settings
        )
        for name in ("one", "two")
    ]
    for one, two in zip(*(run.energy.parameters() for run in runs), strict=True):
        assert torch.equal(one, two)
    again = basin.load(tmp_path / "one")
    assert torch.equal(again.sample(20, seed=3), runs[0].sample(20, seed=3))
    assert build(describe(objective), [basin.objectives, basin.samplers]) == objective


# --- what a kernel of whole numbers changes ------------------------------------------------------


def test_support_number_of_states_and_defaults_follow_the_kernel():
    of_states, of_numbers = ContrastiveDivergence(Gibbs(3)), ContrastiveDivergence()
    assert (of_states.support, of_states.num_states) == ("discrete", 3)
    assert (of_numbers.support, of_numbers.num_states) == ("real", None)
    assert EnergyPenalty(of_states).support == "discrete"
    assert of_states.noise_level(None) is None
    assert of_numbers.noise_level(None) == 0.1
    assert of_states.unless_discrete(None, 0.1) == 0.0
    assert of_states.unless_discrete(0.5, 0.1) == 0.5
    assert "20 steps of Gibbs" in of_states.blindness(None)


def test_terms_and_alarms():
    energy, generator = rbm(), torch.Generator().manual_seed(0)
    objective = ContrastiveDivergence(Gibbs(), 1)
    x = every(energy)
    loss = objective(energy, x, objective.init(x, generator), generator)
    terms = {name: float(term) for name, term in loss.terms.items()}
    assert set(terms) == {"E_data", "E_model", "gap", "gap_per_dimension", "changed"}
    assert set(terms) <= set(objective.meanings)
    assert terms["gap_per_dimension"] == pytest.approx(terms["gap"] / 3)
    assert 0 < terms["changed"] < 1
    assert objective.alarm(terms) == ""
    assert "stuck" in objective.alarm(terms | {"changed": 0.0})
    assert "out of band" in objective.alarm(terms | {"gap_per_dimension": -101.0})
    assert objective.calmer() == ContrastiveDivergence(Gibbs(), 2)


def test_new_starts_have_independent_coordinates_of_the_datas_own_laws():
    generator = torch.Generator().manual_seed(0)
    first = (torch.rand(2000, 1, generator=generator) < 0.8).double()
    x = torch.cat([first, first, 1 - first], dim=1)
    drawn = independent_coordinates(x, 50_000, generator)
    error = math.sqrt(0.16 / 50_000)
    assert (drawn.mean(0) - x.mean(0)).abs().max() < 4.5 * error
    covariance = drawn.T.cov()
    assert (covariance - covariance.diag().diag()).abs().max() < 4.5 * 0.16 / 50_000**0.5
    objective = PersistentContrastiveDivergence(
        Gibbs(), 1, num_chains=2000, buffer_size=2000, reinitialise=1.0, restart_at_data=0.0
    )
    state = objective.init(x, generator)
    flat = Ising(3).double()  # one sweep of it would forget the start, so look before the sweep
    start = basin.objectives.sampled.visited(
        state.buffer,
        torch.arange(2000),
        x,
        state.law,
        basin.objectives.sampled.NewStarts(1.0, 1.0, 0.0),
        generator,
    )
    assert float((start[:, 0] == start[:, 1]).double().mean()) < 0.8  # 0.68 if independent, 1 in x
    assert torch.isfinite(objective(flat, x, state, generator).value)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ContrastiveDivergence(Gibbs(), sigma=0.1), "sigma must be zero or left out with"),
        (lambda: ShortRunMaximumLikelihood(Gibbs()), "must be one of real numbers for ShortRun"),
        (lambda: RecoveryLikelihood(BlockGibbs()), "must be one of real numbers for Recovery"),
        (
            lambda: basin.fit(Ising(4), LATTICE.sample(64, torch.Generator()), CD_OF_NUMBERS),
            r"kernel must be one of whole numbers for Ising \(num_states=2\), as Gibbs\(2\)",
        ),
        (
            lambda: basin.fit(Ising(4), LATTICE, CD_OF_NUMBERS),
            r"a law of whole numbers; take PseudoLikelihood.*ContrastiveDivergence\(Gibbs\(\)\)",
        ),
        (
            lambda: basin.fit(Potts(2, 3), torch.eye(2), ContrastiveDivergence(Gibbs()), **FAST),
            "num_states must be that of Potts, 3, got 2",
        ),
        (
            lambda: ContrastiveDivergence(Gibbs()).init(torch.ones(5, 2), torch.Generator()),
            "x must vary to train by sampling",
        ),
        (
            lambda: basin.fit(Ising(2), 0.3 * torch.eye(2), ContrastiveDivergence(Gibbs())),
            "x must hold whole numbers from 0 to 1",
        ),
    ],
)
def test_what_does_not_go_together_is_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


CD_OF_NUMBERS = ContrastiveDivergence(Langevin(0.005))
