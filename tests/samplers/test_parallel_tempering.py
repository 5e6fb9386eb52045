"""Parallel tempering keeps the law of every temperature, and crosses where MALA does not."""

from __future__ import annotations

import math

import pytest
import torch

from basin.samplers import parallel_tempering
from basin.samplers.langevin import Langevin
from basin.samplers.mala import MALA
from basin.samplers.nuts import NUTS
from basin.samplers.parallel_tempering import ParallelTempering
from basin.samplers.underdamped_langevin import UnderdampedLangevin
from basin.sampling.run import sample
from helpers.statistics import GridLaw, assert_different_law, assert_same_law

NUM_CHAINS = 20_000
LADDER = (1.0, 3.0, 9.0, 27.0)
WEIGHT_RIGHT = 0.7


def far_modes(x):
    """0.3 N(-3, 0.6^2) + 0.7 N(3, 0.6^2): a barrier of 12 nats."""
    left = math.log(1 - WEIGHT_RIGHT) - 0.5 * ((x + 3) / 0.6).square()
    right = math.log(WEIGHT_RIGHT) - 0.5 * ((x - 3) / 0.6).square()
    return -torch.logaddexp(left, right).sum(dim=1)


LAWS = [GridLaw(lambda x, t=t: far_modes(x) / t, -25.0, 25.0) for t in LADDER]
KERNEL = ParallelTempering(MALA(0.36), LADDER)


def exact_start(kernel, generator, num_chains=NUM_CHAINS):
    replicas = torch.stack([law.draw(num_chains, generator).float() for law in LAWS])
    return kernel.init_at(far_modes, replicas, torch.tensor(0), generator)


def run(kernel, state, num_steps, generator, energy=far_modes):
    for _ in range(num_steps):
        state, info = kernel.step(energy, state, generator)
    return state, info


@pytest.mark.statistical
def test_exact_start_stays_exact_at_every_temperature(generator):
    state, _ = run(KERNEL, exact_start(KERNEL, generator), 10, generator)
    for replicas, law in zip(state.replicas, LAWS, strict=True):
        assert_same_law(replicas[:, 0], law.cdf)
    assert torch.equal(state.position, state.replicas[0])


_metropolis = parallel_tempering.metropolis
MUTANTS = {
    "swap ratio reversed": lambda ratio, generator: _metropolis(-ratio, generator),
    "every trade accepted": lambda ratio, generator: _metropolis(ratio.abs(), generator),
    "swap ratio halved": lambda ratio, generator: _metropolis(0.5 * ratio, generator),
}


@pytest.mark.statistical
@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_move_the_law(mutant, generator, monkeypatch):
    monkeypatch.setattr(parallel_tempering, "metropolis", MUTANTS[mutant])
    state, _ = run(KERNEL, exact_start(KERNEL, generator), 10, generator)
    assert_different_law(state.position[:, 0], LAWS[0].cdf)


@pytest.mark.statistical
def test_weight_moves_between_far_modes_and_with_mala_it_does_not(generator):
    """All start in the left mode, which has 0.3 of the mass."""
    num_chains = 2_000
    left = -3 + 0.6 * torch.randn(num_chains, 1, generator=generator)
    error = math.sqrt(WEIGHT_RIGHT * (1 - WEIGHT_RIGHT) / num_chains)
    tempered = sample(far_modes, KERNEL, left, num_steps=150, keep="last")
    share = float((tempered.last > 0).double().mean())
    assert abs(share - WEIGHT_RIGHT) < 3.9 * error
    assert_same_law(tempered.last[:, 0], LAWS[0].cdf)
    stuck = sample(far_modes, KERNEL.kernel, left, num_steps=150, keep="last")
    assert not (stuck.last > 0).any()


def test_swap_probability_is_that_of_every_pair(generator):
    state = exact_start(KERNEL, generator, num_chains=50)
    moved, info = KERNEL.step(far_modes, state, generator)
    assert info.swap_probability.shape == (50, 3)
    assert ((info.swap_probability > 0) & (info.swap_probability <= 1)).all()
    chains = sample(far_modes, KERNEL, moved.position, num_steps=6)
    assert chains.info["swap_probability"].shape == (50, 6, 3)
    assert chains.info["is_swapped"].any()
    assert not chains.info["is_swapped"][:, 1::2].any()  # odd pairs leave replica 0 alone
    assert 0.5 < chains.acceptance_rate < 0.99  # of the kernel at temperature one


def test_trades_permute_the_replicas():
    """A frozen kernel: what a step does is a trade, and pairs alternate."""
    replicas = torch.arange(4.0).reshape(4, 1, 1).expand(4, 3, 1).clone()
    is_swapped = torch.tensor([[True, False, False], [False, True, False], [True, False, False]])
    traded = parallel_tempering._traded(replicas, is_swapped)[:, :, 0]
    assert traded.T.tolist() == [[1, 0, 3, 2], [0, 2, 1, 3], [0, 1, 2, 3]]


def test_one_step_size_serves_all_temperatures(generator):
    """Where E is quadratic the acceptance is the same at all of them."""
    replicas = torch.randn(4, 5_000, 2, generator=generator)
    replicas = replicas * torch.tensor(LADDER).sqrt()[:, None, None]

    def energy(x):
        return 0.5 * x.square().sum(dim=1)

    state = KERNEL.init_at(energy, replicas, torch.tensor(0), generator)
    tempered = KERNEL._tempered(energy, replicas)
    _, info = KERNEL.kernel.step(tempered, state.inner, generator)
    rates = info.acceptance_probability.view(4, -1).mean(dim=1)
    assert float(rates.max() - rates.min()) < 0.02


@pytest.mark.statistical
def test_it_takes_a_kernel_without_accept_step_and_an_event_of_any_shape(generator):
    def energy(x):
        return 0.5 * x.square().sum(dim=(1, 2))

    kernel = ParallelTempering(Langevin(0.05), (1.0, 1.5))
    start = torch.randn(2_000, 3, 2, generator=generator)
    chains = sample(energy, kernel, start, num_steps=10, keep="last")
    assert chains.acceptance_rate == 1.0
    assert float(chains.last.std()) == pytest.approx(1.0, abs=0.05)


@pytest.mark.statistical
def test_every_replica_has_a_velocity_of_its_own(generator):
    """A peer shares one among all: on this Gaussian its covariance is half of the right one."""
    covariance = torch.tensor([[1.0, 0.9], [0.9, 1.0]])
    precision = torch.linalg.inv(covariance)

    def energy(x):
        return 0.5 * ((x @ precision) * x).sum(dim=1)

    n, ladder = 5_000, (1.0, 2.0)
    z = torch.randn(2, n, 2, generator=generator) @ torch.linalg.cholesky(covariance).T
    replicas = z * torch.tensor(ladder).sqrt()[:, None, None]
    kernel = ParallelTempering(UnderdampedLangevin(0.1), ladder)
    state = kernel.init_at(energy, replicas, torch.tensor(0), generator)
    state, _ = run(kernel, state, 40, generator, energy)
    x = state.position
    for found, truth in ((x[:, 0].square(), 1.0), (x[:, 0] * x[:, 1], 0.9)):
        assert abs(float((found.mean() - truth) / found.std())) * math.sqrt(n) < 3.9
        assert abs(float((found.mean() - truth / 2) / found.std())) * math.sqrt(n) > 10


def test_a_move_that_is_not_finite_is_rejected_and_counted(generator):
    def half_line(x):
        return torch.where(x > 0, x, math.nan).sum(dim=1)

    with pytest.warns(UserWarning, match="transitions diverged"):
        chains = sample(half_line, ParallelTempering(MALA(0.5)), torch.ones(200, 1), num_steps=10)
    assert (chains.positions > 0).all()
    assert chains.num_divergent > 0


@pytest.mark.parametrize(
    ("temperatures", "words"),
    [
        ((1.0,), "must be a tuple of at least two"),
        ([1.0, 2.0], "must be a tuple of at least two"),
        ((2.0, 4.0), "must start at 1 and rise"),
        ((1.0, 4.0, 2.0), "must start at 1 and rise"),
        ((1.0, math.inf), "temperature must be positive, got inf"),
    ],
)
def test_refuses_a_bad_ladder(temperatures, words):
    with pytest.raises(ValueError, match=words):
        ParallelTempering(MALA(), temperatures)


def test_refuses_what_is_no_kernel():
    with pytest.raises(TypeError, match="kernel must be one of"):
        ParallelTempering(0.1)


def test_it_holds_a_kernel_whose_chains_stop_one_by_one(generator):
    """Each row has its temperature: NUTS may not take those that have stopped out of the batch."""
    kernel = ParallelTempering(NUTS(0.5, max_depth=4), LADDER)
    state, _ = run(kernel, exact_start(kernel, generator, 5_000), 3, generator)
    for replicas, law in zip(state.replicas, LAWS, strict=True):
        assert_same_law(replicas[:, 0], law.cdf)
